package authztest

import (
	"context"
	"runtime"
	"sync/atomic"
	"testing"
	"time"

	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/authz"
)

func checkNotifyEnds(tb testing.TB, s Suite) {
	f := s.New(tb)
	n, ok := f.Authorizer.(authz.Notifier)
	if !ok {
		tb.Log("not checked: the Authorizer is no Notifier")
		return
	}
	// Twice, since a proxy that is reconfigured ends one call and starts another.
	for range 2 {
		ctx, cancel := context.WithCancel(tb.Context())
		w := watch(ctx, n, func(authz.Revocation) {})
		runtime.Gosched()
		cancel()
		w.wait(tb)
	}
	ctx, cancel := context.WithCancel(tb.Context())
	cancel()
	watch(ctx, n, func(authz.Revocation) {}).wait(tb)
}

// watching is a running call of Notify.
type watching struct{ ended chan error }

func watch(ctx context.Context, n authz.Notifier, revoked func(authz.Revocation)) watching {
	w := watching{ended: make(chan error, 1)}
	go func() { w.ended <- n.Notify(ctx, revoked) }()
	return w
}

func (w watching) wait(tb testing.TB) {
	tb.Helper()
	select {
	case err := <-w.ended:
		if err != nil {
			tb.Errorf("Notify = %v when its context is done, want nil", err)
		}
	case <-time.After(patience):
		tb.Error("Notify does not return when its context is done")
	}
}

// checkNotifyRevokes withdraws Good while Notify runs, and before.
func checkNotifyRevokes(tb testing.TB, s Suite) {
	for name, before := range map[string]bool{"while Notify runs": false, "before Notify runs": true} {
		f := s.New(tb)
		n, ok := f.Authorizer.(authz.Notifier)
		if !ok || f.Revoke == nil {
			tb.Log("not checked: the Authorizer is no Notifier or the fixture has no Revoke")
			return
		}
		got := ask(tb.Context(), tb, f.Authorizer, s.Good)
		if got.outcome != granted {
			tb.Fatalf("Good is %s: %v", got.outcome, got.err)
		}
		if before {
			f.Revoke()
		}
		ctx, cancel := context.WithCancel(tb.Context())
		l := &listener{tb: tb, suite: s, fixture: f, grant: got.grant, named: make(chan struct{})}
		w := watch(ctx, n, l.revoked)
		if !before {
			f.Revoke()
		}
		select {
		case <-l.named:
		case <-time.After(patience):
			tb.Errorf("Good was withdrawn %s, and no revocation names it", name)
		}
		cancel()
		w.wait(tb)
	}
}

// listener receives revocations and waits for the one of grant.
type listener struct {
	tb      testing.TB
	suite   Suite
	fixture Fixture
	grant   *authz.Grant
	named   chan struct{} // closed when the grant's revocation has arrived
	found   atomic.Bool
	inside  atomic.Int32
}

func (l *listener) revoked(r authz.Revocation) {
	if l.inside.Add(1) != 1 {
		l.tb.Error("two revocations are reported at the same time")
	}
	defer l.inside.Add(-1)
	for range 100 { // time for a second call to arrive in
		runtime.Gosched()
	}
	if fields(r) != 1 {
		l.tb.Errorf("the revocation names %d things, want one", fields(r))
	}
	if !r.Matches(l.grant, l.hash()) || l.found.Swap(true) {
		return
	}
	// A device whose session ends reconnects at once: the answer must be new by now.
	if got := ask(l.tb.Context(), l.tb, l.fixture.Authorizer, l.suite.Good); got.outcome != denied {
		l.tb.Errorf("Good is revoked and still %s: %v", got.outcome, got.err)
	}
	close(l.named)
}

// hash returns what stands for Good's credential.
func (l *listener) hash() [32]byte {
	if l.grant.IsPair() {
		return l.grant.PairHash
	}
	return l.suite.Good.Token.Hash()
}

func fields(r authz.Revocation) int {
	n := 0
	for _, set := range []bool{r.TokenID != "", r.Subject != "", r.TokenHash != [32]byte{}} {
		if set {
			n++
		}
	}
	return n
}
