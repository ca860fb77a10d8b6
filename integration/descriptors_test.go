//go:build integration && linux

package integration

import (
	"context"
	"fmt"
	"io"
	"net"
	"sync"
	"testing"
	"time"

	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/integration/harness"
	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/packets"
	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/packets/packetstest"
)

// TestSilentFlood: a client that opens connections from one address and sends nothing cannot use up
// the descriptors that the token file needs, or the places of devices at other addresses.
func TestSilentFlood(t *testing.T) {
	t.Parallel()
	const all, reserved = 200, 64
	s := harness.StartSink(t)
	p := harness.NewProxy(t, s.Upstream())
	p.Wrapper = []string{"sh", "-c", `ulimit -n 200; exec "$@"`, "sh"}
	victim, other := p.Token("victim"), p.Token("other")
	p.Start()
	live := packetstest.Connect(t, packetstest.DialFrom(t, "127.0.0.2", p.Plain), packetstest.Identity(5, "live", victim))
	if err := live.Publish("a", "b"); err != nil {
		t.Fatal(err)
	}

	stop := floodSilently(t, "127.0.0.3", p.Plain)
	displaced := `mqtt_auth_proxy_connections_refused_total{listener="plain",reason="displaced"}`
	harness.Eventually(t, "silent connections that are replaced", func() bool { return harness.Metric(t, p, displaced) > 2*all })
	for range 20 {
		if n := harness.Descriptors(t, p); n > all-reserved/2 {
			t.Errorf("%d of %d descriptors are in use", n, all)
		}
		packetstest.Connect(t, packetstest.DialFrom(t, "127.0.0.4", p.Plain), packetstest.Identity(4, "elsewhere", other))
	}
	harness.Eventually(t, "a way in from the same address", func() bool {
		conn := packetstest.DialFrom(t, "127.0.0.3", p.Plain)
		_, ack, err := packetstest.Try(conn, packetstest.Identity(4, "beside", other))
		return err == nil && ack.Code == packets.Success
	})

	revoked := time.Now()
	if r := p.TokenCommand("revoke", "victim"); r.Status != 0 {
		t.Fatal(r.Output())
	}
	if code, err := live.AwaitEnd(harness.Patience); err != nil || code != packets.AdministrativeAction {
		t.Errorf("the revoked session: %v, %v", code, err)
	}
	t.Logf("the session ended %v after its token was revoked", time.Since(revoked))
	harness.Eventually(t, fmt.Sprintf("connections that are pending during the flood, up to %d", all/4), func() bool {
		n := harness.Metric(t, p, "mqtt_auth_proxy_connections_pending")
		return n >= 10 && n <= all/4
	})
	stop()
	if n := harness.Metric(t, p, `mqtt_auth_proxy_accept_errors_total{listener="plain"}`); n != 0 {
		t.Errorf("%v connections could not be accepted", n)
	}
}

// floodSilently opens as many connections as the server accepts, and sends nothing, until
// stop is called.
func floodSilently(t *testing.T, from, to string) (stop func()) {
	ctx, cancel := context.WithCancel(t.Context())
	var running sync.WaitGroup
	for range 150 {
		running.Go(func() {
			for ctx.Err() == nil {
				d := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(from)}}
				conn, err := d.DialContext(ctx, "tcp", to)
				if err != nil {
					continue
				}
				closed := context.AfterFunc(ctx, func() { conn.Close() })
				_, _ = io.Copy(io.Discard, conn)
				closed()
				conn.Close()
			}
		})
	}
	stop = func() { cancel(); running.Wait() }
	t.Cleanup(stop)
	return stop
}

// TestOutOfDescriptors: devices that exceed the limit of open files are refused with a code that
// makes them try again, and can connect once there is room.
func TestOutOfDescriptors(t *testing.T) {
	t.Parallel()
	s := harness.StartSink(t)
	p := harness.NewProxy(t, s.Upstream())
	p.Wrapper = []string{"sh", "-c", `ulimit -n 100; exec "$@"`, "sh"}
	token := p.Token("device")
	p.Start()
	var sessions []*packetstest.Client
	for {
		d, ack := p.Present(t, 5, "device", token)
		if ack.Code == packets.ServerBusy {
			break
		}
		if sessions = append(sessions, d); ack.Code != packets.Success || len(sessions) > 50 {
			t.Fatalf("session %d: CONNACK %v", len(sessions), ack.Code)
		}
	}
	if len(sessions) < 15 {
		t.Errorf("only %d sessions with 100 descriptors", len(sessions))
	}
	for _, d := range sessions {
		if err := d.Publish("a", "b"); err != nil {
			t.Errorf("a live session: %v", err)
		}
	}
	sessions[0].Conn.Close()
	harness.Eventually(t, "a way in once a session has ended", func() bool {
		_, ack := p.Present(t, 5, "late", token)
		return ack.Code == packets.Success
	})
}
