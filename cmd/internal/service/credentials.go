package service

import (
	"errors"
	"fmt"
	"slices"

	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/authz"
	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/proxy"
	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/proxy/upstream"
)

// credentials are what the broker is shown for a session: templates, unless the
// session's grant says otherwise.
type credentials struct {
	username, password, clientID *upstream.Template
	// madeUpID sends the client id that is made up for a 5.0 device without one:
	// where the broker chose, the device would not find its session again among
	// several.
	madeUpID bool
	// checkWill refuses a will topic; nil allows all.
	checkWill func(topic string) error
}

// rewriter returns a proxy.Policy's Rewrite. It looks at the client's certificate once
// more: what was withdrawn between the handshake and the CONNECT has met no session yet.
func (s *Service) rewriter(creds *credentials) func(*proxy.ConnectRequest) error {
	return func(r *proxy.ConnectRequest) error {
		if err := s.current.Load().checkCertificate(r.Client); err != nil {
			return &proxy.RefusedError{Reason: proxy.Reason(authz.Revoked), Err: err}
		}
		return creds.rewrite(r)
	}
}

// rewrite fills in the CONNECT that the broker gets.
func (c *credentials) rewrite(r *proxy.ConnectRequest) error {
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
	// A 5.0 client without an id leaves the choice to the broker, unless it has
	// to be part of something.
	if grant.ClientID == "" && r.Out.ClientID == "" && c.clientID.Is("client_id") && !c.madeUpID {
		return nil
	}
	if r.Out.ClientID, err = orTemplate(grant.ClientID, c.clientID, values); err != nil {
		return templateError("upstream.client_id", err)
	}
	return nil
}

// orTemplate returns fixed if there is one, else what the template makes.
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

// templateError says who is to blame for a value that the template at key cannot use:
// the device for what it is called, the token source for what it says of the device.
// Neither is the broker.
func templateError(key string, err error) error {
	reason := proxy.IdentityNotUsable
	value, ok := errors.AsType[*upstream.ValueError](err)
	switch {
	case ok && value.Placeholder == "client_id", !ok && key == "upstream.client_id": // else it is too long
		reason = proxy.ClientIDNotUsable
	case ok && !slices.Contains([]string{"subject", "username", "token"}, value.Placeholder):
		reason = proxy.SourceUnavailable
	}
	return &proxy.RefusedError{Reason: reason, Err: fmt.Errorf("%s: %w", key, err)}
}
