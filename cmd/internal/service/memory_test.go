package service

import (
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/cmd/internal/config"
	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/cmd/internal/host"
	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/packets"
)

// TestNoMemoryRefusesDevices: new devices get a CONNACK that says so, sessions stay.
func TestNoMemoryRefusesDevices(t *testing.T) {
	s, log := startService(t, bundledConfig)
	live, ack := login(t, s, asDemo(s, 5))
	if ack.Code != packets.Success {
		t.Fatalf("CONNACK %v", ack.Code)
	}
	s.stop() // ends the checks against the limit of the config
	s.memory.Check(host.MemoryLimit{Size: 1})
	refused, ack := login(t, s, asDemo(s, 5))
	if ack.Code != packets.ServerBusy {
		t.Errorf("CONNACK %v, want %v", ack.Code, packets.ServerBusy)
	}
	// It is logged before the connection ends.
	if _, err := io.ReadAll(refused); err != nil {
		t.Error(err)
	}
	if _, err := live.Write([]byte{0xc0, 0}); err != nil {
		t.Fatal(err)
	}
	if raw, err := packets.ReadPacket(live, 10); err != nil || raw[0] != 0xd0 {
		t.Errorf("the live session: % x, %v", raw, err)
	}
	for _, want := range []string{"memory is nearly used up", `"reason":"busy"`} {
		if !strings.Contains(log.String(), want) {
			t.Errorf("the log lacks %s", want)
		}
	}
}

func TestSpread(t *testing.T) {
	for _, c := range []struct {
		drain, spread time.Duration
		sessions      int
		want          time.Duration
	}{
		{30 * time.Second, 10 * time.Second, 0, 0},
		{30 * time.Second, 10 * time.Second, 100, 200 * time.Millisecond},
		{30 * time.Second, 10 * time.Second, 100_000, 10 * time.Second},
		{4 * time.Second, 10 * time.Second, 100_000, 2 * time.Second},
		{0, 10 * time.Second, 100_000, 0},
		{30 * time.Second, 0, 100_000, 0},
	} {
		if got := spread(config.Shutdown{Drain: c.drain, Spread: c.spread}, c.sessions); got != c.want {
			t.Errorf("%d sessions in %v at most %v: %v, want %v", c.sessions, c.drain, c.spread, got, c.want)
		}
	}
}

// TestDelay: for a while everything goes on, unless a signal says that nobody waits.
func TestDelay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		signals := make(chan os.Signal, 1)
		start := time.Now()
		if !new(Service).lingered(signals, 5*time.Second) || time.Since(start) != 5*time.Second {
			t.Errorf("went on for %v, want 5s", time.Since(start))
		}
		signals <- os.Interrupt
		if new(Service).lingered(signals, time.Hour) || time.Since(start) != 5*time.Second {
			t.Errorf("a second signal was not heard for %v", time.Since(start)-5*time.Second)
		}
	})
}

func TestExposed(t *testing.T) {
	for address, want := range map[string]bool{
		":1883": true, "0.0.0.0:1883": true, "[::]:1883": true, "203.0.113.7:1883": true, "[2001:db8::1]:1883": true,
		"127.0.0.1:1883": false, "[::1]:1883": false, "localhost:1883": false, "10.1.2.3:1883": false, "192.168.1.1:1883": false,
		"[fd00::1]:1883": false, "[::ffff:10.0.0.1]:1883": false, "broker.internal:1883": false, "systemd:mqtt": false,
	} {
		if got := exposed(address); got != want {
			t.Errorf("%s: %v, want %v", address, got, want)
		}
	}
}

func TestWarnings(t *testing.T) {
	dir := t.TempDir()
	write := func(name, text string, mode os.FileMode) {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), mode); err != nil {
			t.Fatal(err)
		}
		if err := os.Chmod(filepath.Join(dir, name), mode); err != nil {
			t.Fatal(err)
		}
	}
	write("proxy.yaml", `
listeners: [{address: ":1883"}, {address: ":8884", proxy_protocol: {trusted: [10.0.0.0/8]}}, {address: ":8883", tls: {certificate: a.pem, key: a-key.pem}}]
admin: {push_secret_file: push}
`, 0o600)
	write("a.pem", "x", 0o644)
	write("a-key.pem", "x", 0o644)
	write("push", "x", 0o600)
	c, err := config.Load(config.Options{Path: filepath.Join(dir, "proxy.yaml")})
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, w := range warnings(c) {
		got = append(got, w.Key)
	}
	if want := []string{"listeners[0].address", "listeners[2].tls.key"}; !slices.Equal(got, want) {
		t.Errorf("warned about %q, want %q", got, want)
	}
}
