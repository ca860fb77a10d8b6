package broker

import (
	"fmt"
	"testing"

	"pgregory.net/rapid"

	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/packets"
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

// TestLedgerAddsUp compares the ledger's sums with what its accounts hold, after any
// sequence of steps.
func TestLedgerAddsUp(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		l := newLedger(20_000, func() int64 { return 50_000 })
		id := rapid.SampledFrom([]string{"a", "b", "c", "d"})
		owner := map[string]string{"a": "one", "b": "one", "c": "two", "d": "three"}
		bodies := []*body{{bytes: 10}, {bytes: 3000}, {bytes: 9000}}
		packetID := rapid.Uint16Range(1, 4)
		t.Repeat(map[string]func(*rapid.T){
			"open":  func(t *rapid.T) { s := id.Draw(t, "id"); l.openSession(s, owner[s]) },
			"close": func(t *rapid.T) { l.closeSession(id.Draw(t, "id")) },
			"queue": func(t *rapid.T) {
				l.enqueue(id.Draw(t, "id"), packetID.Draw(t, "packet"), rapid.SampledFrom(bodies).Draw(t, "body"))
			},
			"dequeue": func(t *rapid.T) { l.dequeue(id.Draw(t, "id"), packetID.Draw(t, "packet")) },
			"retain": func(t *rapid.T) {
				l.retain(id.Draw(t, "topic"), owner[id.Draw(t, "id")], rapid.SampledFrom(bodies).Draw(t, "body"))
			},
			"release": func(t *rapid.T) { l.release(id.Draw(t, "topic")) },
			"":        func(t *rapid.T) { checkSums(t, l) },
		})
	})
}

func checkSums(t *rapid.T, l *ledger) {
	devices, all, counted := map[string]int64{}, int64(0), map[*body]int{}
	charge := func(device string, b *body) {
		devices[device] += messageCost + b.bytes
		all += messageCost
		if counted[b]++; counted[b] == 1 {
			all += b.bytes
		}
	}
	for _, a := range l.sessions {
		devices[a.device] += sessionCost
		all += sessionCost
		for _, b := range a.queue {
			charge(a.device, b)
		}
	}
	for _, k := range l.retained {
		charge(k.device, k.body)
	}
	for b, n := range counted {
		if b.keepers != n {
			t.Fatalf("a message of %d bytes is kept %d times, want %d", b.bytes, b.keepers, n)
		}
	}
	if l.used != all || all > 50_000 {
		t.Fatalf("%d bytes in all, want %d", l.used, all)
	}
	if len(l.devices) != len(devices) {
		t.Fatalf("devices %v, want %v", l.devices, devices)
	}
	for d, n := range devices {
		if l.devices[d] != n || n > 20_000 {
			t.Fatalf("device %s has %d bytes, want %d", d, l.devices[d], n)
		}
	}
}
