package proxy

import (
	"context"
	"crypto/tls"
	"errors"
	"net"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/authz"
)

// TestRecheckAsksThePolicyInForce: a session that began under one policy is asked about
// by the next, soon if that is wished.
func TestRecheckAsksThePolicyInForce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t)
		var asked atomic.Int32
		b.policy.Recheck = time.Hour
		c := b.mustLogin(with(5, "d", goodToken))
		defer c.Close()
		synctest.Wait() // it is a session when it has its CONNACK, and asked about a little later

		next := b.policy
		next.Recheck = 2 * time.Hour
		next.Authorizer = authorizerFunc(func(ctx context.Context, r authz.Request) (*authz.Grant, error) {
			if r.Purpose != authz.Recheck || r.Token.Reveal() != goodToken {
				t.Errorf("asked for %v", r.Purpose)
			}
			if asked.Add(1) == 3 {
				return nil, &authz.Denial{Reason: authz.Revoked}
			}
			return knowsGood(ctx, r)
		})
		if err := b.srv.SetPolicy(&next); err != nil {
			t.Fatal(err)
		}
		b.srv.Recheck(time.Minute)
		time.Sleep(time.Minute)
		synctest.Wait()
		if n := asked.Load(); n != 1 {
			t.Errorf("asked %d times within the minute, want once", n)
		}
		time.Sleep(time.Hour)
		synctest.Wait()
		if n := asked.Load(); n != 1 {
			t.Errorf("asked %d times within an hour: the interval is still the old one", n)
		}
		time.Sleep(time.Hour)
		synctest.Wait()
		if n := asked.Load(); n != 2 {
			t.Errorf("asked %d times within two hours, want twice", n)
		}
		time.Sleep(2 * time.Hour)
		if e := b.lastEnd(); !errors.Is(e.Err, ErrRevoked) {
			t.Errorf("ended with %v, want it to be revoked", e.Err)
		}
	})
}

// TestRecheckCanBeSwitchedOffAndOn: sessions that were asked about once are again.
func TestRecheckCanBeSwitchedOffAndOn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t)
		var asked atomic.Int32
		b.policy.Recheck = time.Minute
		b.policy.Authorizer = authorizerFunc(func(ctx context.Context, r authz.Request) (*authz.Grant, error) {
			asked.Add(1)
			return knowsGood(ctx, r)
		})
		c := b.mustLogin(with(5, "d", goodToken))
		defer c.Close()
		synctest.Wait()
		set := func(every time.Duration) {
			next := b.policy
			next.Recheck = every
			if err := b.srv.SetPolicy(&next); err != nil {
				t.Fatal(err)
			}
			b.srv.Recheck(time.Second)
			time.Sleep(time.Second)
			synctest.Wait()
			asked.Store(0)
		}
		set(0)
		time.Sleep(time.Hour)
		synctest.Wait()
		if n := asked.Load(); n != 0 {
			t.Errorf("asked %d times while it is off", n)
		}
		set(time.Minute)
		time.Sleep(time.Minute)
		synctest.Wait()
		if n := asked.Load(); n != 1 {
			t.Errorf("asked %d times in a minute, want once", n)
		}
	})
}

func TestListenerUpdate(t *testing.T) {
	one, two := new(tls.Config), new(tls.Config)
	socket, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer socket.Close()
	l := &Listener{Listener: socket, Name: "before", TLS: one}
	first := l.settings()
	if first.name != "before" || first.tls == nil || l.settings() != first {
		t.Errorf("at first %+v", first)
	}
	l.Update(&Listener{Name: "after", TLS: one})
	renamed := l.settings()
	if renamed.name != "after" || renamed.tls != first.tls {
		t.Error("the same TLS config has lost its tickets")
	}
	l.Update(&Listener{TLS: two})
	if e := l.settings(); e.name != l.Addr().String() || e.tls == first.tls || e.tls == nil {
		t.Errorf("then %+v", e)
	}
	l.Update(&Listener{})
	if e := l.settings(); e.tls != nil {
		t.Error("still TLS")
	}
}

// TestRecheckIsNotLost: a session whose Authorizer was asked before a call of Recheck is asked
// about after it, also if a recheck was under way, gave no answer, or the session had not begun.
func TestRecheckIsNotLost(t *testing.T) {
	for _, when := range []string{"live", "under way", "no answer", "not begun"} {
		t.Run(when, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b := newBench(t)
				b.policy.Recheck = 24 * time.Hour
				var revoked, down atomic.Bool
				slow := make(chan struct{})
				var rechecks atomic.Int32
				b.policy.Authorizer = authorizerFunc(func(ctx context.Context, r authz.Request) (*authz.Grant, error) {
					denied, recheck := revoked.Load(), r.Purpose == authz.Recheck
					if when == "under way" && recheck && rechecks.Add(1) == 1 || when == "not begun" && !recheck {
						<-slow
					}
					switch {
					case down.Load():
						return nil, errTest
					case denied && recheck:
						return nil, &authz.Denial{Reason: authz.Revoked}
					}
					return knowsGood(ctx, r)
				})
				change := func() {
					revoked.Store(true)
					down.Store(when == "no answer")
					b.srv.Recheck(10 * time.Second)
					if when == "under way" || when == "not begun" {
						close(slow)
					}
				}
				if when == "not begun" {
					time.AfterFunc(time.Second, change)
				}
				b.mustLogin(with(5, "d", goodToken))
				synctest.Wait()
				if when == "under way" {
					b.srv.Recheck(time.Second)
					time.Sleep(time.Second)
					synctest.Wait()
				}
				if when != "not begun" {
					change()
				}
				time.Sleep(10*time.Second + second)
				if down.Swap(false) {
					time.Sleep(time.Minute)
				}
				synctest.Wait()
				if e := b.lastEnd(); !errors.Is(e.Err, ErrRevoked) {
					t.Errorf("ended with %v, want it to be revoked", e.Err)
				}
			})
		})
	}
}
