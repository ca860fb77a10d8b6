package service

import (
	"io"
	"strings"
	"testing"

	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/cmd/internal/host"
	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/packets"
)

// TestNoMemoryRefusesDevices: without memory new devices get a CONNACK that says so, and the
// sessions stay.
func TestNoMemoryRefusesDevices(t *testing.T) {
	s, log := startService(t, bundledConfig)
	live, ack := login(t, s, asDemo(s, 5))
	if ack.Code != packets.Success {
		t.Fatalf("CONNACK %v", ack.Code)
	}
	s.cancel() // ends the checks against the limit of the config
	s.memory.Check(host.MemoryLimit{Size: 1})
	refused, ack := login(t, s, asDemo(s, 5))
	if ack.Code != packets.ServerBusy {
		t.Errorf("CONNACK %v, want %v", ack.Code, packets.ServerBusy)
	}
	// It is logged before the connection ends.
	if _, err := io.ReadAll(refused); err != nil {
		t.Error(err)
	}
	live.Ping()
	for _, want := range []string{"memory is nearly used up", `"reason":"busy"`} {
		if !strings.Contains(log.String(), want) {
			t.Errorf("the log lacks %s", want)
		}
	}
}
