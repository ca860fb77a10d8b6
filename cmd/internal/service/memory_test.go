package service

import (
	"bytes"
	"io"
	"runtime"
	"strings"
	"testing"

	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/packets"
)

// TestNoMemoryRefusesDevices: without memory new devices get a CONNACK that says so, and the
// sessions stay.
func TestNoMemoryRefusesDevices(t *testing.T) {
	s, log := startService(t, bundledConfig)
	live := connectDemo(t, s, 5)
	used := bytes.Repeat([]byte{1}, 64<<20)
	defer runtime.KeepAlive(used)
	edit(t, s, bundledConfig+"limits: {memory: 32MiB}\n")
	if err := reload(t, s); err != nil {
		t.Fatal(err)
	}
	await(t, "a measurement", func() bool { return s.memory.Overload() != nil })
	refused, ack := login(t, s, asDemo(s, 5))
	if ack.Code != packets.ServerBusy {
		t.Errorf("CONNACK %v, want %v", ack.Code, packets.ServerBusy)
	}
	if _, err := io.ReadAll(refused); err != nil {
		t.Error(err)
	}
	live.Ping()
	for _, want := range []string{"memory is nearly used up", `"reason":"busy"`} {
		await(t, "line with "+want, func() bool { return strings.Contains(log.String(), want) })
	}
}
