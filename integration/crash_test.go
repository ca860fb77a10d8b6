//go:build integration

package integration

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/integration/harness"
	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/packets"
	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/packets/packetstest"
)

// firstPoint is the time of the first point in milliseconds since 1970: early
// enough for all to lie in the past, late enough for none to be deleted for its age.
var firstPoint = time.Now().Add(-24 * time.Hour).UnixMilli()

// telemetryPoint returns a payload whose time identifies it.
func telemetryPoint(n int) string {
	return fmt.Sprintf(`{"ts":%d,"values":{"n":%d}}`, firstPoint+int64(n), n)
}

// checkStored fails the test if a message that was acknowledged is not in the store.
func checkStored(t *testing.T, p *harness.Proxy, f *fleet) {
	t.Helper()
	stored := storedPoints(t, p, "fleet")
	if n := missing(f.acked, stored); n > 0 {
		t.Errorf("%d of %d acknowledged points are lost", n, len(f.acked))
	}
	t.Logf("%d points acknowledged, %d stored", len(f.acked), len(stored))
}

// storedPoints returns the points of a device that are in the store.
func storedPoints(t *testing.T, p *harness.Proxy, device string) map[string]bool {
	t.Helper()
	path := fmt.Sprintf("/api/plugins/telemetry/DEVICE/%s/values/timeseries?keys=n&startTs=%d&endTs=%d&limit=200000&useStrictDataTypes=true",
		device, firstPoint, firstPoint+1e9)
	status, body := p.Get(path)
	var points map[string][]struct {
		TS    int64
		Value int
	}
	if err := json.Unmarshal([]byte(body), &points); status != 200 || err != nil {
		t.Fatalf("status %d, %v: %.300s", status, err, body)
	}
	stored := map[string]bool{}
	for _, point := range points["n"] {
		if point.TS != firstPoint+int64(point.Value) {
			t.Fatalf("point %d has the time of point %d", point.Value, point.TS-firstPoint)
		}
		stored[telemetryPoint(point.Value)] = true
	}
	return stored
}

// TestPowerFailure: messages that were acknowledged are stored, although the process is
// killed several times while it works.
func TestPowerFailure(t *testing.T) {
	t.Parallel()
	p := harness.NewProxy(t, "")
	token := p.Token("fleet")
	p.Start()
	next := 0
	all := &fleet{acked: map[string]bool{}}
	for range 3 {
		first := next
		f := launchFleet(t, p, token, "v1/devices/me/telemetry", func(n int) string { return telemetryPoint(first + n) })
		p.Kill()
		f.running.Wait()
		for payload := range f.acked {
			all.acked[payload] = true
		}
		next += 10_000_000
		p.Start()
		checkStored(t, p, all)
	}
}

// TestPowerFailureOfAGateway: what a gateway has sent for several devices in one message is there for
// all of them or for none, and for all if it was acknowledged.
func TestPowerFailureOfAGateway(t *testing.T) {
	t.Parallel()
	p := harness.NewProxy(t, "")
	token := p.Token("gw", "--gateway")
	p.Start()
	for round := range 2 {
		f := launchFleet(t, p, token, "v1/gateway/telemetry", func(n int) string {
			point := telemetryPoint(round*10_000_000 + n)
			return `{"a":[` + point + `],"b":` + point + `}`
		})
		p.Kill()
		f.running.Wait()
		p.Start()
		a, b := storedPoints(t, p, "gw%2Fa"), storedPoints(t, p, "gw%2Fb")
		if missing(a, b)+missing(b, a) > 0 {
			t.Errorf("%d points of one device and %d of the other are alone", missing(a, b), missing(b, a))
		}
		acked := map[string]bool{}
		for text := range f.acked {
			_, point, _ := strings.Cut(strings.TrimSuffix(text, "}"), `"b":`)
			acked[point] = true
		}
		if n := missing(acked, b); n > 0 {
			t.Errorf("%d of %d acknowledged messages are lost", n, len(f.acked))
		}
		t.Logf("%d messages acknowledged, %d stored", len(f.acked), len(b))
	}
}

// TestQueuesSurviveTheProcess: a consumer whose session outlives its connection gets every message
// that was acknowledged while it was away, in the order of each publisher, and retained messages stay,
// although the process ends in between.
func TestQueuesSurviveTheProcess(t *testing.T) {
	t.Parallel()
	p := harness.NewProxy(t, "")
	publisher, consumer := p.Token("fleet"), p.Token("consumer")
	p.Start()
	state := p.Connect(t, 4, "state", publisher)
	retained := packets.Publish{QoS: 1, Retain: true, PacketID: state.NextID(), Topic: []byte("state/pump"), Payload: []byte("on")}
	state.Send(retained.Append(nil, 4))
	state.ExpectAck(packets.PUBACK, retained.PacketID, 0)
	session := packetstest.Identity(4, "consumer", consumer)
	session.CleanStart = false
	away := packetstest.Connect(t, packetstest.Dial(t, p.Plain), session)
	away.MustSubscribe("jobs/#", 1)
	away.Disconnect()
	for round := range 4 {
		f := launchFleet(t, p, publisher, "jobs/fleet", func(n int) string { return fmt.Sprintf("%d %d", round, n) })
		if round%2 == 0 {
			p.Kill()
		} else {
			p.Stop()
		}
		f.running.Wait()
		p.Start()
		back, ack := packetstest.Present(t, packetstest.Dial(t, p.Plain), session)
		if !ack.SessionPresent {
			t.Fatalf("round %d: there is no session", round)
		}
		came := drain(t, back, round)
		if n := missing(f.acked, came); n > 0 {
			t.Errorf("round %d: %d of %d acknowledged messages are lost", round, n, len(f.acked))
		}
		t.Logf("round %d: %d messages acknowledged, %d came", round, len(f.acked), len(came))
		back.Disconnect()
	}
	late := p.Connect(t, 5, "late", consumer)
	late.MustSubscribe("state/#", 1)
	if m, err := late.Next(harness.Patience); err != nil || !m.Retain || string(m.Payload) != "on" {
		t.Errorf("retained message %q, %v", m.Payload, err)
	}
}

// drain takes all messages of a round that wait for a session, and checks their order.
func drain(t *testing.T, c *packetstest.Client, round int) map[string]bool {
	t.Helper()
	const end = "the end of the queue"
	if err := c.Publish("jobs/end", end); err != nil { // comes behind what waits
		t.Fatal(err)
	}
	came := map[string]bool{}
	last := map[int]int{} // of each publisher
	for {
		m, err := c.Next(harness.Patience)
		if err != nil {
			t.Fatalf("after %d messages: %v", len(came), err)
		}
		payload := string(m.Payload)
		if payload == end {
			return came
		}
		var r, n int
		if _, err := fmt.Sscan(payload, &r, &n); err != nil || r != round {
			t.Fatalf("%q came in round %d", payload, round)
		}
		if from := n % 8; !came[payload] {
			if n < last[from] {
				t.Errorf("%d came after %d", n, last[from])
			}
			last[from] = n
		}
		came[payload] = true
	}
}

// TestQueueOfAReaderSurvivesTheProcess: a reader that was away gets every message that a device has
// an acknowledgement for, in the order of each device, although there are more than are kept in
// memory and the process ends in between, also while they are on their way.
func TestQueueOfAReaderSurvivesTheProcess(t *testing.T) {
	t.Parallel()
	p := harness.NewProxy(t, "")
	publisher := p.Token("fleet")
	session := packetstest.Identity(4, "dashboard", p.Token("dashboard", "--role", "reader"))
	session.CleanStart = false
	p.Start()
	away := packetstest.Connect(t, packetstest.Dial(t, p.Plain), session)
	away.MustSubscribe("v1/devices/+/telemetry", 1)
	away.Disconnect()
	q := readerQueue{came: map[int]bool{}, last: map[int]int{}}
	acked := map[string]bool{}
	for round := range 6 {
		f := launchFleet(t, p, publisher, "v1/devices/me/telemetry", func(n int) string { return telemetryPoint(round*10_000_000 + n) })
		if round > 2 {
			q.take(t, packetstest.Connect(t, packetstest.Dial(t, p.Plain), session), 400)
		}
		if round%2 == 0 {
			p.Kill()
		} else {
			p.Stop()
		}
		f.running.Wait()
		for payload := range f.acked {
			acked[payload] = true
		}
		p.Start()
		if n := harness.Metric(t, p, "mqtt_auth_proxy_bundled_readers_backlog_bytes"); round == 2 && n == 0 {
			t.Error("all messages are in memory")
		}
	}
	end := p.Connect(t, 5, "end", publisher)
	if err := end.Publish("v1/devices/me/telemetry", telemetryPoint(endOfQueue)); err != nil { // comes behind what waits
		t.Fatal(err)
	}
	q.take(t, packetstest.Connect(t, packetstest.Dial(t, p.Plain), session), endOfQueue)
	lost := 0
	for payload := range acked {
		if !q.came[q.number(t, payload)] {
			lost++
		}
	}
	if lost > 0 {
		t.Errorf("%d of %d acknowledged messages are lost", lost, len(acked))
	}
	t.Logf("%d messages acknowledged, %d came", len(acked), len(q.came))
}

// endOfQueue is the number of the last message.
const endOfQueue = 100_000_000

// readerQueue is what has come to a reader.
type readerQueue struct {
	came map[int]bool
	last map[int]int // of each device
}

// number returns the number of a message.
func (*readerQueue) number(t *testing.T, payload string) (n int) {
	t.Helper()
	var ts int64
	if _, err := fmt.Sscanf(payload, `{"ts":%d,"values":{"n":%d}}`, &ts, &n); err != nil {
		t.Fatalf("%q: %v", payload, err)
	}
	return n
}

// take takes some messages, or all up to the last one, and checks their order.
func (q *readerQueue) take(t *testing.T, c *packetstest.Client, most int) {
	t.Helper()
	for range most {
		m, err := c.Next(harness.Patience)
		if err != nil {
			t.Fatalf("after %d messages: %v", len(q.came), err)
		}
		n := q.number(t, string(m.Payload))
		if n == endOfQueue {
			return
		}
		if device := n % 8; !q.came[n] {
			if n < q.last[device] {
				t.Errorf("%d came after %d", n, q.last[device])
			}
			q.last[device] = n
		}
		q.came[n] = true
	}
}
