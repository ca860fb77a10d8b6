package proxy

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/authz"
	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/packets"
)

// notifier is a Notifier that reports what is sent to it and fails when it is closed.
type notifier chan authz.Revocation

func (n notifier) Notify(ctx context.Context, revoked func(authz.Revocation)) error {
	for {
		select {
		case r, ok := <-n:
			if !ok {
				return errTest
			}
			revoked(r)
		case <-ctx.Done():
			return nil
		}
	}
}

// TestWatchEndsWhatIsRevoked: a revocation ends the sessions that it names in any way,
// and no others.
func TestWatchEndsWhatIsRevoked(t *testing.T) {
	for name, r := range map[string]authz.Revocation{
		"token":    {TokenHash: authz.NewToken(goodToken).Hash()},
		"token id": {TokenID: "id-alpha"},
		"subject":  {Subject: "alpha"},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b := newBench(t)
				var ended []int
				b.srv.Trace.Revoked = func(_ []authz.Revocation, sessions int) { ended = append(ended, sessions) }
				n := make(notifier)
				go b.srv.Watch(t.Context(), n)
				revoked := b.mustLogin(with(4, "a", goodToken))
				other := b.mustLogin(with(4, "b", "good-beta"))
				n <- authz.Revocation{}
				n <- authz.Revocation{Subject: "stranger"}
				synctest.Wait()
				n <- r
				revoked.ExpectEnd()
				if end := b.lastEnd(); !errors.Is(end.Err, ErrRevoked) {
					t.Errorf("the session ended with %v", end.Err)
				}
				other.Send(ping)
				if !slices.Equal(b.broker.received(), append([]byte{0xe0, 0}, ping...)) {
					t.Errorf("the broker got % x", b.broker.received())
				}
				if last := ended[len(ended)-1]; last != 1 {
					t.Errorf("%d sessions ended, want 1", last)
				}
			})
		})
	}
}

// TestWatchReturns: with nil when it is no longer wanted, with an error when the Notifier
// fails.
func TestWatchReturns(t *testing.T) {
	for name, tt := range map[string]struct {
		end  func(cancel func(), srv *Server, n notifier)
		want error
	}{
		"canceled":      {func(cancel func(), _ *Server, _ notifier) { cancel() }, nil},
		"server closed": {func(_ func(), srv *Server, _ notifier) { srv.Close() }, nil},
		"failed":        {func(_ func(), _ *Server, n notifier) { close(n) }, errTest},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				ctx, cancel := context.WithCancel(t.Context())
				defer cancel()
				srv, n, ended := &Server{}, make(notifier), make(chan error, 1)
				go func() { ended <- srv.Watch(ctx, n) }()
				synctest.Wait()
				tt.end(cancel, srv, n)
				if err := <-ended; !errors.Is(err, tt.want) {
					t.Errorf("Watch returned %v, want %v", err, tt.want)
				}
			})
		})
	}
}

// TestAPanicOfTheRevokedHook does not end the watching.
func TestAPanicOfTheRevokedHook(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t)
		panics := b.countPanics()
		b.srv.Trace.Revoked = func([]authz.Revocation, int) { panic("bug") }
		n := make(notifier)
		go b.srv.Watch(t.Context(), n)
		for i := range int32(2) {
			c := b.mustLogin(with(4, "a", goodToken))
			n <- authz.Revocation{Subject: "alpha"}
			c.ExpectEnd()
			synctest.Wait() // the hook is called after the sessions have ended
			if panics.Load() != i+1 {
				t.Errorf("%d panics, want %d", panics.Load(), i+1)
			}
		}
	})
}

// TestRevocationsAreDeliveredTogether: what is reported during a search is part of the
// next one, and nothing is lost at the end.
func TestRevocationsAreDeliveredTogether(t *testing.T) {
	q, begun, goOn := newRevocations(), make(chan struct{}), make(chan struct{})
	var batches []int
	done := make(chan struct{})
	go func() {
		defer close(done)
		q.deliver(func(all []authz.Revocation) {
			batches = append(batches, len(all))
			begun <- struct{}{}
			<-goOn
		})
	}()
	q.add(authz.Revocation{TokenID: "first"})
	<-begun
	for i := range 1000 {
		q.add(authz.Revocation{TokenID: fmt.Sprint(i)})
	}
	q.close()
	goOn <- struct{}{}
	<-begun
	goOn <- struct{}{}
	<-done
	if !slices.Equal(batches, []int{1, 1000}) {
		t.Errorf("batches of %d", batches)
	}
}

type panickingNotifier struct{}

func (panickingNotifier) Notify(_ context.Context, revoked func(authz.Revocation)) error {
	revoked(authz.Revocation{Subject: "pump"})
	panic("bug")
}

// TestPanicOfANotifierLosesNoRevocation: what was reported before the panic, which the
// caller handles, still ends sessions.
func TestPanicOfANotifierLosesNoRevocation(t *testing.T) {
	var ended []authz.Revocation
	s := &Server{Trace: Trace{Revoked: func(all []authz.Revocation, _ int) { ended = append(ended, all...) }}}
	defer s.Close()
	func() {
		defer func() {
			if recover() == nil {
				t.Error("the panic is lost")
			}
		}()
		_ = s.Watch(t.Context(), panickingNotifier{})
	}()
	if len(ended) != 1 || ended[0].Subject != "pump" {
		t.Errorf("ended %v", ended)
	}
}

// TestWatchAltersGrants: a session goes on with the new grant of its token, which another
// source's grant for the same token is not, and ends when that expires.
func TestWatchAltersGrants(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t)
		b.srv.Trace.Revoked = func(all []authz.Revocation, _ int) { t.Errorf("revoked %v", all) }
		n := make(notifier)
		go b.srv.Watch(t.Context(), n)
		b.policy.Authorizer = grantOf(authz.Grant{TokenID: "id", Subject: "alpha", ACL: aclOf(t, authz.DenyRest, "a")})
		c := b.mustLogin(with(4, "d", goodToken))
		hash := authz.NewToken(goodToken).Hash()
		wide := aclOf(t, authz.DenyRest, "a", "b")
		n <- authz.Revocation{TokenHash: hash, Grant: &authz.Grant{TokenID: "other", Subject: "alpha"}}
		n <- authz.Revocation{TokenHash: hash, Grant: &authz.Grant{TokenID: "id", Subject: "beta"}}
		n <- authz.Revocation{TokenHash: hash, Grant: &authz.Grant{TokenID: "id", Subject: "alpha", ACL: wide, Expires: time.Now().Add(time.Hour)}}
		synctest.Wait()
		for client := range b.srv.Clients() {
			if client.Grant.ACL != wide {
				t.Errorf("the grant is %+v", client.Grant)
			}
		}
		message := (&packets.Publish{Topic: []byte("b")}).Append(nil, 4)
		c.Send(message)
		if !bytes.Equal(b.broker.received(), message) {
			t.Errorf("the broker got % x", b.broker.received())
		}
		if _, err := packets.ReadPacket(c, 100); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Hour)
		if end := b.lastEnd(); !errors.Is(end.Err, ErrExpired) {
			t.Errorf("the session ended with %v", end.Err)
		}
	})
}

// TestGrantAlteredWhileItIsGiven: the client gets in with the new grant.
func TestGrantAlteredWhileItIsGiven(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t)
		n := make(notifier)
		go b.srv.Watch(t.Context(), n)
		asked := 0
		b.policy.Authorizer = authorizerFunc(func(context.Context, authz.Request) (*authz.Grant, error) {
			g := &authz.Grant{TokenID: "id", Subject: "alpha", Attrs: map[string]string{"n": fmt.Sprint(asked)}}
			if asked++; asked == 1 {
				n <- authz.Revocation{TokenHash: authz.NewToken(goodToken).Hash(), Grant: g}
				time.Sleep(second)
			}
			return g, nil
		})
		b.mustLogin(with(4, "d", goodToken))
		for client := range b.srv.Clients() {
			if client.Grant.Attrs["n"] != "1" {
				t.Errorf("the session has the answer %s, which was overtaken", client.Grant.Attrs["n"])
			}
		}
	})
}

// beforeLink is an Upstream that calls a function before it returns a connection.
type beforeLink struct {
	Upstream
	call func()
}

func (u beforeLink) Connect(ctx context.Context, r *ConnectRequest, greet Greet) (Link, error) {
	link, err := u.Upstream.Connect(ctx, r, greet)
	u.call()
	return link, err
}

// TestGrantAlteredDuringTheConnectionToTheBroker: the session begins with the new grant and ends
// when that expires.
func TestGrantAlteredDuringTheConnectionToTheBroker(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b, u := withTwoBrokers(t)
		n := make(notifier)
		go b.srv.Watch(t.Context(), n)
		b.policy.Authorizer = grantOf(authz.Grant{TokenID: "id", Subject: "alpha"})
		b.policy.Upstream = beforeLink{u, func() {
			n <- authz.Revocation{TokenHash: authz.NewToken(goodToken).Hash(), Grant: &authz.Grant{
				TokenID: "id", Subject: "alpha", Attrs: map[string]string{"n": "1"}, Expires: time.Now().Add(time.Minute),
			}}
			time.Sleep(second)
		}}
		p := with(5, "", goodToken)
		u.first.answer.Properties = packets.Properties(nil).With(packets.AssignedClientIdentifier, "made-up")
		b.mustLogin(p)
		for client := range b.srv.Clients() {
			if client.Grant.Attrs["n"] != "1" || client.Server != "first" || client.ClientID != "made-up" {
				t.Errorf("the session has %+v", client)
			}
		}
		time.Sleep(time.Hour)
		if end := b.lastEnd(); !errors.Is(end.Err, ErrExpired) {
			t.Errorf("the session ended with %v", end.Err)
		}
	})
}
