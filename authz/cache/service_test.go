package cache_test

import (
	"context"
	"errors"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/authz"
	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/authz/cache"
)

// service is a source whose answers, speed and errors a test sets.
type service struct {
	mu     sync.Mutex
	answer authorizeFunc
	takes  time.Duration // for each answer
	asked  []authz.Request
	waited int // requests while a device or session waited
	inside int
	most   int // the highest number at once
}

var errDown = errors.New("connection refused")

// down is the answer of a service that is unreachable.
func down(context.Context, authz.Request) (*authz.Grant, error) { return nil, errDown }

// grant answers with a copy of g.
func grant(g authz.Grant) authorizeFunc {
	return func(context.Context, authz.Request) (*authz.Grant, error) { return new(g), nil }
}

// deny answers with a copy of d.
func deny(d authz.Denial) authorizeFunc {
	return func(context.Context, authz.Request) (*authz.Grant, error) { return nil, new(d) }
}

func (s *service) set(answer authorizeFunc) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.answer = answer
}

func (s *service) slow(takes time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.takes = takes
}

// calls returns how often the service was asked so far while a caller waited.
func (s *service) calls() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.waited
}

func (s *service) purposes() (all []authz.Purpose) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, r := range s.asked {
		all = append(all, r.Purpose)
	}
	return all
}

func (s *service) Authorize(ctx context.Context, r authz.Request) (*authz.Grant, error) {
	s.mu.Lock()
	s.asked = append(s.asked, r)
	if r.Purpose != authz.Refresh {
		s.waited++
	}
	s.inside++
	s.most = max(s.most, s.inside)
	answer, takes := s.answer, s.takes
	s.mu.Unlock()
	defer func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.inside--
	}()
	if takes > 0 {
		select {
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-time.After(takes):
		}
	}
	return answer(ctx, r)
}

// rig is a Cache for a service that grants everything, in a bubble.
type rig struct {
	*testing.T
	*cache.Cache
	service *service
}

func bubble(t *testing.T, o cache.Options, f func(r rig)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		s := &service{answer: grantAll}
		c := cache.New(s, o)
		defer c.Close()
		f(rig{T: t, Cache: c, service: s})
	})
}

func request(token string) authz.Request { return authz.Request{Token: authz.NewToken(token)} }

// after is a request that is made later.
type after struct {
	d    time.Duration
	want outcome
}

type outcome string

const (
	cached    outcome = "granted without asking"
	asked     outcome = "granted after asking"
	refused   outcome = "denied without asking"
	askedNo   outcome = "denied after asking"
	failed    outcome = "unavailable without asking"
	askedFail outcome = "unavailable after asking"
	askedOld  outcome = "granted after asking in vain"
	cachedOld outcome = "granted after its time without asking"
)

// ask authorizes q and describes the result.
func (r rig) ask(q authz.Request) outcome {
	r.Helper()
	before, stale := r.service.calls(), r.Stats().Stale
	g, err := r.Authorize(r.Context(), q)
	if (g == nil) == (err == nil) {
		r.Fatalf("Authorize = %v, %v", g, err)
	}
	old := r.Stats().Stale > stale
	no := errors.Is(err, authz.ErrDenied)
	if r.service.calls() > before {
		switch {
		case old:
			return askedOld
		case g != nil:
			return asked
		case no:
			return askedNo
		}
		return askedFail
	}
	switch {
	case old:
		return cachedOld
	case g != nil:
		return cached
	case no:
		return refused
	}
	return failed
}

// expect makes the same request at several times, counted from now.
func (r rig) expect(q authz.Request, steps ...after) {
	r.Helper()
	start := time.Now()
	for _, step := range steps {
		time.Sleep(step.d - time.Since(start))
		if got := r.ask(q); got != step.want {
			r.Errorf("after %v: %s, want %s", step.d, got, step.want)
		}
		synctest.Wait() // for a refresh
	}
}
