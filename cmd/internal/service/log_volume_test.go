package service

import (
	"bytes"
	"io"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/packets"
)

// TestDevicesOfTheBundledBrokerCannotFillTheDisk: payloads that cannot be stored, and
// packets on which the decoder of the broker panics, do not make much log.
func TestDevicesOfTheBundledBrokerCannotFillTheDisk(t *testing.T) {
	start := time.Now()
	s, log := startService(t, `
listeners: [{address: "127.0.0.1:0"}]
admin: {address: "127.0.0.1:0"}
`)
	bad := (&packets.Publish{Topic: []byte("v1/devices/me/telemetry"), Payload: []byte("{bad")}).Append(nil, 4)
	const truncated = "\x82\x06\x04\xd2\x00\x00\x01p" // SUBSCRIBE without the options of its filter
	for range 150 {
		nc := connectDemo(t, s, 5)
		_, _ = nc.Write([]byte(truncated))
		_, _ = io.Copy(io.Discard, nc)
		nc.Close()
	}
	nc, _ := login(t, s, asDemo(s, 4))
	_, _ = nc.Write(bytes.Repeat(bad, 5000))
	awaitAnswer(t, nc)
	text := log.String()
	// Of each kind there are a hundred lines at once, ten more a second, and one stack
	// trace a minute.
	took := int(time.Since(start).Seconds()) + 1
	lines, stacks := 100+10*took, 1+took/60
	if n := strings.Count(text, `"stack"`); n > stacks {
		t.Errorf("%d stack traces", n)
	}
	for _, message := range []string{"panic in the bundled broker", "device sent a payload that cannot be stored"} {
		if n := strings.Count(text, message); n > lines {
			t.Errorf("%d lines %q", n, message)
		}
	}
	if len(text) > 2000*lines {
		t.Errorf("%d bytes of log in %d s", len(text), took)
	}
	if !strings.Contains(text, "device sent a payload that cannot be stored") {
		t.Error("nothing is logged about payloads")
	}
}

// awaitAnswer waits until everything that was sent has been handled.
func awaitAnswer(t *testing.T, nc net.Conn) {
	t.Helper()
	if _, err := nc.Write([]byte{byte(packets.PINGREQ) << 4, 0}); err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadFull(nc, make([]byte, 2)); err != nil {
		t.Fatal(err)
	}
}
