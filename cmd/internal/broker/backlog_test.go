package broker

import (
	"database/sql"
	"fmt"
	"math"
	"strings"
	"testing"
	"time"

	mochi "github.com/mochi-mqtt/server/v2/packets"

	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/cmd/internal/broker/durable"
	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/cmd/internal/telemetry/payload"
	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/packets"
	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/packets/packetstest"
)

// tell publishes numbered telemetry, with some bytes more in each message.
func (l *lives) tell(from, to int64, more int) {
	l.t.Helper()
	text := payload.Text(big(more))
	var batch []payload.Message
	for i := from; i < to; i++ {
		if batch = append(batch, stored(i, "n", text)); len(batch) == 50 || i == to-1 {
			if err := l.PublishTelemetry(l.t.Context(), "pump-1", batch); err != nil {
				l.t.Fatal(err)
			}
			batch = nil
		}
	}
}

// number returns the number of a message of tell.
func (c *client) number(m message) (n int64) {
	c.t.Helper()
	if _, err := fmt.Sscanf(m.payload, `{"ts":%d,`, &n); err != nil {
		c.t.Fatalf("%.50q: %v", m.payload, err)
	}
	return n
}

// takeNumbers takes the messages of tell from one number to another, in order.
func (c *client) takeNumbers(from, to int64) {
	c.t.Helper()
	for n := from; n < to; n++ {
		if got := c.number(c.take()); got != n {
			c.t.Fatalf("got message %d, want %d", got, n)
		}
	}
}

// reader returns a connection of a reader whose session is to last.
func (l *lives) reader(version byte, id string) *client {
	l.t.Helper()
	return connectReader(l.t, l.Broker, "dashboard", persistent(version, id))
}

// subscribed makes a session of a reader that is away.
func (l *lives) subscribed(version byte, id string, qos byte, filters ...string) {
	l.t.Helper()
	r := l.reader(version, id)
	for _, filter := range filters {
		r.subscribe(filter, qos)
	}
	r.disconnect()
	l.awaitAway()
}

func (l *lives) awaitAway() {
	l.t.Helper()
	eventually(l.t, "everyone is away", func() bool { return l.open() == 0 })
}

// empty waits until nothing waits any more, and fails if something is left in the file.
func (l *lives) empty() {
	l.t.Helper()
	eventually(l.t, "nothing waits", func() bool { s := l.Stats(); return s.Queued == 0 && s.Backlog == 0 })
	eventually(l.t, "the file has no messages", func() bool { return l.rows() == 0 })
}

// rows returns how many messages of queues are in the file.
func (l *lives) rows() (n int64) {
	l.t.Helper()
	db, err := sql.Open("sqlite", "file:"+l.path+"?_pragma=busy_timeout(30000)")
	if err != nil {
		l.t.Fatal(err)
	}
	defer func() { _ = db.Close() }()
	if err := db.QueryRow("SELECT count(*) FROM queue").Scan(&n); err != nil {
		l.t.Fatal(err)
	}
	return n
}

// inMemory returns how many messages are in memory of the queue of a session.
func (l *lives) inMemory(clientID string) int {
	cl, _ := l.server.Clients.Get(clientID)
	return cl.State.Inflight.Len()
}

const telemetryFilter = "v1/devices/+/telemetry"

// TestQueueOfAReaderIsInTheFile but for a window, whatever ends the process, and comes in order.
func TestQueueOfAReaderIsInTheFile(t *testing.T) {
	ends(t, func(t *testing.T, version byte, l *lives, end func()) {
		l.subscribed(version, "r", 1, telemetryFilter)
		const n = 2*windowMessages + 500
		l.tell(0, n, 10)
		before := l.Stats()
		if before.Queued != windowMessages || before.Backlog < (n-windowMessages)*40 {
			t.Errorf("%d messages are in memory, %d bytes in the file alone", before.Queued, before.Backlog)
		}
		end()
		if after := l.Stats(); after.Queued != before.Queued || after.Backlog != before.Backlog || after.Memory != before.Memory {
			t.Errorf("after the end %+v, before %+v", after, before)
		}
		l.tell(n, n+100, 10)
		r := l.reader(version, "r")
		r.takeNumbers(0, windowMessages+10)
		end() // while messages are on their way
		r = l.reader(version, "r")
		first := r.number(r.take())
		if first > windowMessages+10 {
			t.Fatalf("the first message is %d", first)
		}
		r.takeNumbers(first+1, n+100)
		l.empty()
		l.tell(7, 8, 10)
		r.takeNumbers(7, 8)
		for cause, dropped := range l.Stats().Dropped {
			if dropped != 0 {
				t.Errorf("%d dropped because of %s", dropped, cause)
			}
		}
	})
}

// TestIdentifiersOutOfTheFileSurviveTheProcess: a message of QoS 2 that a reader has got comes
// again with the same identifier, or not at all.
func TestIdentifiersOutOfTheFileSurviveTheProcess(t *testing.T) {
	ends(t, func(t *testing.T, version byte, l *lives, end func()) {
		l.subscribed(version, "r", 2, "jobs/#")
		pub := connect(t, l.Broker, "p", login{version: version, id: "p"})
		const n, done, released = windowMessages + 600, windowMessages + 100, windowMessages + 150
		for i := range n {
			pub.Send(pub.encode(message{topic: "jobs/x", payload: fmt.Sprint(i), qos: 2, id: uint16(i + 1)}))
			if (i+1)%receiveMax != 0 && i < n-1 {
				continue
			}
			for id := i / receiveMax * receiveMax; id <= i; id++ {
				pub.ExpectAck(packets.PUBREC, uint16(id+1), 0)
				pub.Send(packet(tPubrel|2, u16(uint16(id+1))))
			}
			for id := i / receiveMax * receiveMax; id <= i; id++ {
				pub.ExpectAck(packets.PUBCOMP, uint16(id+1), 0)
			}
		}
		r := l.reader(version, "r")
		sent, releases := map[string]uint16{}, 0
		for len(sent) < n || releases < released {
			p := r.packet()
			if p.Type() == packets.PUBREL {
				if releases++; releases <= done {
					r.Send(packet(tPubcomp, u16(p.PacketID())))
				}
				continue
			}
			m := r.decode(p)
			if sent[m.payload] = m.id; len(sent) <= released {
				r.Send(packet(tPubrec, u16(m.id)))
			}
		}
		eventually(t, "the acknowledgements are in the file", func() bool { return l.rows() == n-done })
		end()
		r = l.reader(version, "r")
		came, open := map[string]bool{}, n-done
		for releases = 0; releases < open; {
			p := r.packet()
			if p.Type() == packets.PUBREL {
				releases++
				r.Send(packet(tPubcomp, u16(p.PacketID())))
				continue
			}
			m := r.decode(p)
			if came[m.payload] || sent[m.payload] != m.id {
				t.Fatalf("message %s came with identifier %d, and before with %d", m.payload, m.id, sent[m.payload])
			}
			came[m.payload] = true
			r.Send(packet(tPubrec, u16(m.id)))
		}
		if len(came) != n-released {
			t.Errorf("%d messages came again, want %d", len(came), n-released)
		}
		l.empty()
	})
}

// packet returns the next packet.
func (c *client) packet() packetstest.Packet {
	c.t.Helper()
	p, err := c.ReadPacket()
	if err != nil {
		c.t.Fatal(err)
	}
	return p
}

// TestSlowReaderLosesNothing: what a connected reader has not acknowledged waits in the file, and
// so does what follows a new subscription.
func TestSlowReaderLosesNothing(t *testing.T) {
	for _, version := range []byte{4, 5} {
		l := newLives(t)
		r := l.reader(version, "r")
		r.subscribe(telemetryFilter, 1)
		const n = 3 * windowMessages
		l.tell(0, n, 1000)
		connect(t, l.Broker, "p", login{version: version, id: "p"}).publish(message{topic: "state", payload: "on", qos: 1, id: 1, retain: true})
		r.Send(packet(tSubscribe|2, u16(9), r.props(nil), str("state"), []byte{1}))
		var got int64
		for granted := false; got < n || !granted; {
			p, err := r.ReadPacket()
			if err != nil {
				t.Fatalf("after %d messages: %v", got, err)
			}
			if p.Type() == packets.SUBACK {
				granted = true
				continue
			}
			m := r.decode(p)
			if r.number(m) != got {
				t.Fatalf("message %d is %.20q", got, m.payload)
			}
			got++
			r.Send(packet(tPuback, u16(m.id)))
			if n := l.inMemory("r"); n > windowMessages {
				t.Fatalf("%d messages are in memory", n)
			}
		}
		if m := r.take(); m.topic != "state" || !m.retain {
			t.Errorf("got %+v", m)
		}
		l.empty()
	}
}

// TestFullQueueOfAReaderLosesItsOldest, those in memory first, also after a restart.
func TestFullQueueOfAReaderLosesItsOldest(t *testing.T) {
	l := newLivesWith(t, func(l *lives) { l.queue = 1 << 20 })
	l.subscribed(4, "r", 1, telemetryFilter)
	const n = 1200
	l.tell(0, n/2, 10_000)
	l.restart()
	l.tell(n/2, n, 10_000)
	s := l.Stats()
	if s.Backlog > l.queue || s.Backlog < l.queue*9/10 || s.Queued != 0 {
		t.Errorf("%d messages are in memory, %d bytes in the file alone", s.Queued, s.Backlog)
	}
	r := l.reader(4, "r")
	first := r.number(r.take())
	if waited := n - first; waited < 90 || waited > 105 {
		t.Errorf("%d messages waited", waited)
	}
	r.takeNumbers(first+1, n)
	l.empty()
	l.restart()
	if l.Stats().Queued != 0 {
		t.Error("messages are back")
	}
}

// TestQueueOfAReaderMayHaveAnyBound, also the largest number.
func TestQueueOfAReaderMayHaveAnyBound(t *testing.T) {
	l := newLivesWith(t, func(l *lives) { l.queue = math.MaxInt64 })
	l.subscribed(4, "r", 1, telemetryFilter)
	l.tell(0, windowMessages+100, 10)
	if s := l.Stats(); s.Backlog == 0 || s.Queued != windowMessages {
		t.Errorf("%d messages are in memory, %d bytes in the file alone", s.Queued, s.Backlog)
	}
}

// TestDroppedMessagesAreCounted, each once.
func TestDroppedMessagesAreCounted(t *testing.T) {
	l := newLivesWith(t, func(l *lives) { l.queue = 1 << 20 })
	l.subscribed(4, "r", 1, telemetryFilter)
	const n = 800
	l.tell(0, n, 10_000)
	eventually(t, "what is not in the file is counted", func() bool { return l.Stats().Dropped["oldest"] == n-l.rows() })
	if dropped := l.Stats().Dropped["oldest"]; dropped < n-110 || dropped > n-90 {
		t.Errorf("%d were dropped", dropped)
	}
}

// TestOneReaderTakesNoSpaceOfAnother: beyond the bound for all, the one that has most loses
// messages.
func TestOneReaderTakesNoSpaceOfAnother(t *testing.T) {
	l := newLivesWith(t, func(l *lives) { l.queue = 1 << 20 })
	for i := range 5 {
		l.subscribed(4, fmt.Sprint("r", i), 1, telemetryFilter)
	}
	other := connectReader(t, l.Broker, "other", persistent(4, "other"))
	other.subscribe(telemetryFilter, 1)
	other.disconnect()
	l.awaitAway()
	const n = 420 + 85 // 4 MiB are in memory
	l.tell(0, n, 10_000)
	if s := l.Stats(); s.Backlog > allReaderQueues*l.queue || s.Backlog < allReaderQueues*l.queue*9/10 || s.Dropped["oldest"] == 0 {
		t.Errorf("%d bytes in the file alone, dropped %v", s.Backlog, s.Dropped)
	}
	other = connectReader(t, l.Broker, "other", persistent(4, "other"))
	other.takeNumbers(0, n)
}

// TestQueuesOfReadersDoNotGrowWhileSpaceIsScarce: the rest is for what devices send.
func TestQueuesOfReadersDoNotGrowWhileSpaceIsScarce(t *testing.T) {
	l := newLivesWith(t, func(l *lives) { l.scarce = true })
	l.subscribed(4, "r", 1, telemetryFilter)
	const n = 1000
	l.tell(0, n, 10_000)
	if s := l.Stats(); s.Backlog > scarceBacklog+2*10_000 || s.Backlog < scarceBacklog*9/10 {
		t.Errorf("%d bytes in the file alone", s.Backlog)
	}
	r := l.reader(4, "r")
	first := r.number(r.take())
	r.takeNumbers(first+1, n)
}

// TestRowsThatAReaderDoesNotGet: those that have expired, that cannot be read and that are not for
// it.
func TestRowsThatAReaderDoesNotGet(t *testing.T) {
	l := newLives(t)
	l.subscribed(5, "r", 1, "#", telemetryFilter)
	row := func(topic, text string, expires int64) durable.Message {
		return encodePacket(mochi.Packet{
			FixedHeader: mochi.FixedHeader{Type: mochi.Publish, Qos: 1}, ProtocolVersion: 5,
			TopicName: topic, Payload: []byte(text), Expiry: expires,
		})
	}
	now := time.Now().Unix()
	var c durable.Change
	for i, m := range []durable.Message{
		row("x", "1", 0), row("x", "late", now-10), {Packet: []byte("\x32\xff"), Version: 5}, row("x", "2", now+3600),
		row("v1/devices/pump-1/telemetry", "secret", 0), row("x", "3", 0), row("x", "late", now-10),
	} {
		c.Enqueue(1, durable.Queued{Seq: 1 + 1000*int64(i), Message: m})
	}
	l.file.Submit(&c, nil)
	l.restart()
	sub := connect(t, l.Broker, "dashboard", persistent(5, "r")) // is no reader any more
	for _, want := range []string{"1", "2", "3"} {
		if m := sub.take(); m.payload != want {
			t.Errorf("got %+v, want %s", m, want)
		}
	}
	sub.quiet()
	l.empty()
}

// TestReadersTakeOverWhileMessagesMove: none is lost, and each comes for the first time in order.
func TestReadersTakeOverWhileMessagesMove(t *testing.T) {
	for _, version := range []byte{4, 5} {
		l := newLives(t)
		l.subscribed(version, "r", 1, telemetryFilter)
		const n, more = 4 * windowMessages, 1000
		l.tell(0, n, 10)
		publishing := make(chan struct{})
		go func() {
			defer close(publishing)
			for i := int64(n); i < n+more; i++ {
				if err := l.PublishTelemetry(t.Context(), "pump-1", []payload.Message{stored(i, "n", payload.Long(i))}); err != nil {
					t.Error(err)
				}
			}
		}()
		last := int64(-1)
		for round := int64(0); last < n+more-1; round++ {
			r := l.reader(version, "r") // takes over from the one before
			for range 137*round + 1 {
				if last == n+more-1 {
					break
				}
				m := r.number(r.take())
				if m > last+1 {
					t.Fatalf("round %d: message %d came after %d", round, m, last)
				}
				last = max(last, m)
			}
		}
		<-publishing
		eventually(t, "nothing waits", func() bool { return l.Stats().Backlog == 0 })
	}
}

// TestEndOfASessionEndsItsQueueInTheFile: with a clean start, and when it expires.
func TestEndOfASessionEndsItsQueueInTheFile(t *testing.T) {
	ends(t, func(t *testing.T, version byte, l *lives, end func()) {
		l.subscribed(version, "r", 1, telemetryFilter)
		l.tell(0, 2*windowMessages, 10)
		end()
		r := connectReader(t, l.Broker, "dashboard", login{version: version, id: "r"})
		r.subscribe(telemetryFilter, 1)
		l.empty()
		l.tell(3, 5, 10)
		r.takeNumbers(3, 5)
		r.quietReader()
	})
}

// TestReaderWithoutMemoryGetsEverything: a reader that has used up its memory gets the rest of its
// messages from the file.
func TestReaderWithoutMemoryGetsEverything(t *testing.T) {
	for _, connected := range []bool{false, true} {
		l := newLives(t)
		l.subscribed(4, "r", 1, telemetryFilter)
		pub := connect(t, l.Broker, "p", login{id: "p"})
		pub.publish(message{topic: "much", payload: big(500_000), qos: 1, id: 1, retain: true})
		l.end()
		l.whole = 400_000
		l.start()
		const n = 100
		var r *client
		if connected {
			r = l.reader(4, "r")
		}
		l.tell(0, n, 5000)
		if s := l.Stats(); s.Queued > 1 {
			t.Errorf("%d messages are in memory", s.Queued)
		}
		if !connected {
			r = l.reader(4, "r")
		}
		r.takeNumbers(0, n)
		l.empty()
		if d := l.Stats().Dropped["memory"]; d != 0 {
			t.Errorf("%d were dropped", d)
		}
	}
}

// TestReaderWithRoomForLessThanAMessageGetsEverything: where the next message has no room, though a
// shorter one would have, an acknowledgement makes room.
func TestReaderWithRoomForLessThanAMessageGetsEverything(t *testing.T) {
	l := newLives(t)
	l.subscribed(4, "r", 1, telemetryFilter)
	l.ledger.mu.Lock()
	base := l.ledger.devices["dashboard"]
	l.ledger.mu.Unlock()
	const size = 5000
	l.end()
	l.memory = base + 3*(messageCost+size+100) + messageCost + size/2
	l.start()
	const n = 100
	l.tell(0, n, size)
	r := l.reader(4, "r")
	r.takeNumbers(0, n)
	l.empty()
}

// TestTooLargeMessagesHoldNothingUp: no acknowledgement comes for them.
func TestTooLargeMessagesHoldNothingUp(t *testing.T) {
	l := newLives(t)
	l.subscribed(5, "r", 1, telemetryFilter)
	const n = 3 * windowMessages
	l.tell(0, n, 300)
	l.tell(n, n+windowMessages, 10)
	small := persistent(5, "r")
	small.props = append(small.props, prop32(0x27, 200)...)
	r := connectReader(t, l.Broker, "dashboard", small)
	r.takeNumbers(n, n+windowMessages)
	l.empty()
	if d := l.Stats().Dropped["too_large"]; d != n {
		t.Errorf("%d were dropped, want %d", d, n)
	}
}

// TestBacklogThatCannotBeReadIsNotLost: the connection of the reader ends, so that it comes again.
func TestBacklogThatCannotBeReadIsNotLost(t *testing.T) {
	l := newLives(t)
	l.subscribed(4, "r", 1, telemetryFilter)
	const n = 2 * windowMessages
	l.tell(0, n, 10)
	db, err := sql.Open("sqlite", "file:"+l.path+"?_pragma=busy_timeout(5000)")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = db.Close() }()
	statement := func(text string) {
		if _, err := db.Exec(text); err != nil {
			t.Fatal(err)
		}
	}
	statement("ALTER TABLE queue RENAME TO away")
	r := l.reader(4, "r")
	for err = nil; err == nil; {
		_, err = r.Next(patience)
	}
	l.awaitAway()
	if l.Stats().KeepErrors == 0 {
		t.Error("no error is counted")
	}
	statement("ALTER TABLE away RENAME TO queue")
	eventually(t, "the file can be written again", func() bool { return l.file.Writable() == nil })
	r = l.reader(4, "r")
	first := r.number(r.take())
	if first > windowMessages {
		t.Errorf("the first message is %d", first)
	}
	r.takeNumbers(first+1, n)
	l.empty()
}

// TestBacklogNeedsTheFile: what cannot be written is not acknowledged, and not delivered later.
func TestBacklogNeedsTheFile(t *testing.T) {
	l := newLives(t)
	l.subscribed(4, "r", 1, telemetryFilter)
	l.tell(0, windowMessages+10, 10)
	before := l.Stats()
	if err := l.file.Close(); err != nil {
		t.Fatal(err)
	}
	err := l.PublishTelemetry(t.Context(), "pump-1", []payload.Message{stored(5, "n", payload.Long(5))})
	if s := l.Stats(); err == nil || !strings.Contains(err.Error(), "closed") || s.Backlog != before.Backlog {
		t.Errorf("error %v, %d bytes in the file alone, before %d", err, s.Backlog, before.Backlog)
	}
}
