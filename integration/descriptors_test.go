//go:build integration && linux

package integration

import (
	"net"
	"testing"

	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/packets"
)

// TestOutOfDescriptors: more clients than the system allows files cost nothing but
// time. The listener comes back by itself.
func TestOutOfDescriptors(t *testing.T) {
	t.Parallel()
	s := startSink(t)
	p := newProxy(t, s.upstream()+"connect: {timeout: 2s}\n")
	p.wrapper = []string{"sh", "-c", `ulimit -n 64; exec "$@"`, "sh"}
	token := p.token("device")
	p.start()
	live := connect(t, dial(t, p.plain), identity(4, "live", token))

	silent := make([]net.Conn, 100)
	for i := range silent {
		silent[i] = dial(t, p.plain)
	}
	p.awaitLog("failure to accept", func(l logged) bool { return l["message"] == "cannot accept connections" })
	if err := live.publish("a", "b"); err != nil {
		t.Errorf("the live session: %v", err)
	}
	eventually(t, "a way in once the silent ones are thrown out", func() bool {
		conn := dial(t, p.plain)
		defer conn.Close()
		if _, err := conn.Write(identity(4, "late", token).Append(nil)); err != nil {
			return false
		}
		raw, err := (&device{conn: conn}).read(patience)
		var ack packets.Connack
		return err == nil && ack.Parse(raw, 4) == nil && ack.Code == packets.Success
	})
	if err := live.publish("a", "b"); err != nil {
		t.Errorf("the live session: %v", err)
	}
	if n := descriptors(t, p); n > 64 {
		t.Errorf("%d files are open, which the system does not allow", n)
	}
}
