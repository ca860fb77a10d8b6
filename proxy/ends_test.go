package proxy

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"testing"
	"testing/synctest"

	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/authz"
	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/packets"
)

// withAndWithoutRules runs f at every level, for a session without topic rules and
// for one whose rules allow everything that f sends.
func withAndWithoutRules(t *testing.T, f func(t *testing.T, b *bench, level byte)) {
	acl, err := authz.ParseACL([]byte(`[{"permission":"allow","action":"all","topics":["#"]}]`), authz.ACLOptions{})
	if err != nil {
		t.Fatal(err)
	}
	for _, level := range levels {
		for name, rules := range map[string]*authz.ACL{"without rules": nil, "with rules": acl} {
			t.Run(versionName(level)+" "+name, func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					b := newBench(t)
					b.policy.Authorizer = authorizerFunc(func(context.Context, authz.Request) (*authz.Grant, error) {
						return &authz.Grant{Subject: "alpha", ACL: rules}, nil
					})
					f(t, b, level)
				})
			})
		}
	}
}

// publishOf returns a PUBLISH of the given level with QoS 1.
func publishOf(level byte, id uint16) []byte {
	p := packets.Publish{QoS: 1, PacketID: id, Topic: []byte("t"), Payload: []byte("payload")}
	return p.Append(nil, level)
}

// Whole packets of a device reach the broker, and the broker's answers reach the device, also if
// a malformed packet follows in the same segment.
func TestPacketsBeforeAMalformedOneArrive(t *testing.T) {
	connect := with(4, "d", goodToken)
	for _, fault := range []struct {
		name string
		raw  []byte
		code byte
	}{
		{"a length that is too long", []byte("\x30\x80\x80\x80\x80\x01"), 0x81},
		{"a second CONNECT", connect.Append(nil), 0x82},
	} {
		t.Run(fault.name, func(t *testing.T) {
			withAndWithoutRules(t, func(t *testing.T, b *bench, level byte) {
				c := b.mustLogin(with(level, "d", goodToken))
				sent := append(publishOf(level, 1), publishOf(level, 2)...)
				go c.Write(append(bytes.Clone(sent), fault.raw...))
				want := bytes.Clone(sent) // which the broker sends back
				if level == 5 {
					want = append(want, 0xe0, 0x01, fault.code)
				}
				c.ExpectEnd(want...)
				if got := b.broker.received(); !bytes.Equal(got, sent) {
					t.Errorf("the broker got % x, want % x", got, sent)
				}
				if e := b.lastEnd(); e.By != "client" || !errors.As(e.Err, new(*packets.MalformedError)) {
					t.Errorf("end %+v", e)
				}
			})
		})
	}
}

// TestNoDisconnectInsideAPacketAfterAFault: a device that has received a part of a packet
// gets no DISCONNECT, which it would take for the rest of that packet.
func TestNoDisconnectInsideAPacketAfterAFault(t *testing.T) {
	withAndWithoutRules(t, func(t *testing.T, b *bench, level byte) {
		half := publishOf(level, 1)[:5]
		b.broker.raw = append((&packets.Connack{}).Append(nil, level), half...)
		c := b.mustLogin(with(level, "d", goodToken))
		go c.Write([]byte("\x30\x80\x80\x80\x80\x01"))
		c.ExpectEnd(half...)
	})
}

// TestPacketsOfTheBrokerBeforeAMalformedOneArrive: whole packets of the broker reach the device
// also if a malformed one follows.
func TestPacketsOfTheBrokerBeforeAMalformedOneArrive(t *testing.T) {
	withAndWithoutRules(t, func(t *testing.T, b *bench, level byte) {
		sent := publishOf(level, 1)
		b.broker.raw = append((&packets.Connack{}).Append(nil, level), append(bytes.Clone(sent), "\x30\x80\x80\x80\x80\x01"...)...)
		c := b.mustLogin(with(level, "d", goodToken))
		c.ExpectEnd(sent...)
		if e := b.lastEnd(); e.By != "upstream" || !errors.As(e.Err, new(*packets.MalformedError)) {
			t.Errorf("end %+v", e)
		}
	})
}

// What a device sends after its DISCONNECT is ignored. The broker gets the DISCONNECT, so that it
// does not publish the will.
func TestPacketsAfterADisconnectAreIgnored(t *testing.T) {
	for _, rest := range []string{"", "\x30\x80\x80\x80\x80\x01", string(publishOf(4, 2)), "\xe0\x00"} {
		t.Run(fmt.Sprintf("%x", rest), func(t *testing.T) {
			withAndWithoutRules(t, func(t *testing.T, b *bench, level byte) {
				c := b.mustLogin(with(level, "d", goodToken))
				sent := append(publishOf(level, 1), (&packets.Disconnect{}).Append(nil, level)...)
				c.Send(append(bytes.Clone(sent), rest...))
				if got := b.broker.received(); !bytes.Equal(got, sent) {
					t.Errorf("the broker got % x, want % x", got, sent)
				}
				c.Close()
				if e := b.lastEnd(); e.By != "client" || e.Err != nil {
					t.Errorf("end %+v", e)
				}
			})
		})
	}
}

// leavingBroker accepts a session and does what the test says, with its end of the
// connection.
func (b *bench) leavingBroker(level byte, serve func(broker net.Conn)) {
	b.policy.Upstream = DialFunc(func(context.Context, *Client) (net.Conn, error) {
		ours, theirs := net.Pipe()
		go func() {
			if _, err := packets.ReadConnect(ours, 1<<20); err == nil {
				_, _ = ours.Write((&packets.Connack{}).Append(nil, level))
				serve(ours)
			}
		}()
		return theirs, nil
	})
}

// The side that sends a DISCONNECT ends the session, also if the other side closes first.
func TestSenderOfADisconnectEndsTheSession(t *testing.T) {
	withAndWithoutRules(t, func(t *testing.T, b *bench, level byte) {
		b.leavingBroker(level, func(broker net.Conn) {
			for {
				p, err := packets.ReadPacket(broker, 1<<20)
				if err != nil || packets.Type(p[0]>>4) == packets.DISCONNECT {
					broker.Close()
					return
				}
			}
		})
		c := b.mustLogin(with(level, "d", goodToken))
		c.Send((&packets.Disconnect{}).Append(nil, level))
		synctest.Wait()
		c.Close() // long after the broker
		if e := b.lastEnd(); e.By != "client" || e.Err != nil {
			t.Errorf("the device's DISCONNECT ended as %+v", e)
		}

		bye := (&packets.Disconnect{Code: packets.ServerShuttingDown}).Append(nil, 5)
		b.leavingBroker(level, func(broker net.Conn) {
			_, _ = broker.Write(bye)
			_, _ = packets.ReadPacket(broker, 1<<20)
			broker.Close() // after the device
		})
		if err := b.srv.SetPolicy(&b.policy); err != nil {
			t.Fatal(err)
		}
		c = b.mustLogin(with(level, "d", goodToken))
		if p, err := packets.ReadPacket(c, 100); err != nil || !bytes.Equal(p, bye) {
			t.Errorf("the device got % x, %v", p, err)
		}
		c.Close()
		if e := b.lastEnd(); e.By != "upstream" || e.Err != nil {
			t.Errorf("the broker's DISCONNECT ended as %+v", e)
		}
	})
}
