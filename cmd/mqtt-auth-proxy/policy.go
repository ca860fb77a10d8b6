package main

import (
	"errors"
	"fmt"

	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/cmd/internal/config"
	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/proxy"
	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/proxy/upstream"
)

// credentials are what the broker is shown for a session: templates, unless the
// session's grant says otherwise.
type credentials struct {
	username, password, clientID *upstream.Template
	// checkWill refuses a will topic; nil allows all.
	checkWill func(topic string) error
}

func newCredentials(c config.Upstream) (*credentials, error) {
	username, err1 := upstream.ParseTemplate(c.Username, upstream.Username)
	password, err2 := upstream.ParseTemplate(c.Password.Reveal(), upstream.Password)
	clientID, err3 := upstream.ParseTemplate(c.ClientID, upstream.ClientID)
	if err := errors.Join(err1, err2, err3); err != nil {
		return nil, fmt.Errorf("upstream: %w", err)
	}
	return &credentials{username: username, password: password, clientID: clientID}, nil
}

// rewrite fills in the CONNECT that the broker gets; it is a proxy.Policy's
// Rewrite.
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
	if grant.ClientID == "" && r.Out.ClientID == "" && c.clientID.Is("client_id") {
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
		ClientID:   r.Client.ClientID,
		Username:   r.In.Username,
		Token:      r.Token.Reveal(),
		Listener:   r.Client.Listener,
		ClientAddr: r.Client.Addr.Addr().String(),
		Attrs:      r.Client.Grant.Attrs,
	}
}

// templateError tells a client id that cannot be used, which the device can be
// told, from everything else.
func templateError(key string, err error) error {
	var value *upstream.ValueError
	if errors.As(err, &value) && value.Placeholder == "client_id" {
		return &proxy.RefusedError{Reason: proxy.ClientIDNotUsable, Err: fmt.Errorf("%s: %w", key, err)}
	}
	return fmt.Errorf("%s: %w", key, err)
}
