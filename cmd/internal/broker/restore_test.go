package broker

import (
	"database/sql"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	mochi "github.com/mochi-mqtt/server/v2/packets"

	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/cmd/internal/broker/durable"
	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/cmd/internal/telemetry/payload"
	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/packets"
)

// lives is a broker that is started several times with one file.
type lives struct {
	t    testing.TB
	path string
	file *durable.File
	// memory is DeviceMemory and queue ReaderQueue, 0 for the default, and whole is Memory, 0 for no
	// limit. scarce says that there is little disk space, but enough.
	memory, queue, whole int64
	scarce               bool
	*Broker
}

func newLives(t testing.TB) *lives { return newLivesWith(t, func(*lives) {}) }

func newLivesWith(t testing.TB, change func(*lives)) *lives {
	l := &lives{t: t, path: filepath.Join(t.TempDir(), "sessions.db")}
	change(l)
	l.start()
	t.Cleanup(func() { l.end() })
	return l
}

func (l *lives) start() {
	l.t.Helper()
	o := durable.Options{Path: l.path, Durability: "os"}
	if l.scarce {
		o.MinFree, o.Free = 1<<30, func(string) (uint64, error) { return 3 << 29, nil }
	}
	file, err := durable.Open(l.t.Context(), o)
	if err != nil {
		l.t.Fatal(err)
	}
	l.file = file
	m := &memory{}
	l.Broker, err = New(Options{
		Telemetry: m.save("telemetry"), Attributes: m.save("attributes"), Sessions: file,
		DeviceMemory: l.memory, ReaderQueue: l.queue, Memory: func() int64 { return l.whole },
	})
	if err != nil {
		l.t.Fatal(err)
	}
	l.quietAfter = time.Millisecond // as in newBroker
}

func (l *lives) end() {
	if err := l.Broker.Close(); err != nil {
		l.t.Error(err)
	}
	if err := l.file.Close(); err != nil {
		l.t.Error(err)
	}
}

// restart ends the broker as SIGTERM does, and starts it again.
func (l *lives) restart() {
	l.t.Helper()
	l.end()
	l.start()
}

// crash starts a broker with what the files have now, as if this one had been killed.
func (l *lives) crash() {
	l.t.Helper()
	dir := l.t.TempDir()
	l.copyTo(dir)
	l.end()
	l.path = filepath.Join(dir, "sessions.db")
	l.start()
}

// copyTo copies the files as they are at one instant. A transaction that may write keeps the broker
// from changing one file after the other was copied.
func (l *lives) copyTo(dir string) {
	l.t.Helper()
	db, err := sql.Open("sqlite", "file:"+l.path+"?_txlock=immediate&_pragma=busy_timeout(30000)")
	if err != nil {
		l.t.Fatal(err)
	}
	defer func() { _ = db.Close() }()
	tx, err := db.BeginTx(l.t.Context(), nil)
	if err != nil {
		l.t.Fatal(err)
	}
	defer func() { _ = tx.Rollback() }()
	for _, end := range []string{"", "-wal"} {
		data, err := os.ReadFile(l.path + end)
		if err != nil {
			l.t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, "sessions.db"+end), data, 0o600); err != nil {
			l.t.Fatal(err)
		}
	}
}

// ends runs a test with both ways in which a process ends.
func ends(t *testing.T, test func(t *testing.T, version byte, l *lives, end func())) {
	for _, version := range []byte{4, 5} {
		for _, way := range []string{"restart", "crash"} {
			t.Run(fmt.Sprintf("MQTT %d %s", version, way), func(t *testing.T) {
				l := newLives(t)
				end := l.restart
				if way == "crash" {
					end = l.crash
				}
				test(t, version, l, end)
			})
		}
	}
}

// unsubscribe ends a subscription.
func (c *client) unsubscribe(filter string) {
	c.t.Helper()
	c.Send(packet(tUnsubscribe|2, u16(8), c.props(nil), str(filter)))
	c.Expect(packets.UNSUBACK)
}

func persistent(version byte, id string) login {
	l := login{version: version, id: id, persist: true}
	if version == 5 {
		l.props = prop32(0x11, 3600)
	}
	return l
}

// TestSessionsSurviveTheProcess: sessions keep their subscriptions, and their queues in order.
func TestSessionsSurviveTheProcess(t *testing.T) {
	ends(t, func(t *testing.T, version byte, l *lives, end func()) {
		sub := connect(t, l.Broker, "s", persistent(version, "s"))
		sub.subscribe("jobs/#", 2)
		sub.subscribe("gone", 1)
		sub.unsubscribe("gone")
		sub.disconnect()
		pub := connect(t, l.Broker, "p", login{version: version, id: "p"})
		for i := range 60 {
			pub.publish(message{topic: "jobs/x", payload: fmt.Sprint(i), qos: byte(1 + i%2), id: uint16(i + 1)})
		}
		end()
		pub = connect(t, l.Broker, "p", login{version: version, id: "p"})
		for i := range 40 {
			pub.publish(message{topic: "jobs/x", payload: fmt.Sprint(60 + i), qos: byte(1 + i%2), id: uint16(i + 1)})
		}
		pub.publish(message{topic: "gone", payload: "no", qos: 1, id: 99})
		other, ack := connack(t, l.Broker, "other", persistent(version, "s"))
		if ack.Code == 0 {
			t.Error("another device got the session")
		}
		other.Close()
		sub, ack = connack(t, l.Broker, "s", persistent(version, "s"))
		if !ack.SessionPresent {
			t.Error("there is no session")
		}
		for i, got := range sub.takeAll(100) {
			if got.payload != fmt.Sprint(i) || got.qos != byte(1+i%2) {
				t.Fatalf("message %d = %+v", i, got)
			}
		}
		sub.quiet()
		end()
		sub, ack = connack(t, l.Broker, "s", persistent(version, "s"))
		if !ack.SessionPresent {
			t.Error("there is no session after the second end")
		}
		_ = sub
		if n := l.Stats().Memory; n == 0 {
			t.Error("nothing is charged")
		}
	})
}

// TestRetainedMessagesSurviveTheProcess until they are replaced or removed.
func TestRetainedMessagesSurviveTheProcess(t *testing.T) {
	ends(t, func(t *testing.T, version byte, l *lives, end func()) {
		pub := connect(t, l.Broker, "p", login{version: version, id: "p"})
		for i, m := range []message{
			{topic: "state/a", payload: "1"}, {topic: "state/a", payload: "2"},
			{topic: "state/b", payload: "3"}, {topic: "state/b", payload: ""}, {topic: "state/c", payload: "4"},
		} {
			m.qos, m.retain, m.id = 1, true, uint16(i+1)
			pub.publish(m)
		}
		end()
		end()
		sub := connect(t, l.Broker, "s", login{version: version, id: "s"})
		sub.subscribe("state/#", 1)
		got := map[string]string{}
		for _, m := range sub.takeAll(2) {
			got[m.topic] = m.payload
			if !m.retain {
				t.Errorf("%s is not marked as retained", m.topic)
			}
		}
		sub.quiet()
		if len(got) != 2 || got["state/a"] != "2" || got["state/c"] != "4" {
			t.Errorf("retained: %v", got)
		}
	})
}

// TestCleanStartEndsAKeptSession: a clean start also deletes the session from the file.
func TestCleanStartEndsAKeptSession(t *testing.T) {
	ends(t, func(t *testing.T, version byte, l *lives, end func()) {
		sub := connect(t, l.Broker, "s", persistent(version, "s"))
		sub.subscribe("x", 1)
		sub.disconnect()
		clean := connect(t, l.Broker, "s", login{version: version, id: "s"})
		clean.disconnect()
		eventually(t, "the end of the session", func() bool { return l.Stats().Sessions == 0 })
		// A change that waits for the disk comes after those before it.
		connect(t, l.Broker, "p", login{version: version, id: "p"}).publish(message{topic: "y", payload: "1", qos: 1, id: 1, retain: true})
		end()
		if _, ack := connack(t, l.Broker, "s", persistent(version, "s")); ack.SessionPresent {
			t.Error("the session is there")
		}
	})
}

// TestHandshakesSurviveTheProcess: a message of QoS 2 is delivered once in both directions.
func TestHandshakesSurviveTheProcess(t *testing.T) {
	ends(t, func(t *testing.T, version byte, l *lives, end func()) {
		watcher := connect(t, l.Broker, "w", persistent(version, "w"))
		watcher.subscribe("x", 2)
		watcher.disconnect()
		pub := connect(t, l.Broker, "p", persistent(version, "p"))
		m := message{topic: "x", payload: "once", qos: 2, id: 7}
		pub.Send(pub.encode(m))
		pub.ExpectAck(packets.PUBREC, 7, 0)
		end()
		pub = connect(t, l.Broker, "p", persistent(version, "p"))
		pub.ExpectAck(packets.PUBREC, 7, 0) // sent again to a session that goes on
		m.dup = true
		pub.publish(m) // has not seen PUBREC
		watcher = connect(t, l.Broker, "w", persistent(version, "w"))
		got := watcher.receive()
		if got.payload != "once" {
			t.Fatalf("got %+v", got)
		}
		watcher.Send(packet(tPubrec, u16(got.id)))
		watcher.Expect(packets.PUBREL)
		end()
		watcher = connect(t, l.Broker, "w", persistent(version, "w"))
		watcher.Expect(packets.PUBREL)
		watcher.Send(packet(tPubcomp, u16(got.id)))
		watcher.quiet()
		pub = connect(t, l.Broker, "p", persistent(version, "p"))
		pub.publish(message{topic: "x", payload: "twice", qos: 2, id: 7})
		if got := watcher.receive(); got.payload != "twice" {
			t.Errorf("the identifier was not free: %+v", got)
		}
	})
}

// TestExpiryGoesOnWithoutTheProcess.
func TestExpiryGoesOnWithoutTheProcess(t *testing.T) {
	l := newLives(t)
	short := login{version: 5, id: "s", persist: true, props: prop32(0x11, 1)}
	connect(t, l.Broker, "s", short).disconnect()
	eventually(t, "the end of the connection", func() bool { return l.open() == 0 })
	var c durable.Change
	c.PutSession(durable.Session{Key: 1, ClientID: "s", Device: "s", Version: 5, Expiry: 1, Away: time.Now().Unix() - 5})
	l.file.Submit(&c, nil)
	l.restart()
	if n := l.Stats().Sessions; n != 0 {
		t.Errorf("%d sessions", n)
	}
}

// TestPublisherGetsNoAcknowledgementForWhatIsNotKept.
func TestPublisherGetsNoAcknowledgementForWhatIsNotKept(t *testing.T) {
	for _, version := range []byte{4, 5} {
		l := newLives(t)
		connect(t, l.Broker, "s", persistent(version, "s")).subscribe("x", 1)
		pub := connect(t, l.Broker, "p", login{version: version, id: "p"})
		bystander := connect(t, l.Broker, "b", login{version: version, id: "b"})
		if err := l.file.Close(); err != nil {
			t.Fatal(err)
		}
		pub.Send(pub.encode(message{topic: "x", payload: "1", qos: 1, id: 1}))
		for {
			p, err := pub.ReadPacket()
			if err != nil {
				break
			}
			if p.Type() == packets.PUBACK {
				t.Error("PUBACK")
			}
		}
		bystander.publish(message{topic: "y", payload: "1", qos: 1, id: 1})
		if n := l.Stats().KeepErrors; n != 1 {
			t.Errorf("%d errors counted", n)
		}
	}
}

// TestRepeatedMessageWhileTheFileCannotBeWritten: a publisher without an acknowledgement sends its
// message again, perhaps for hours. The session must not get a copy for each attempt.
func TestRepeatedMessageWhileTheFileCannotBeWritten(t *testing.T) {
	for qos := byte(1); qos <= 2; qos++ {
		l := newLives(t)
		sub := connect(t, l.Broker, "s", persistent(5, "s"))
		sub.subscribe("x", 2)
		sub.disconnect()
		db, err := sql.Open("sqlite", "file:"+l.path+"?_pragma=busy_timeout(30000)")
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = db.Close() }()
		statement := func(text string) {
			if _, err := db.Exec(text); err != nil {
				t.Fatal(err)
			}
		}
		publish := func() (acknowledged bool) {
			pub := connect(t, l.Broker, "p", login{version: 5, id: "p"})
			pub.Send(pub.encode(message{topic: "x", payload: "1", qos: qos, id: 1}))
			p, err := pub.ReadPacket()
			if err == nil && p.Type() == packets.DISCONNECT && p.Body()[0] == 0x83 {
				pub.ExpectEnd()
				return false
			}
			if err != nil || p.Type() != packets.PUBACK && p.Type() != packets.PUBREC {
				t.Fatalf("%v, %v", p, err)
			}
			return true
		}
		// The file looks whether it can be written again, once a second and in the other table.
		statement("ALTER TABLE queue RENAME TO queue_away; ALTER TABLE received RENAME TO received_away")
		for range 20 {
			if publish() {
				t.Fatal("an acknowledgement")
			}
		}
		statement("ALTER TABLE queue_away RENAME TO queue; ALTER TABLE received_away RENAME TO received")
		eventually(t, "an acknowledgement", publish)
		// The first attempt has found out that the file cannot be written.
		if n := l.Stats().Queued; n > 3 {
			t.Errorf("QoS %d: %d messages and handshakes are queued", qos, n)
		}
	}
}

// TestPacketsAreKeptWhole: what is encoded for the file is the packet.
func TestPacketsAreKeptWhole(t *testing.T) {
	pk := mochi.Packet{
		FixedHeader: mochi.FixedHeader{Type: mochi.Publish, Qos: 2, Retain: true}, ProtocolVersion: 5, TopicName: "x/ü",
		Payload: []byte("content"), PacketID: 9, Expiry: 77,
	}
	pk.Properties.ResponseTopic, pk.Properties.CorrelationData, pk.Properties.ContentType = "answer", []byte{0, 1}, "text/plain"
	pk.Properties.User = []mochi.UserProperty{{Key: "a", Val: "b"}}
	pk.Properties.SubscriptionIdentifier = []int{3, 4}
	pk.Properties.PayloadFormat, pk.Properties.PayloadFormatFlag = 1, true
	got, err := decodePacket(durable.Queued{Message: encodePacket(pk), PacketID: 9})
	if err != nil {
		t.Fatal(err)
	}
	got.FixedHeader.Remaining = 0
	if fmt.Sprintf("%+v", got) != fmt.Sprintf("%+v", pk) {
		t.Errorf("got\n%+v, want\n%+v", got, pk)
	}
}

func FuzzDecodePacket(f *testing.F) {
	f.Add(encodePacket(mochi.Packet{FixedHeader: mochi.FixedHeader{Type: mochi.Publish, Qos: 1}, TopicName: "x", PacketID: 1, ProtocolVersion: 5}).Packet)
	f.Fuzz(func(_ *testing.T, data []byte) {
		_, _ = decodePacket(durable.Queued{Message: durable.Message{Packet: data, Version: 5}})
	})
}

// TestOrderOfAReaderIsBounded: it remembers no more than twice what is queued, and a few more.
func TestOrderOfAReaderIsBounded(t *testing.T) {
	l := newLives(t)
	r := connectReader(t, l.Broker, "dashboard", persistent(4, "r"))
	r.subscribe("v1/devices/+/telemetry", 1)
	for i := range int64(200) {
		if err := l.PublishTelemetry(t.Context(), "pump-1", []payload.Message{stored(i, "n", payload.Long(i))}); err != nil {
			t.Fatal(err)
		}
		r.take()
		eventually(t, "it is acknowledged", func() bool { return l.Stats().Queued == 0 })
	}
	l.ledger.mu.Lock()
	defer l.ledger.mu.Unlock()
	if n := len(l.ledger.sessions["r"].order); n > 80 {
		t.Errorf("%d places are remembered", n)
	}
}

// TestBrokerStartsWithRowsThatCannotBeRead: rows that cannot be read are logged and lost.
func TestBrokerStartsWithRowsThatCannotBeRead(t *testing.T) {
	l := newLives(t)
	sub := connect(t, l.Broker, "s", persistent(4, "s"))
	sub.subscribe("x", 1)
	sub.disconnect()
	pub := connect(t, l.Broker, "p", login{id: "p"})
	pub.publish(message{topic: "x", payload: "good", qos: 1, retain: true})
	var c durable.Change
	for i, data := range []string{"", "\x32", "\x32\xff\xff\xff\xff\xff", "\x32\x05\x00\xffab", "\x10\x00", "\x32\x00"} {
		m := durable.Message{Packet: []byte(data), Version: 5}
		c.Enqueue(1, durable.Queued{Seq: int64(100 + i), PacketID: uint16(100 + i), Message: m})
		c.Retain(durable.Retained{Topic: fmt.Sprint("x/", i), Device: "s", Message: m})
	}
	l.file.Submit(&c, nil)
	for range 2 {
		l.restart()
	}
	sub = connect(t, l.Broker, "s", persistent(4, "s"))
	if got := sub.take(); got.payload != "good" {
		t.Errorf("got %+v", got)
	}
	sub.quiet()
	if n := l.Stats().Retained; n != 1 {
		t.Errorf("%d retained messages", n)
	}
}

// TestRestartLosesNothingForLackOfMemory: a message that waits in many queues takes memory once, before
// and after. What fits no more, because the bounds are smaller now, is kept all the same.
func TestRestartLosesNothingForLackOfMemory(t *testing.T) {
	for _, less := range []bool{false, true} {
		ends(t, func(t *testing.T, version byte, l *lives, end func()) {
			const sessions, messages = 10, 20
			l.whole = 4 << 20
			for i := range sessions {
				id := fmt.Sprint("s", i)
				sub := connect(t, l.Broker, id, persistent(version, id))
				sub.subscribe("x", 1)
				sub.disconnect()
			}
			pub := connect(t, l.Broker, "p", login{version: version, id: "p"})
			for i := range messages {
				pub.publish(message{topic: "x", payload: fmt.Sprint(i, " ", big(100_000)), qos: 1, retain: i == messages-1})
			}
			pub.disconnect()
			eventually(t, "they are away", func() bool { return l.open() == 0 })
			before := l.Stats()
			if less {
				l.whole, l.memory = 1<<20, 1<<20
			}
			end()
			if after := l.Stats(); after.Memory != before.Memory || after.Queued != before.Queued || after.Queued != sessions*messages || after.Retained != 1 {
				t.Errorf("before: %d bytes, %d queued; after: %d bytes, %d queued, %d retained", before.Memory, before.Queued, after.Memory, after.Queued, after.Retained)
			}
			for i := range sessions {
				id := fmt.Sprint("s", i)
				sub := connect(t, l.Broker, id, persistent(version, id))
				for k, m := range sub.takeAll(messages) {
					if !strings.HasPrefix(m.payload, fmt.Sprint(k, " ")) || len(m.payload) < 100_000 {
						t.Fatalf("%s: message %d begins with %.9q", id, k, m.payload)
					}
				}
			}
			for cause, n := range l.Stats().Dropped {
				if n != 0 {
					t.Errorf("%d dropped because of %s", n, cause)
				}
			}
		})
	}
}
