package service

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/authz"
	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/proxy"
	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/proxy/upstream"
)

// credentials makes the credentials for the broker: those in the session's grant, or else the
// result of the configured templates.
type credentials struct {
	username, password, clientID *upstream.Template
	// generateID makes a client id for a 5.0 client without one. If a broker chose it, the
	// client would not get the same id from another broker.
	generateID bool
	// reserved begins client ids that no device may have at the broker; empty for none.
	reserved string
	// checkSubject refuses a subject; nil allows all.
	checkSubject func(subject string) error
	// checkWill refuses a will topic; nil allows all.
	checkWill func(topic string) error
}

// rewriter returns the Rewrite of a proxy.Policy. It checks the client's certificate again,
// because there was no session to end if it was revoked between the handshake and the CONNECT.
func (s *Service) rewriter(creds *credentials) func(*proxy.ConnectRequest) error {
	return func(r *proxy.ConnectRequest) error {
		if err := s.current.Load().checkCertificate(r.Client); err != nil {
			return &proxy.RefusedError{Reason: proxy.Reason(authz.Revoked), Err: err}
		}
		if err := creds.rewrite(r); err != nil {
			return err
		}
		if creds.reserved != "" && strings.HasPrefix(r.Out.ClientID, creds.reserved) {
			return &proxy.RefusedError{Reason: proxy.ClientIDNotUsable, Err: errBusClientID}
		}
		return nil
	}
}

// rewrite completes the CONNECT for the broker.
func (c *credentials) rewrite(r *proxy.ConnectRequest) error {
	if c.checkSubject != nil {
		if err := c.checkSubject(r.Client.Subject()); err != nil {
			return &proxy.RefusedError{Reason: proxy.SubjectNotUsable, Err: err}
		}
	}
	if r.In.HasWill && c.checkWill != nil {
		if err := c.checkWill(r.In.Will.Topic); err != nil {
			return &proxy.RefusedError{Reason: proxy.WillTopic, Err: err}
		}
	}
	grant := r.Client.Grant.Upstream
	values := valuesOf(r)
	username, err := orTemplate(grant.Username, c.username, values)
	if err != nil {
		return templateError("upstream.username", err)
	}
	password, err := orTemplate(grant.Password.Reveal(), c.password, values)
	if err != nil {
		return templateError("upstream.password", err)
	}
	r.Out.Username, r.Out.HasUsername = username, username != ""
	r.Out.Password, r.Out.HasPassword = password, password != ""
	// A 5.0 client without a client id leaves the choice to the broker, unless the template
	// needs the id.
	if grant.ClientID == "" && r.Out.ClientID == "" && c.clientID.Is("client_id") && !c.generateID {
		return nil
	}
	if r.Out.ClientID, err = orTemplate(grant.ClientID, c.clientID, values); err != nil {
		return templateError("upstream.client_id", err)
	}
	return nil
}

// orTemplate returns fixed if it is not empty, and otherwise the result of the template.
func orTemplate(fixed string, t *upstream.Template, v upstream.Values) (string, error) {
	if fixed != "" {
		return fixed, nil
	}
	return t.Expand(v)
}

func valuesOf(r *proxy.ConnectRequest) upstream.Values {
	return upstream.Values{
		Subject:    r.Client.Grant.Subject,
		TokenID:    r.Client.Grant.TokenID,
		ClientID:   r.ClientID,
		Username:   r.Username,
		Token:      r.Token.Reveal(),
		Listener:   r.Client.Listener,
		ClientAddr: r.Client.Addr.Addr().String(),
		Attrs:      r.Client.Grant.Attrs,
		Level:      r.In.Level,
	}
}

// templateError attributes the error of the template at key, which cannot use a value: to the
// device if it chose the value, and to the token source if the value came with the grant. It is
// never the fault of the broker.
func templateError(key string, err error) error {
	reason := proxy.IdentityNotUsable
	value, ok := errors.AsType[*upstream.ValueError](err)
	switch {
	case ok && value.Placeholder == "client_id", !ok && key == "upstream.client_id": // otherwise the result is too long
		reason = proxy.ClientIDNotUsable
	case ok && !slices.Contains([]string{"subject", "username", "token"}, value.Placeholder):
		reason = proxy.SourceUnavailable
	}
	return &proxy.RefusedError{Reason: reason, Err: fmt.Errorf("%s: %w", key, err)}
}
