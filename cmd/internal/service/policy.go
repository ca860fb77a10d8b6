package service

import (
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"strings"

	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/authz"
	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/cmd/internal/broker"
	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/proxy"
	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/proxy/upstream"
	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/proxy/upstream/pool"
)

// makePolicy turns the config into what the proxy does with connections.
func (d *draft) makePolicy(context.Context) error {
	c := d.config
	creds, err := d.newCredentials()
	if err != nil {
		return err
	}
	descriptors, pending := limitDescriptors(c)
	d.policy = &proxy.Policy{
		Authorizer:      gate{d.service},
		Rewrite:         d.service.rewriter(creds),
		ConnectTimeout:  c.Connect.Timeout,
		UpstreamTimeout: c.Upstream.ConnectTimeout,
		MaxConnect:      int(c.Connect.MaxPacket),
		Levels:          protocolLevels(c.Connect.Protocols),
		Limits: proxy.Limits{
			Connections:  c.Limits.Connections,
			PerAddress:   c.Limits.PerAddress,
			Pending:      pending,
			Descriptors:  descriptors,
			Handshakes:   c.Limits.Handshakes,
			PerSubject:   c.Limits.SessionsPerSubject,
			RefuseNewest: c.Limits.OverLimit == "refuse",
			ConnectRate:  proxy.Rate{PerSecond: c.Limits.ConnectRate, Burst: c.Limits.ConnectBurst},
			AddressRate:  proxy.Rate{PerSecond: c.Limits.ConnectRatePerAddress, Burst: c.Limits.ConnectBurstPerAddress},
		},
		Overload:    d.service.memory.Overload,
		Recheck:     c.Auth.Recheck,
		ClientIDKey: d.service.clientIDKey,
	}
	if b := d.service.bundled; b != nil {
		d.policy.Limits.UpstreamDescriptors = 2 // both ends are in this process
		d.policy.Upstream = proxy.DialFunc(func(ctx context.Context, c *proxy.Client) (net.Conn, error) { return b.broker.Dial(ctx, c.Subject()) })
	} else {
		d.policy.Upstream = d.upstream.pool
	}
	for _, place := range c.Token.From {
		l, err := proxy.ParseTokenLocation(place)
		if err != nil {
			return d.fault("token.from", err)
		}
		d.policy.Token = append(d.policy.Token, l)
	}
	return nil
}

// protocolLevels returns the level byte of each version.
func protocolLevels(versions []string) []byte {
	levels := make([]byte, 0, len(versions))
	for _, v := range versions {
		levels = append(levels, map[string]byte{"3.1": 3, "3.1.1": 4, "5": 5}[v])
	}
	return levels
}

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

func (d *draft) newCredentials() (*credentials, error) {
	u := d.config.Upstream
	creds := &credentials{madeUpID: len(u.Servers) > 1 && u.Balance == string(pool.ClientID)}
	for _, t := range []struct {
		key, text string
		field     upstream.Field
		into      **upstream.Template
	}{
		{"upstream.username", d.config.Upstream.Username, upstream.Username, &creds.username},
		{"upstream.password", d.config.Upstream.Password.Reveal(), upstream.Password, &creds.password},
		{"upstream.client_id", d.config.Upstream.ClientID, upstream.ClientID, &creds.clientID},
	} {
		var err error
		if *t.into, err = upstream.ParseTemplate(t.text, t.field); err != nil {
			return nil, d.fault(t.key, err)
		}
		for _, name := range (*t.into).Placeholders() {
			if path, ok := strings.CutPrefix(name, "file:"); ok {
				d.inputs.add(path)
			}
		}
	}
	if d.service.bundled != nil {
		creds.checkWill = broker.CheckWill
	}
	return creds, nil
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
