package tokenjwt

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/go-jose/go-jose/v4"

	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/authz"
)

// Source checks tokens with the keys of an issuer. Its methods may be called from many
// goroutines.
type Source struct {
	options    Options
	mapping    mapping
	algorithms []jose.SignatureAlgorithm // that tokens may have
	load       loader
	parse      func(content []byte, allowed []jose.SignatureAlgorithm) (*keySet, error)

	keys atomic.Pointer[keySet] // nil until there are any

	stop   context.CancelFunc
	closed chan struct{} // closed when keepFresh has returned
	wake   chan struct{} // has one element if asked is not nil

	mu sync.Mutex
	refreshing
}

// ErrNoKeys means that [Open] would have succeeded with Options.StartWithoutKeys: the options
// are correct, but the keys cannot be read now.
var ErrNoKeys = errors.New("the keys cannot be read")

var _ authz.Authorizer = (*Source)(nil)

// Open reads the keys and starts to refresh them, until Close. It fails if the options are
// wrong, if there are no keys before ctx is done, or if the first read fails. With
// Options.StartWithoutKeys it does not wait for the keys.
func Open(ctx context.Context, o Options) (*Source, error) {
	s, err := open(ctx, o, o.loader())
	if err != nil {
		return nil, fmt.Errorf("jwt source: %w", err)
	}
	return s, nil
}

func open(ctx context.Context, o Options, load loader) (*Source, error) {
	algorithms, mapping, err := o.compile()
	if err != nil {
		return nil, err
	}
	// The caller may continue to use its slices.
	o.Issuers, o.Audiences = slices.Clone(o.Issuers), slices.Clone(o.Audiences)
	s := &Source{
		options: o, mapping: mapping, algorithms: algorithms, load: load, parse: o.parser(),
		closed: make(chan struct{}), wake: make(chan struct{}, 1),
	}
	living, stop := context.WithCancel(context.WithoutCancel(ctx))
	s.stop = stop
	s.mu.Lock()
	first := s.requestLocked()
	s.mu.Unlock()
	go s.keepFresh(living)
	if o.StartWithoutKeys {
		return s, nil
	}
	if err := s.wait(ctx, first); err != nil {
		s.Close()
		return nil, fmt.Errorf("%w: %w", ErrNoKeys, err)
	}
	return s, nil
}

// Check returns an error if the options are wrong. It does not read files or send requests.
func (o Options) Check() error {
	_, _, err := o.compile()
	return err
}

// Probe is like Check, but also reads the files that the options name. It sends no requests.
func (o Options) Probe() error {
	algorithms, _, err := o.compile()
	if err != nil {
		return err
	}
	if o.Keys.URL != "" {
		_, err := o.TLS.transport()
		return err
	}
	d, err := o.loader()(context.Background())
	if err != nil {
		return fmt.Errorf("keys: %w", err)
	}
	if _, err := o.parser()(d.content, algorithms); err != nil {
		return fmt.Errorf("keys: %s: %w", o.Keys.File+o.Keys.PEM+o.Keys.Secret, err)
	}
	return nil
}

// compile sets the defaults and returns the compiled options.
func (o *Options) compile() (algorithms []jose.SignatureAlgorithm, m mapping, err error) {
	if err = o.check(); err != nil {
		return nil, m, err
	}
	*o = o.withDefaults()
	if algorithms, err = o.algorithms(); err == nil {
		m, err = o.mapping()
	}
	return algorithms, m, err
}

func (o *Options) parser() func([]byte, []jose.SignatureAlgorithm) (*keySet, error) {
	switch {
	case o.Keys.PEM != "":
		return parsePEM
	case o.Keys.Secret != "":
		return parseSecret
	}
	return parseJWKS
}

// Close stops reading keys and waits until that has ended. The Source continues with the keys
// it has. Close may be called more than once.
func (s *Source) Close() {
	s.stop()
	<-s.closed
}

// Authorize implements [authz.Authorizer]; see the package comment for its answers.
func (s *Source) Authorize(ctx context.Context, r authz.Request) (*authz.Grant, error) {
	if err := ctx.Err(); err != nil {
		return nil, fmt.Errorf("jwt source: %w", err)
	}
	t, err := parse(r.Token.Reveal(), maxToken, s.algorithms)
	if err == nil {
		// This comes before verify, which reads the keys again for an unknown kid.
		err = s.options.checkIssuer(t.claims)
	}
	if err != nil {
		return nil, unknown("%v", err)
	}
	if err := s.verify(ctx, t); err != nil {
		return nil, err
	}
	now := time.Now()
	g, err := s.grant(t, now)
	if err != nil {
		return nil, err
	}
	if err := g.Check(r, now); err != nil {
		return nil, withTokenID(g.TokenID, err, g.Subject)
	}
	return g, nil
}

// verify returns nil if a key verifies the signature of t. It reads newer keys unless the key
// that t names is known.
func (s *Source) verify(ctx context.Context, t *token) error {
	set := s.keys.Load()
	if set != nil {
		switch v := set.verify(t); v {
		case verified:
			return nil
		case wrongKey, wrongAlg:
			return t.unverified(v, set)
		}
	}
	newer, fresh, err := s.newer(ctx, set)
	if err != nil {
		return fmt.Errorf("jwt source: %w: %w", authz.ErrUnsure, err)
	}
	v := newer.verify(t)
	switch {
	case v == verified:
		return nil
	case v == noKey && t.kid != "" && !fresh && !s.retired(t.kid):
		return fmt.Errorf("jwt source: %w: a JWT names key %s, which did not exist when the keys were last read; they can be read again after %v",
			authz.ErrUnsure, quoted(t.kid), minRefresh)
	}
	return t.unverified(v, newer)
}

// unverified returns the denial of a token for which set has the verdict v.
func (t *token) unverified(v verdict, set *keySet) error {
	switch v {
	case badKey:
		return unknown("a JWT that names key %s, which cannot be used: %s", quoted(t.kid), set.unusable[t.kid])
	case wrongKey:
		return unknown("a JWT whose signature does not match key %s, which it names", quoted(t.kid))
	case wrongAlg:
		return unknown("a JWT that names key %s, which is not for algorithm %s", quoted(t.kid), quoted(string(t.algorithm)))
	case noKey:
		return unknown("a JWT for which there is no key: it names key %s and algorithm %s", quoted(t.kid), quoted(string(t.algorithm)))
	}
	return unknown("a JWT whose signature matches no key")
}
