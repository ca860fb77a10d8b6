//go:build integration && linux

package integration

import (
	"fmt"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/integration/harness"
	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/packets"
	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/packets/packetstest"
)

// TestSubscriberThatStopsReading: a device subscribes and stops reading while another
// publishes as fast as the broker takes it. The proxy stops reading from the broker for
// this session, so its memory does not grow, and other devices are not affected. After
// limits.write_timeout the session ends. The device can connect again.
func TestSubscriberThatStopsReading(t *testing.T) {
	const timeout, room = 5 * time.Second, 24 << 20
	m := harness.StartMosquitto(t)
	p := harness.NewProxy(t, m.Upstream()+fmt.Sprintf("limits: {write_timeout: %v}\n", timeout))
	sleeper, loud, quiet := p.Token("sleeper"), p.Token("loud"), p.Token("quiet")
	p.Start()

	conn := packetstest.Dial(t, p.Plain)
	if err := conn.(*net.TCPConn).SetReadBuffer(64 << 10); err != nil {
		t.Fatal(err)
	}
	stalled := packetstest.Connect(t, conn, packetstest.Identity(4, "sleeper", sleeper))
	stalled.MustSubscribe("flood", 0)
	publisher := p.Connect(t, 4, "loud", loud)
	witness := p.Connect(t, 5, "quiet", quiet)
	before := harness.Memory(t, p)

	flood := packets.Publish{Topic: []byte("flood"), Payload: make([]byte, 64<<10)}
	raw := flood.Append(nil, 4)
	over := func() bool { return strings.Contains(p.Stderr.String(), "peer stopped reading") }
	slowest, grown := time.Duration(0), int64(0)
	for start := time.Now(); !over(); {
		if time.Since(start) > harness.Patience {
			t.Fatalf("the session does not end\n%s", p.Stderr)
		}
		// 32 MiB are more than fits into the sockets in between; the rest has to wait.
		for range 8 {
			if time.Since(start) < time.Second {
				if _, err := publisher.Conn.Write(raw); err != nil {
					t.Fatal("publish:", err)
				}
			}
		}
		sent := time.Now()
		if err := witness.Publish("elsewhere", "still here"); err != nil {
			t.Fatal("the witness:", err)
		}
		slowest = max(slowest, time.Since(sent))
		grown = max(grown, harness.Memory(t, p)-before)
		time.Sleep(10 * time.Millisecond)
	}
	t.Logf("the proxy grew by %.1f MiB, the witness waited for %v at most", float64(grown)/(1<<20), slowest)
	if grown > room {
		t.Errorf("the proxy grew by %d bytes with a subscriber that does not read", grown)
	}
	if slowest > timeout {
		t.Errorf("another device waited for %v", slowest)
	}
	if _, err := stalled.AwaitEnd(harness.Patience); err != nil {
		t.Error("the subscriber:", err)
	}

	again := p.Connect(t, 4, "sleeper", sleeper)
	again.MustSubscribe("calm", 1)
	if err := witness.Publish("calm", "welcome back"); err != nil {
		t.Fatal(err)
	}
	if got, err := again.Next(harness.Patience); err != nil || string(got.Payload) != "welcome back" {
		t.Errorf("after it has come back: %q, %v", got.Payload, err)
	}
}
