package service

import (
	"io"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/zap"

	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/cmd/internal/config"
	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/cmd/internal/memory"
	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/packets"
)

// TestMemoryGuard: new connections are refused before the kernel would act, and let
// in again once there is some room, not at the first byte.
func TestMemoryGuard(t *testing.T) {
	var heap []int64
	usage, limited := memory.Usage{Limit: 1000}, true
	g := memoryGuard{
		read:    func(config.Memory) (memory.Usage, bool) { return usage, limited },
		setHeap: func(n int64) { heap = append(heap, n) },
	}
	for _, step := range []struct {
		used int64
		full bool
	}{{100, false}, {899, false}, {900, true}, {870, true}, {850, false}, {899, false}, {2000, true}} {
		usage.Used = step.used
		g.look(config.Memory{}, zap.NewNop())
		if full := g.overload() != nil; full != step.full {
			t.Errorf("with %d of 1000 used: full is %v, want %v", step.used, full, step.full)
		}
	}
	usage.Limit = 10_000
	g.look(config.Memory{}, zap.NewNop())
	limited = false
	g.look(config.Memory{}, zap.NewNop())
	if g.overload() != nil {
		t.Error("full without a limit")
	}
	if want := []int64{800, 8000, math.MaxInt64}; !slices.Equal(heap, want) {
		t.Errorf("the runtime was limited to %d, want %d", heap, want)
	}
}

func TestReadMemory(t *testing.T) {
	if _, ok := readMemory(config.Memory{}); ok {
		t.Error("there is a limit although it is off")
	}
	if u, ok := readMemory(config.Memory{Size: 1 << 30}); !ok || u.Limit != 1<<30 || u.Used <= 0 {
		t.Errorf("%+v, %v of a size", u, ok)
	}
}

// TestNoMemoryRefusesDevices: what a device is told, while who is in stays.
func TestNoMemoryRefusesDevices(t *testing.T) {
	s, log := startService(t, bundledConfig)
	live, ack := login(t, s, asDemo(s, 5))
	if ack.Code != packets.Success {
		t.Fatalf("CONNACK %v", ack.Code)
	}
	s.stop() // nobody looks what there really is
	s.memory.judge(memory.Usage{Used: 95, Limit: 100}, s.Log.Logger)
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
