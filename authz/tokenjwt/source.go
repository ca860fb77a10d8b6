package tokenjwt

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/go-jose/go-jose/v4"

	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/authz"
)

// Source checks tokens with the keys of an issuer. Its methods may be called from
// many goroutines.
type Source struct {
	options    Options
	mapping    mapping
	algorithms []jose.SignatureAlgorithm // that tokens may have
	load       loader
	parse      func(content []byte, allowed []jose.SignatureAlgorithm) (*keySet, error)

	keys atomic.Pointer[keySet] // nil until there are any

	stop   context.CancelFunc
	closed chan struct{} // closed when nobody reads keys any more
	wake   chan struct{} // has one element if asked is not nil

	mu sync.Mutex
	refreshing
}

var _ authz.Authorizer = (*Source)(nil)

// Open reads the keys and begins to keep them fresh, which lasts until Close. It
// fails if the options are at fault, or if there are no keys before ctx is done or
// the first reading has failed; with Options.StartWithoutKeys it does not wait for
// that.
func Open(ctx context.Context, o Options) (*Source, error) {
	s, err := open(ctx, o, o.loader())
	if err != nil {
		return nil, fmt.Errorf("jwt source: %w", err)
	}
	return s, nil
}

func open(ctx context.Context, o Options, load loader) (*Source, error) {
	if err := o.check(); err != nil {
		return nil, err
	}
	algorithms, err := o.algorithms()
	if err != nil {
		return nil, err
	}
	mapping, err := o.mapping()
	if err != nil {
		return nil, err
	}
	// The caller may go on to use its slices.
	o.Issuers, o.Audiences, o.Types = slices.Clone(o.Issuers), slices.Clone(o.Audiences), slices.Clone(o.Types)
	s := &Source{
		options: o, mapping: mapping, algorithms: algorithms, load: load, parse: o.parser(),
		closed: make(chan struct{}), wake: make(chan struct{}, 1),
	}
	living, stop := context.WithCancel(context.WithoutCancel(ctx))
	s.stop = stop
	s.mu.Lock()
	first := s.askLocked()
	s.mu.Unlock()
	go s.keepFresh(living)
	if o.StartWithoutKeys {
		return s, nil
	}
	if err := s.wait(ctx, first); err != nil {
		s.Close()
		return nil, fmt.Errorf("keys: %w", err)
	}
	return s, nil
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

// Close stops reading keys and waits until that has ended. The Source goes on with
// the keys it has. Close may be called more than once.
func (s *Source) Close() {
	s.stop()
	<-s.closed
}

// Authorize implements [authz.Authorizer]; see the package comment for its answers.
func (s *Source) Authorize(ctx context.Context, r authz.Request) (*authz.Grant, error) {
	if err := ctx.Err(); err != nil {
		return nil, fmt.Errorf("jwt source: %w", err)
	}
	t, err := parse(r.Token.Reveal(), s.options.maxToken(), s.algorithms)
	if err == nil && !s.options.issued(t.claims) {
		err = errForeign // before the keys are looked at, which a foreign kid would have read again
	}
	if err != nil {
		return nil, unknown(err.Error())
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
		return nil, about(g.TokenID, err)
	}
	return g, nil
}

// verify returns nil if a key fits the signature of t. Newer keys are asked for
// unless the key that t names is at hand.
func (s *Source) verify(ctx context.Context, t *token) error {
	set := s.keys.Load()
	if set != nil {
		switch good, named := set.verify(t); {
		case good:
			return nil
		case named:
			return unknown("the signature does not fit the key that it names")
		}
	}
	newer, err := s.newer(ctx, set)
	if err != nil {
		return fmt.Errorf("jwt source: %w", err)
	}
	if newer != set {
		if good, _ := newer.verify(t); good {
			return nil
		}
	}
	return unknown("the signature fits no key")
}
