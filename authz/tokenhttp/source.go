package tokenhttp

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/http"
	"sync"
	"time"

	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/authz"
	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/authz/files"
	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/authz/internal/breaker"
)

// Source asks a token service over HTTP. It is made by [New] and safe for concurrent use.
type Source struct {
	builder            requestBuilder
	reader             reader
	timeout            time.Duration
	ignoreCacheControl bool
	onCall             func(Call)
	onPassedOver       func(path string)
	passedOver         sync.Map // the paths, from the preset, for which it was called

	transport             *http.Transport
	breaker               *breaker.Breaker
	bearer, basic, secret *files.Watched[string]
	pair                  *files.Watched[*tls.Certificate]
	counters              counters
}

var _ authz.Authorizer = (*Source)(nil)

// Authorize implements [authz.Authorizer]. Its errors are an [*authz.Denial], [authz.ErrBusy]
// if the service asks for a pause, [authz.ErrUnanswerable] if the service answers other
// requests but not this one, or [authz.ErrUnavailable]. The caller must check the conditions of
// the grant.
func (s *Source) Authorize(ctx context.Context, r authz.Request) (*authz.Grant, error) {
	if err := ctx.Err(); err != nil {
		return nil, fmt.Errorf("token service: %w: %w", authz.ErrUnavailable, err)
	}
	start := time.Now()
	c := Call{Outcome: Failed}
	d, err := s.ask(ctx, &r, &c)
	c.Duration = time.Since(start)
	s.counters.count(c)
	if s.onCall != nil {
		s.onCall(c)
	}
	switch {
	case errors.Is(err, authz.ErrUnavailable):
		return nil, fmt.Errorf("token service: %w", err)
	case err != nil:
		return nil, fmt.Errorf("token service: %w: %w", authz.ErrUnavailable, err)
	case d.denial != nil:
		return nil, d.denial
	}
	return d.grant, nil
}

// ask asks the service, unless the request cannot be made or the breaker is open.
func (s *Source) ask(ctx context.Context, r *authz.Request, c *Call) (decision, error) {
	if r.Token.Empty() {
		c.Outcome = Refused
		return refused(authz.Unknown, "an empty token", authz.Keep{}), nil
	}
	m, err := s.message(r)
	if u, ok := errors.AsType[*invalidValue](err); ok {
		c.Outcome = Refused
		return decision{outcome: Refused, denial: u.refusal()}, nil
	} else if err != nil {
		return decision{}, err
	}
	q := breaker.QuestionOf(r, s.Parts())
	if err := s.breaker.Enter(ctx, q); err != nil {
		if errors.Is(err, authz.ErrBusy) {
			c.Outcome = Busy
		}
		return decision{}, err
	}
	defer s.breaker.Leave(q)
	d, result := s.exchange(ctx, m, r, c)
	if s.breaker.Record(q, result) {
		return decision{}, fmt.Errorf("%w: %w", authz.ErrUnanswerable, result.Err)
	}
	if result.Err != nil {
		return decision{}, result.Err
	}
	for _, path := range d.passedOver {
		if _, warned := s.passedOver.LoadOrStore(path, true); !warned && s.onPassedOver != nil {
			s.onPassedOver(path)
		}
	}
	c.Outcome = d.outcome
	c.NoStore = d.grant != nil && d.grant.Keep.TTL < 0 || d.denial != nil && d.denial.Keep.TTL < 0
	return d, nil
}

// message returns the request with the proxy's own credential.
func (s *Source) message(r *authz.Request) (*message, error) {
	secret := ""
	if s.secret != nil {
		secret, _ = s.secret.Get()
	}
	m, err := s.builder.message(r, secret)
	if err != nil {
		return nil, err
	}
	for _, own := range []*files.Watched[string]{s.bearer, s.basic} {
		if own != nil {
			text, _ := own.Get()
			m.header.Set("Authorization", text)
		}
	}
	if _, set := m.header["Idempotency-Key"]; !set {
		// An entry without values is not sent, but allows net/http to repeat a POST if the
		// service had closed the idle connection.
		m.header["Idempotency-Key"] = []string{}
	}
	return m, nil
}

// Parts returns the parts of a request, besides the token, that are sent to the service. The
// answer may depend on them, so a cache must have them in its key.
func (s *Source) Parts() (parts authz.Parts) {
	for _, v := range s.builder.vars {
		part, _ := partOf(v)
		parts |= part
	}
	return parts
}

// NeedsUsername reports whether the service checks a user name together with the token as the
// password. A device that sends the token as its user name has no user name for it.
func (s *Source) NeedsUsername() bool { return s.reader.pair }

// Close closes idle connections. Further calls of Authorize open new ones.
func (s *Source) Close() error {
	s.transport.CloseIdleConnections()
	return nil
}

// credentialFault returns why a file of the credential is not in effect.
func (s *Source) credentialFault() error {
	var faults []error
	for _, w := range []*files.Watched[string]{s.bearer, s.basic, s.secret} {
		if w != nil {
			_, err := w.Get()
			faults = append(faults, err)
		}
	}
	if s.pair != nil {
		_, err := s.pair.Get()
		faults = append(faults, err)
	}
	return errors.Join(faults...)
}

func dialer() func(ctx context.Context, network, address string) (net.Conn, error) {
	d := &net.Dialer{Timeout: connectTimeout, KeepAlive: 15 * time.Second}
	return d.DialContext
}
