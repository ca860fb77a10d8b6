package proxy

import (
	"bytes"
	"context"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/authz"
	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/packets"
)

// countPanics has panics counted instead of failing the test.
func (b *bench) countPanics() *atomic.Int32 {
	var n atomic.Int32
	b.srv.Trace.Panicked = func(any, []byte) { n.Add(1) }
	return &n
}

// TestAPanicEndsOneSession: a bug that only one session meets ends that session, and no
// other.
func TestAPanicEndsOneSession(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t)
		panics := b.countPanics()
		b.policy.Authorizer = grants(t, `[{"permission":"allow","action":"all","topics":["t"]}]`)
		b.srv.Trace.Denied = func(*Client, Denied) { panic("bug") }
		c := b.mustLogin(with(4, "d", goodToken))
		other := b.mustLogin(with(4, "e", goodToken))
		p := packets.Publish{Topic: []byte("other")}
		go c.Write(p.Append(nil, 4))
		c.ExpectEnd()
		if e := b.lastEnd(); e.By != "proxy" || e.Err == nil {
			t.Errorf("end %+v", e)
		}
		if n := panics.Load(); n != 1 {
			t.Errorf("%d panics were reported, want 1", n)
		}
		other.Send(ping)
		if got := b.broker.received(); !bytes.Equal(got, ping) {
			t.Errorf("the broker got % x, want the ping of the other session", got)
		}
	})
}

// TestAPanicOfARecheckIsNoAnswer: a session goes on if its recheck panics, and is rechecked
// again.
func TestAPanicOfARecheckIsNoAnswer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t)
		panics := b.countPanics()
		b.policy.Authorizer = authorizerFunc(func(_ context.Context, r authz.Request) (*authz.Grant, error) {
			if r.Purpose == authz.Recheck {
				panic("bug")
			}
			return &authz.Grant{Subject: "alpha", Recheck: time.Minute}, nil
		})
		b.mustLogin(with(5, "d", goodToken))
		time.Sleep(10*time.Minute + second)
		if n := panics.Load(); n < 10 || n > 12 {
			t.Errorf("%d panics were reported in ten minutes, want about ten", n)
		}
		if n := b.srv.Stats().Sessions; n != 1 {
			t.Errorf("%d sessions are left, want 1", n)
		}
	})
}

// TestAPanicOnAcceptEndsOneConnection: a bug in a hook that is called for a new connection
// ends that connection.
func TestAPanicOnAcceptEndsOneConnection(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t)
		panics := b.countPanics()
		var once atomic.Bool
		b.srv.Trace.Accepted = func(string) {
			if once.CompareAndSwap(false, true) {
				panic("bug")
			}
		}
		b.connect().ExpectEnd()
		b.mustLogin(with(4, "d", goodToken))
		if n := panics.Load(); n != 1 {
			t.Errorf("%d panics were reported, want 1", n)
		}
	})
}

// TestAPanickingRefusalGivesEverythingBack: a bug in the hook for refusals neither leaves
// the connection open nor keeps its place among the connections.
func TestAPanickingRefusalGivesEverythingBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t)
		panics := b.countPanics()
		b.srv.Trace.Refused = func(Refusal) { panic("bug") }
		c, _, err := b.login(with(4, "d", "bad"))
		if err != nil {
			t.Fatal(err)
		}
		c.ExpectEnd()
		synctest.Wait()
		if st := b.srv.Stats(); st.Connections != 0 || panics.Load() != 1 {
			t.Errorf("%d connections and %d panics, want none and one", st.Connections, panics.Load())
		}
	})
}

// TestAPanicOfOverloadEndsOneConnection: a bug in the policy's Overload closes the connection for
// which it was called, and keeps no place.
func TestAPanicOfOverloadEndsOneConnection(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t)
		panics := b.countPanics()
		bug := true
		b.policy.Overload = func() error {
			if bug {
				panic("bug")
			}
			return nil
		}
		b.srv.Trace.Dropped = func(string) { panic("another bug") }
		b.connect().ExpectEnd()
		synctest.Wait()
		if st := b.srv.Stats(); st.Connections != 0 || panics.Load() != 2 {
			t.Errorf("%d connections and %d panics, want none and two", st.Connections, panics.Load())
		}
		bug = false
		b.mustLogin(with(4, "d", goodToken))
	})
}

// TestAPanicDoesNotEndAListener: a bug in the hook for failures to accept neither ends Serve nor
// takes its pause away.
func TestAPanicDoesNotEndAListener(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t)
		panics := b.countPanics()
		b.srv.Trace.AcceptFailed = func(string, error, time.Duration) { panic("bug") }
		if err := b.srv.SetPolicy(&b.policy); err != nil {
			t.Fatal(err)
		}
		ln := &scriptedListener{script: []any{errTest, errTest}, closed: make(chan struct{})}
		start := time.Now()
		served := make(chan error, 1)
		go func() { served <- b.srv.Serve(ln) }()
		time.Sleep(15 * time.Millisecond)
		synctest.Wait()
		if len(ln.script) != 0 || panics.Load() != 2 || time.Since(start) != 15*time.Millisecond {
			t.Errorf("%d failures are left and %d panics were reported, want none and two", len(ln.script), panics.Load())
		}
		b.srv.Close()
		if err := <-served; err != ErrServerClosed {
			t.Errorf("Serve returned %v", err)
		}
	})
}

// TestAPanicDoesNotEndTheRechecksOfAToken: if a recheck cannot be completed because of a bug, it
// is repeated a minute later.
func TestAPanicDoesNotEndTheRechecksOfAToken(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t)
		panics := b.countPanics()
		b.policy.Authorizer = authorizerFunc(func(context.Context, authz.Request) (*authz.Grant, error) {
			return &authz.Grant{Subject: "alpha", Recheck: time.Hour}, nil
		})
		b.mustLogin(with(5, "d", goodToken))
		b.srv.rechecks.mu.Lock()
		for _, g := range b.srv.rechecks.groups {
			g.members[&session{srv: b.srv}] = authz.Request{} // which has no Client
		}
		b.srv.rechecks.mu.Unlock()
		time.Sleep(time.Hour)
		before := panics.Load()
		time.Sleep(10 * time.Minute)
		if n := panics.Load(); before == 0 || n < before+9 {
			t.Errorf("%d panics were reported in the first hour, %d in ten minutes; want some, and more each minute", before, n-before)
		}
	})
}
