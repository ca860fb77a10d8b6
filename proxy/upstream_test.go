package proxy

import (
	"bytes"
	"context"
	"errors"
	"net"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/packets"
)

// twoBrokers is an Upstream that tries one broker after the other, each for one
// second.
type twoBrokers struct {
	first, second *fakeBroker
	released      atomic.Int32
	outcomes      []bool
}

func (u *twoBrokers) Connect(ctx context.Context, r *ConnectRequest, greet Greet) (link Link, err error) {
	for _, b := range []*fakeBroker{u.first, u.second} {
		if link, err = u.try(ctx, b, r, greet); err == nil || ctx.Err() != nil {
			return link, err
		}
	}
	return Link{}, err
}

func (u *twoBrokers) try(ctx context.Context, b *fakeBroker, r *ConnectRequest, greet Greet) (Link, error) {
	ctx, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	nc, err := b.dial(ctx, r.Client)
	if err != nil {
		return Link{}, err
	}
	answered, err := greet(ctx, nc)
	u.outcomes = append(u.outcomes, answered)
	if err != nil {
		nc.Close()
		return Link{}, err
	}
	name := "second"
	if b == u.first {
		name = "first"
	}
	return Link{Conn: nc, Server: name, Release: func() { u.released.Add(1) }}, nil
}

func withTwoBrokers(t *testing.T) (*bench, *twoBrokers) {
	b := newBench(t)
	u := &twoBrokers{first: &fakeBroker{}, second: b.broker}
	b.policy.Upstream = u
	return b, u
}

// TestSilentBrokerIsSkipped: the next broker answers the device, which only waits longer. If the
// silent broker reads on later, it gets a DISCONNECT, so that it does not publish the will.
func TestSilentBrokerIsSkipped(t *testing.T) {
	for _, level := range levels {
		synctest.Test(t, func(t *testing.T) {
			b, u := withTwoBrokers(t)
			u.first.silent = true
			start := time.Now()
			c := b.mustLogin(with(level, "d", goodToken))
			if d := time.Since(start); d != time.Second {
				t.Errorf("the device waited for %v, want the silent broker's second", d)
			}
			if got := u.first.received(); !bytes.Equal(got, []byte{0xe0, 0x00}) {
				t.Errorf("the silent broker got % x after the CONNECT, want DISCONNECT", got)
			}
			if got := u.second.received(); len(got) != 0 {
				t.Errorf("the other broker got % x after the CONNECT", got)
			}
			if len(u.outcomes) != 2 || u.outcomes[0] || !u.outcomes[1] {
				t.Errorf("answered: %v, want no and yes", u.outcomes)
			}
			for client := range b.srv.Clients() {
				if client.Server != "second" || b.opened[0].Server != "second" {
					t.Errorf("the session is listed at %q, was opened at %q", client.Server, b.opened[0].Server)
				}
			}
			c.Close()
			b.lastEnd()
			if n := u.released.Load(); n != 1 {
				t.Errorf("the place at the broker was given back %d times", n)
			}
		})
	}
}

// TestAnsweredByTheBroker: greet reports an answer only if there was one.
func TestAnsweredByTheBroker(t *testing.T) {
	for _, tt := range []struct {
		name     string
		broker   *fakeBroker
		answered []bool
	}{
		{"refusal of the device", &fakeBroker{answer: packets.Connack{Code: packets.RefusedIdentifier}}, []bool{true}},
		{"refusal of the proxy", &fakeBroker{answer: packets.Connack{Code: packets.RefusedNotAuthorized}}, []bool{true}},
		{"not MQTT", &fakeBroker{raw: []byte("SSH-2.0-OpenSSH_9.2p1\r\n")}, []bool{false, true}},
		{"another packet", &fakeBroker{raw: []byte{0xd0, 0}}, []bool{false, true}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b, u := withTwoBrokers(t)
				u.first = tt.broker
				_, ack, err := b.login(with(4, "d", goodToken))
				if err != nil || (ack.Code == packets.Success) != (len(tt.answered) == 2) {
					t.Errorf("CONNACK %v, %v", ack.Code, err)
				}
				synctest.Wait()
				if len(u.outcomes) != len(tt.answered) || u.outcomes[0] != tt.answered[0] {
					t.Errorf("answered: %v, want %v", u.outcomes, tt.answered)
				}
			})
		})
	}
}

// TestRefusedLinkIsReleased: also a session that never began gives its place back,
// after its connection is closed.
func TestRefusedLinkIsReleased(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b, u := withTwoBrokers(t)
		u.first.answer.Code = packets.RefusedIdentifier
		b.login(with(4, "d", goodToken))
		b.lastRefusal()
		if n := u.released.Load(); n != 1 || u.first.ends != 1 {
			t.Errorf("given back %d times, %d connections closed", n, u.first.ends)
		}
	})
}

// TestKickWhileGreeting: a withdrawn token ends the wait for a broker, and no
// other broker is tried.
func TestKickWhileGreeting(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b, u := withTwoBrokers(t)
		u.first.silent = true
		var second atomic.Bool
		u.second = &fakeBroker{delay: func(context.Context) { second.Store(true) }}
		time.AfterFunc(time.Second/2, func() { b.srv.Kick(subject("alpha"), ErrRevoked) })
		_, ack, err := b.login(with(5, "d", goodToken))
		if err != nil || ack.Code != packets.NotAuthorized || second.Load() {
			t.Errorf("CONNACK %v, %v; second broker tried: %v", ack.Code, err, second.Load())
		}
	})
}

// TestNoBrokerAnswers: the device gets "server unavailable".
func TestNoBrokerAnswers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b, u := withTwoBrokers(t)
		u.first.silent, u.second = true, &fakeBroker{err: errors.Join(errTest, net.ErrClosed)}
		_, ack, err := b.login(with(5, "d", goodToken))
		if r := b.lastRefusal(); err != nil || ack.Code != packets.ServerUnavailable || r.Reason != UpstreamUnavailable || !errors.Is(r.Err, errTest) {
			t.Errorf("CONNACK %v, %v, refused %v", ack.Code, err, r)
		}
	})
}
