//go:build integration && linux

package integration

import (
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

	// Once a message has come through, what serves idle sessions is there.
	if err := live.publish("a", "b"); err != nil {
		t.Fatal(err)
	}
	before := descriptors(t, p)
	for range 100 {
		dial(t, p.plain) // and not a word
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
	eventually(t, "the closing of all that was opened", func() bool { return descriptors(t, p) <= before })
}
