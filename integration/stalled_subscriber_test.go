//go:build integration && linux

package integration

import (
	"fmt"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/packets"
)

// A device subscribes and stops reading while another publishes to it as fast as the
// broker takes it. The proxy stops reading from the broker for this session, so its
// memory does not grow; everybody else goes on as if nothing were; after
// limits.write_timeout the session is over. The device sees its connection end, and
// is let in again.
func TestSubscriberThatStopsReading(t *testing.T) {
	const timeout, room = 2 * time.Second, 24 << 20
	m := startMosquitto(t)
	p := newProxy(t, m.upstream()+fmt.Sprintf("limits: {write_timeout: %v}\n", timeout))
	sleeper, loud, quiet := p.token("sleeper"), p.token("loud"), p.token("quiet")
	p.start()

	conn := dial(t, p.plain)
	if err := conn.(*net.TCPConn).SetReadBuffer(64 << 10); err != nil {
		t.Fatal(err)
	}
	stalled := connect(t, conn, identity(4, "sleeper", sleeper))
	stalled.subscribe(t, "flood", 0)
	publisher := connect(t, dial(t, p.plain), identity(4, "loud", loud))
	witness := connect(t, dial(t, p.plain), identity(5, "quiet", quiet))
	before := memory(t, p)

	flood := packets.Publish{Topic: []byte("flood"), Payload: make([]byte, 64<<10)}
	raw := flood.Append(nil, 4)
	over := func() bool { return strings.Contains(p.stderr.String(), "peer stopped reading") }
	slowest, grown := time.Duration(0), int64(0)
	for start := time.Now(); !over(); {
		if time.Since(start) > patience {
			t.Fatalf("the session does not end\n%s", p.stderr)
		}
		// 32 MiB are more than the sockets in between hold; then it is kept waiting.
		for range 8 {
			if time.Since(start) < timeout/2 {
				if _, err := publisher.conn.Write(raw); err != nil {
					t.Fatal("publish:", err)
				}
			}
		}
		sent := time.Now()
		if err := witness.publish("elsewhere", "still here"); err != nil {
			t.Fatal("the witness:", err)
		}
		slowest = max(slowest, time.Since(sent))
		grown = max(grown, memory(t, p)-before)
		time.Sleep(10 * time.Millisecond)
	}
	t.Logf("the proxy grew by %.1f MiB, the witness waited for %v at most", float64(grown)/(1<<20), slowest)
	if grown > room {
		t.Errorf("the proxy grew by %d bytes beside a subscriber that does not read", grown)
	}
	if slowest > timeout {
		t.Errorf("another device waited for %v", slowest)
	}
	if _, err := stalled.farewell(patience); err != nil {
		t.Error("the subscriber:", err)
	}

	again := connect(t, dial(t, p.plain), identity(4, "sleeper", sleeper))
	again.subscribe(t, "calm", 1)
	if err := witness.publish("calm", "welcome back"); err != nil {
		t.Fatal(err)
	}
	if got, err := again.next(patience); err != nil || string(got.Payload) != "welcome back" {
		t.Errorf("after it has come back: %q, %v", got.Payload, err)
	}
}
