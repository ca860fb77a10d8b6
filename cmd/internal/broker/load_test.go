package broker

import (
	"fmt"
	"io"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
	"time"

	mochi "github.com/mochi-mqtt/server/v2/packets"

	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/packets/packetstest"
)

// TestLatePacketsOfATakenOverConnection: the old connection may be in the middle of a packet
// while another takes its session over.
func TestLatePacketsOfATakenOverConnection(t *testing.T) {
	b, _ := newBroker(t, nil)
	l := login{id: "s", persist: true}
	connect(t, b, "d", l).subscribe("x", 1)
	old, _ := b.server.Clients.Get("s")
	connect(t, b, "p", login{id: "p"}).publish(message{topic: "x", payload: big(1000), qos: 1})
	// It was acknowledged, but the connection is taken over before that is accounted for.
	if cause := b.ledger.enqueue("s", 777, new(body), nil, nil); cause != dropNone {
		t.Fatal(cause)
	}
	charged := b.Stats().Memory
	next := connect(t, b, "d", l)
	message := next.receive()
	next.Ping() // the account is brought in line after the queue was sent
	if n := b.Stats().Memory; n != charged-messageCost {
		t.Errorf("%d bytes are charged, want %d: the queue has one message", n, charged-messageCost)
	}

	h := &hook{b: b}
	h.OnQosComplete(old, mochi.Packet{PacketID: message.id})
	h.OnQosDropped(old, mochi.Packet{PacketID: message.id})
	if n := b.Stats().Memory; n != charged-messageCost {
		t.Errorf("%d bytes are charged after a late acknowledgement, want %d", n, charged-messageCost)
	}

	late := mochi.Packet{
		FixedHeader: mochi.FixedHeader{Type: mochi.Subscribe, Qos: 1}, PacketID: 1,
		Filters: mochi.Subscriptions{{Filter: "late", Qos: 1}},
	}
	_ = b.server.InjectPacket(old, late) // its answer finds no connection
	if n := len(b.server.Topics.Subscribers("late").Subscriptions); n != 0 {
		t.Errorf("a late SUBSCRIBE leaves %d subscriptions behind", n)
	}
	late = mochi.Packet{
		FixedHeader: mochi.FixedHeader{Type: mochi.Unsubscribe, Qos: 1}, PacketID: 1,
		Filters: mochi.Subscriptions{{Filter: "x"}},
	}
	_ = b.server.InjectPacket(old, late)
	if n := len(b.server.Topics.Subscribers("x").Subscriptions); n != 1 {
		t.Errorf("a late UNSUBSCRIBE leaves %d subscriptions of its successor, want 1", n)
	}
	if _, err := h.OnPublish(old, mochi.Packet{FixedHeader: mochi.FixedHeader{Type: mochi.Publish, Qos: 2}, PacketID: 5, TopicName: "y"}); err == nil {
		t.Error("a late message of QoS 2 is accepted")
	}
	if n := b.Stats().Memory; n != charged-messageCost {
		t.Errorf("%d bytes are charged after late packets, want %d", n, charged-messageCost)
	}
}

// TestNothingStaysChargedUnderLoad connects, subscribes, publishes and leaves in every way at
// once, with few client identifiers, so that sessions are taken over all the time.
func TestNothingStaysChargedUnderLoad(t *testing.T) {
	b, _ := newBroker(t, func(o *Options) { o.SessionExpiry = time.Second })
	const devices, rounds = 8, 40
	var running sync.WaitGroup
	for d := range devices {
		running.Go(func() {
			r := rand.New(rand.NewPCG(uint64(d), 1))
			for range rounds {
				chaos(t, b, r)
			}
		})
	}
	running.Wait()
	eventually(t, "what they have sent is handled", func() bool { return b.open() == 0 })
	// What is left are sessions without a connection, retained messages, and delayed wills.
	last := connect(t, b, "d", login{id: "last"})
	for i := range 5 {
		last.publish(message{topic: fmt.Sprintf("x/%d", i), qos: 1, retain: true})
	}
	last.disconnect()
	for id := range 4 {
		c := connect(t, b, "d", login{version: 5, id: fmt.Sprint(id)})
		c.Send([]byte{tDisconnect, 0})
		_, _ = io.Copy(io.Discard, c) // a will that was on its way to the session before may come
	}
	eventually(t, "nothing is charged", func() bool { return b.Stats().Memory == 0 })
	if s := b.Stats(); s.Panics != 0 || s.Sessions != 0 || s.Subscriptions != 0 {
		t.Errorf("stats %+v", s)
	}
	if leaves := topicLeaves(b); leaves != 0 {
		t.Errorf("%d subscriptions belong to no session", leaves)
	}
}

// chaos is one connection, which the others may end at any time.
func chaos(t *testing.T, b *Broker, r *rand.Rand) {
	l := login{version: 5, id: fmt.Sprint(r.IntN(4)), persist: r.IntN(2) == 0, props: prop32(0x11, uint32(r.IntN(2)*3600))}
	if r.IntN(2) == 0 {
		l.will = &lastWill{topic: "x/will", payload: big(r.IntN(1000)), qos: 1, props: prop32(0x18, uint32(r.IntN(2)*3600))}
	}
	nc, err := b.Dial(t.Context(), Device{Name: "d"})
	if err != nil {
		t.Error(err)
		return
	}
	defer nc.Close()
	c := &client{packetstest.New(t, nc, 5), t}
	sent := [][]byte{l.encode()}
	for i := range r.IntN(30) {
		m := message{topic: fmt.Sprintf("x/%d", r.IntN(5)), payload: big(r.IntN(5000)), qos: byte(r.IntN(3)), id: uint16(i + 1), retain: r.IntN(4) == 0}
		sent = append(sent, [][]byte{
			c.encode(m),
			packet(tSubscribe|2, u16(uint16(i+100)), c.props(nil), str("x/#"), []byte{2}, str(fmt.Sprintf("x/%d", r.IntN(5))), []byte{1}),
			packet(tUnsubscribe|2, u16(uint16(i+200)), c.props(nil), str("x/#")),
			packet(tPuback, u16(uint16(r.IntN(20)+1))),
			packet(tPubrel|2, u16(uint16(r.IntN(30)+1))),
			{tPingreq, 0},
		}[r.IntN(6)])
	}
	if r.IntN(2) == 0 {
		sent = append(sent, []byte{tDisconnect, 0})
	}
	all := slices.Concat(sent...)
	all = all[:len(all)-r.IntN(2)*r.IntN(20)]
	if err := nc.SetDeadline(time.Now().Add(time.Duration(r.IntN(20)) * time.Millisecond)); err != nil {
		t.Error(err)
	}
	_, _ = nc.Write(all)
	_, _ = io.Copy(io.Discard, nc)
}

// topicLeaves returns how many subscriptions the topic tree has.
func topicLeaves(b *Broker) int { return len(b.server.Topics.Subscribers("x/1").Subscriptions) }
