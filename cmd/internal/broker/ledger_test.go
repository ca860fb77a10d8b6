package broker

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"maps"
	"strings"
	"testing"
	"time"

	mochi "github.com/mochi-mqtt/server/v2/packets"
	"pgregory.net/rapid"

	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/packets"
	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/packets/packetstest"
)

// TestOneDeviceCannotTakeTheMemoryOfOthers fills the share of one device in each way.
func TestOneDeviceCannotTakeTheMemoryOfOthers(t *testing.T) {
	const share = 1 << 20
	limit := func(o *Options) { o.DeviceMemory = share }
	for name, fill := range map[string]func(t *testing.T, b *Broker, greedy *client){
		"retained messages": func(t *testing.T, b *Broker, greedy *client) {
			for i := 0; ; i++ {
				greedy.Send(greedy.encode(message{topic: fmt.Sprintf("kept/%d", i), payload: big(50_000), qos: 1, id: 1, retain: true}))
				switch f := greedy.Expect(packets.PUBACK); {
				case f.Code() == 0x97 && i >= 18:
					return
				case f.Code() != 0 || i > 22:
					t.Fatalf("message %d: code %#x", i, f.Code())
				}
			}
		},
		"queues of absent sessions": func(t *testing.T, b *Broker, greedy *client) {
			for i := range 3 {
				c := connect(t, b, "greedy", login{id: fmt.Sprintf("absent-%d", i), persist: true})
				c.subscribe("fill", 1)
				c.disconnect()
			}
			for range 40 {
				greedy.publish(message{topic: "fill", payload: big(50_000), qos: 1})
			}
			if b.Stats().Dropped["device_memory"] == 0 {
				t.Error("nothing was dropped")
			}
		},
		"sessions": func(t *testing.T, b *Broker, greedy *client) {
			for i := range 200 {
				c, ack := connack(t, b, "greedy", login{version: 5, id: fmt.Sprintf("absent-%d", i), props: prop32(0x11, 3600)})
				switch code := ack.Code; {
				case code == 0:
					c.disconnect()
				case code == 0x97 && i > 100:
					return
				default:
					t.Fatalf("session %d: code %#x", i, code)
				}
			}
			t.Error("200 sessions fit")
		},
		"subscriptions": func(t *testing.T, b *Broker, greedy *client) {
			for i := range maxSubscriptions {
				switch code := greedy.subscribe(fmt.Sprintf("%d/a/b/c/d/e/f/g/h", i), 0); {
				case code == 0x97 && i > 100:
					return
				case code != 0:
					t.Fatalf("subscription %d: code %#x", i, code)
				}
			}
			t.Error("all subscriptions fit")
		},
		"subscriptions of one packet": func(t *testing.T, b *Broker, greedy *client) {
			var filters []byte
			for i := range maxSubscriptions {
				filters = append(filters, join(str(fmt.Sprint(i, strings.Repeat("/", 100))), []byte{0})...)
			}
			greedy.Send(packet(tSubscribe|2, u16(9), greedy.props(nil), filters))
			codes := greedy.Expect(packets.SUBACK).Body()[3:]
			if n := bytes.Count(codes, []byte{0}); n < 20 || n > 40 || bytes.Count(codes, []byte{0x97}) != maxSubscriptions-n {
				t.Errorf("%d subscriptions fit", n)
			}
		},
		"wills of absent sessions": func(t *testing.T, b *Broker, greedy *client) {
			for i := range 40 {
				l := login{version: 5, id: fmt.Sprintf("absent-%d", i), props: prop32(0x11, 3600)}
				l.will = &lastWill{topic: "w", payload: big(50_000), props: prop32(0x18, 3600)}
				nc, err := b.Dial(t.Context(), Device{Name: "greedy"})
				if err != nil {
					t.Fatal(err)
				}
				c, ack, err := packetstest.Try(nc, l.connect())
				_ = c.Close()
				switch full := i >= 15; {
				case full && (err != nil || ack.Code == 0x97): // no room to receive the CONNECT, or for the will
					return
				case err != nil || ack.Code != 0:
					t.Fatalf("will %d: code %#x, error %v", i, ack.Code, err)
				}
			}
			t.Error("40 wills fit")
		},
		"handshakes of absent sessions": func(t *testing.T, b *Broker, greedy *client) {
			for i := range 40 {
				c := connect(t, b, "greedy", login{version: 5, id: fmt.Sprintf("absent-%d", i), props: prop32(0x11, 3600)})
				for id := range uint16(60) {
					c.Send(c.encode(message{topic: "x", qos: 2, id: id + 1}))
					switch f := c.Expect(packets.PUBREC); {
					case f.Code() == 0x97 && i >= 8:
						return
					case f.Code() != 0:
						t.Fatalf("session %d, message %d: code %#x", i, id, f.Code())
					}
				}
				c.Close()
			}
			t.Error("2400 handshakes fit")
		},
		"long client identifiers": func(t *testing.T, b *Broker, greedy *client) {
			for i := range 40 {
				l := login{version: 5, id: fmt.Sprint(i, big(60_000)), props: prop32(0x11, 3600)}
				c, ack := connack(t, b, "greedy", l)
				switch code := ack.Code; {
				case code == 0:
					c.disconnect()
				case code == 0x97 && i >= 12:
					return
				default:
					t.Fatalf("session %d: code %#x", i, code)
				}
			}
			t.Error("40 sessions fit")
		},
		"topics with many levels": func(t *testing.T, b *Broker, greedy *client) {
			for i := range 60 {
				greedy.Send(greedy.encode(message{topic: fmt.Sprint(i, strings.Repeat("/", 100)), payload: "x", qos: 1, id: 1, retain: true}))
				switch code := greedy.Expect(packets.PUBACK).Code(); {
				case code == 0x97 && i >= 30:
					return
				case code != 0:
					t.Fatalf("message %d: code %#x", i, code)
				}
			}
			t.Error("60 messages fit")
		},
	} {
		t.Run(name, func(t *testing.T) {
			b, _ := newBroker(t, limit)
			fill(t, b, connect(t, b, "greedy", login{version: 5, id: "greedy"}))
			if n := b.Stats().Memory; n > share+share/8 {
				t.Errorf("%d bytes are kept, the share is %d", n, share)
			}
			sub := connect(t, b, "modest", login{version: 5, id: "sub"})
			sub.subscribe("mine", 1)
			pub := connect(t, b, "modest", login{version: 5, id: "pub"})
			pub.publish(message{topic: "mine", payload: big(50_000), qos: 1, retain: true})
			sub.take()
		})
	}
}

// TestAllDevicesTogetherKeepWithinTheWhole, each within its share.
func TestAllDevicesTogetherKeepWithinTheWhole(t *testing.T) {
	const whole = 1 << 20
	b, _ := newBroker(t, func(o *Options) { o.Memory = func() int64 { return whole } })
	refused := 0
	for i := range 40 {
		c := connect(t, b, fmt.Sprintf("device-%d", i), login{version: 5, id: fmt.Sprint(i)})
		c.Send(c.encode(message{topic: fmt.Sprint(i), payload: big(50_000), qos: 1, id: 1, retain: true}))
		if c.Expect(packets.PUBACK).Code() == 0x97 {
			refused++
		}
		c.disconnect()
		eventually(t, "its session is gone", func() bool { return b.open() == 0 })
	}
	if n := b.Stats().Memory; refused < 20 || n > whole {
		t.Errorf("%d of 40 refused, %d bytes are kept, the whole is %d", refused, n, whole)
	}
}

// TestNothingStaysCharged once its sessions, messages and connections are gone.
func TestNothingStaysCharged(t *testing.T) {
	b, _ := newBroker(t, nil)
	l := login{version: 5, id: "s", persist: true, props: prop32(0x11, 3600)}
	sub := connect(t, b, "d", l)
	sub.subscribe("x/#", 2)
	pub := connect(t, b, "p", login{id: "p"})
	for round := range 3 {
		for qos := range byte(3) {
			for i := range 10 {
				pub.publish(message{topic: fmt.Sprintf("x/%d", i), payload: big(1000), qos: qos, id: uint16(i + 1), retain: i%2 == 0})
			}
		}
		switch round {
		case 0:
			sub.takeAll(30)
		case 1:
			sub = connect(t, b, "d", l) // takes the session over with its queue
		default:
			sub.takeAll(20)
		}
	}
	for i := range 10 {
		pub.publish(message{topic: fmt.Sprintf("x/%d", i), qos: 1, retain: true})
	}
	pub.disconnect()
	sub = connect(t, b, "d", login{version: 5, id: "s"}) // a clean start ends the queue
	sub.disconnect()
	eventually(t, "nothing is charged", func() bool { return b.Stats().Memory == 0 })
}

// TestPacketThatNeverEndsTakesMemory: a few bytes make mochi allocate a whole packet.
func TestPacketThatNeverEndsTakesMemory(t *testing.T) {
	b, _ := newBroker(t, func(o *Options) { o.DeviceMemory = 6 << 20 })
	const length = 1 << 20
	begin := join([]byte{tPublish}, binary.AppendUvarint(nil, length))
	first := connect(t, b, "greedy", login{version: 5, id: "first"})
	first.Send(begin)
	second := connect(t, b, "greedy", login{version: 5, id: "second"})
	second.Send(begin)
	eventually(t, "both packets are charged", func() bool { return b.Stats().Memory > 4*length })
	third := connect(t, b, "greedy", login{version: 5, id: "third"})
	third.Send(begin)
	third.ExpectEnd(packet(tDisconnect, []byte{0x97})...)
	eventually(t, "its packet is charged no more", func() bool { return b.Stats().Memory < 5*length })
	older := connect(t, b, "greedy", login{id: "older"})
	older.Send(begin)
	older.ExpectEnd()
	connect(t, b, "modest", login{id: "modest"}).publish(message{topic: "x", payload: big(length), qos: 1})
	first.Close()
	second.Close()
	eventually(t, "nothing is charged", func() bool { return b.Stats().Memory < 3*sessionCost })
}

// TestOlderDeviceWithoutRoomForAHandshakeIsDisconnected: before MQTT 5 there is no answer that
// says so, and the device sends the message again on its next connection.
func TestOlderDeviceWithoutRoomForAHandshakeIsDisconnected(t *testing.T) {
	b, m := newBroker(t, func(o *Options) { o.DeviceMemory = 20 << 10 })
	c := connect(t, b, "d", login{id: "c"})
	c.publish(message{topic: "v2/t", payload: "first", qos: 2})
	for id := range uint16(20) {
		c.Send(c.encode(message{topic: "v2/t", payload: fmt.Sprint(id), qos: 2, id: id + 10}))
		f, err := c.ReadPacket()
		if err != nil {
			if n := len(m.records()); n != int(id)+1 {
				t.Errorf("%d messages are stored, want those %d that were acknowledged", n, id+1)
			}
			return
		}
		if f.Type() != packets.PUBREC {
			t.Fatalf("packet %x", f)
		}
	}
	t.Error("20 handshakes fit")
}

// TestExpiryLeavesANewMessage: the message that has expired may have been replaced since.
func TestExpiryLeavesANewMessage(t *testing.T) {
	b, _ := newBroker(t, nil)
	c := connect(t, b, "d", login{id: "c"})
	c.publish(message{topic: "x", payload: "new", qos: 1, retain: true})
	b.expireRetained("x", time.Now().Add(time.Hour))
	b.expireRetained("unknown", time.Now())
	c.subscribe("x", 0)
	if m := c.receive(); m.payload != "new" {
		t.Errorf("got %+v", m)
	}
}

// TestLedgerAddsUp compares the ledger's sums with what its accounts hold, after any
// sequence of steps.
func TestLedgerAddsUp(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		whole := int64(50_000)
		l := newLedger(&Options{DeviceMemory: 20_000, Memory: func() int64 { return whole }})
		id := rapid.SampledFrom([]string{"a", "b", "c", "d"})
		owner := map[string]string{"a": "one", "b": "one", "c": "two", "d": "three"}
		bodies := []*body{{bytes: 10}, {bytes: 3000}, {bytes: 9000}}
		packetID := rapid.Uint16Range(1, 4)
		other := map[string]int64{} // wills and unread bytes of each device
		t.Repeat(map[string]func(*rapid.T){
			"open":  func(t *rapid.T) { s := id.Draw(t, "id"); l.openSession(s, owner[s]) },
			"close": func(t *rapid.T) { l.closeSession(id.Draw(t, "id")) },
			"queue": func(t *rapid.T) {
				l.enqueue(id.Draw(t, "id"), packetID.Draw(t, "packet"), rapid.SampledFrom(bodies).Draw(t, "body"), nil, nil)
			},
			"dequeue": func(t *rapid.T) { l.dequeue(id.Draw(t, "id"), packetID.Draw(t, "packet")) },
			"keep": func(t *rapid.T) {
				most := packetID.Draw(t, "most")
				l.keepQueued(id.Draw(t, "id"), func(id uint16) bool { return id <= most })
			},
			"retain": func(t *rapid.T) {
				l.retain(id.Draw(t, "topic"), owner[id.Draw(t, "id")], rapid.SampledFrom(bodies).Draw(t, "body"))
			},
			"release": func(t *rapid.T) { l.release(id.Draw(t, "topic")) },
			"subscribe": func(t *rapid.T) {
				l.setSubscriptions(id.Draw(t, "id"), map[string]mochi.Subscription{id.Draw(t, "filter"): {}, "x/#": {}})
			},
			"will": func(t *rapid.T) {
				if d := owner[id.Draw(t, "id")]; l.chargeWill(d, 500) {
					other[d] += 500
				}
			},
			"unread": func(t *rapid.T) { // without a bound
				d := owner[id.Draw(t, "id")]
				n := rapid.IntRange(int(-other[d]), 15_000).Draw(t, "bytes")
				l.note(d, n, 0)
				other[d] += int64(n)
			},
			"whole": func(t *rapid.T) { whole = rapid.Int64Range(0, 60_000).Draw(t, "whole") },
			"":      func(t *rapid.T) { checkSums(t, l, other) },
		})
	})
}

func checkSums(t *rapid.T, l *ledger, other map[string]int64) {
	devices, all, counted := map[string]int64{}, int64(0), map[*body]int{}
	charge := func(device string, b *body, more int64) {
		devices[device] += messageCost + b.bytes + more
		all += messageCost + more
		if counted[b]++; counted[b] == 1 {
			all += b.bytes
		}
	}
	for id, a := range l.sessions {
		n := sessionCost + int64(len(id)) + a.subscriptions
		devices[a.device] += n
		all += n
		for _, q := range a.queue {
			charge(a.device, q.body, 0)
		}
	}
	for topic, k := range l.retained {
		charge(k.device, k.body, treeCost(topic))
	}
	for d, n := range other {
		devices[d] += n
		all += n
	}
	for b, n := range counted {
		if b.keepers != n {
			t.Fatalf("a message of %d bytes is kept %d times, want %d", b.bytes, b.keepers, n)
		}
	}
	if l.used != all {
		t.Fatalf("%d bytes in all, want %d", l.used, all)
	}
	maps.DeleteFunc(devices, func(_ string, n int64) bool { return n == 0 })
	if !maps.Equal(l.devices, devices) {
		t.Fatalf("devices %v, want %v", l.devices, devices)
	}
}

// TestLedgerKeepsWithinItsLimits: the limits hold as long as nothing is counted that cannot be
// refused.
func TestLedgerKeepsWithinItsLimits(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		const share, whole = 30_000, 50_000
		l := newLedger(&Options{DeviceMemory: share, Memory: func() int64 { return whole }})
		id := rapid.SampledFrom([]string{"a", "b", "c", "d"})
		owner := map[string]string{"a": "one", "b": "one", "c": "two", "d": "three"}
		t.Repeat(map[string]func(*rapid.T){
			"open":  func(t *rapid.T) { s := id.Draw(t, "id"); l.openSession(s, owner[s]) },
			"close": func(t *rapid.T) { l.closeSession(id.Draw(t, "id")) },
			"queue": func(t *rapid.T) {
				l.enqueue(id.Draw(t, "id"), rapid.Uint16Range(1, 9).Draw(t, "packet"), &body{bytes: rapid.Int64Range(0, 9000).Draw(t, "bytes")}, nil, nil)
			},
			"retain": func(t *rapid.T) {
				l.retain(id.Draw(t, "topic"), owner[id.Draw(t, "id")], &body{bytes: rapid.Int64Range(0, 9000).Draw(t, "bytes")})
			},
			"will": func(t *rapid.T) { l.chargeWill(owner[id.Draw(t, "id")], 500) },
			"": func(t *rapid.T) {
				for d, n := range l.devices {
					if n > share || l.used > whole {
						t.Fatalf("device %s has %d bytes, all have %d", d, n, l.used)
					}
				}
			},
		})
	})
}
