//go:build integration && linux

package soak

import (
	"flag"
	"fmt"
	"net"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/integration/harness"
	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/packets/packetstest"
)

var idleCount = flag.Int("soak.idle", 50, "how many idle devices TestIdleMemory connects; the program opens three files for each, and from 1,000 on it waits three minutes")

// TestIdleMemory: it prints what an idle device of the bundled broker takes, by kind of memory.
// Each device has a token, a connection and a session of its own. All devices are still connected
// at the end.
//
// It does not run in parallel with other stories.
func TestIdleMemory(t *testing.T) {
	for _, row := range []struct {
		name string
		dial func(*harness.Proxy) net.Conn
	}{
		{"plain", func(p *harness.Proxy) net.Conn { return packetstest.Dial(t, p.Plain) }},
		{"TLS", func(p *harness.Proxy) net.Conn { return p.DialTLS(t) }},
	} {
		t.Run(row.name, func(t *testing.T) {
			t.Run("only connected", func(t *testing.T) { measureIdle(t, row.dial, func(*testing.T, *packetstest.Client) {}) })
			t.Run("after telemetry and subscriptions", func(t *testing.T) { measureIdle(t, row.dial, beDevice) })
		})
	}
}

// beDevice makes the subscriptions of ThingsBoard's clients, and sends some telemetry.
func beDevice(t *testing.T, c *packetstest.Client) {
	t.Helper()
	for _, filter := range []string{"v1/devices/me/attributes", "v1/devices/me/attributes/response/+", "v1/devices/me/rpc/request/+", "v1/devices/me/rpc/response/+"} {
		c.Subscribe(filter, 1)
	}
	for i := range 5 {
		if err := c.Publish("v1/devices/me/telemetry", fmt.Sprintf(`{"temperature":%d,"humidity":%d}`, 20+i, 50-i)); err != nil {
			t.Fatal(err)
		}
	}
}

// measureIdle connects the devices, lets each of them do something, and measures when they have
// been idle for a while: after 10 seconds, and after the collection of garbage that Go makes every
// two minutes, when what it has freed has gone back to the system.
func measureIdle(t *testing.T, dial func(*harness.Proxy) net.Conn, do func(*testing.T, *packetstest.Client)) {
	p := harness.NewProxy(t, "")
	p.Env = append(p.Env, "MQTT_AUTH_PROXY_LOG_LEVEL=warn")
	var tokens []string
	for line := range strings.Lines(p.TokenCommand("create", "device", "--count", fmt.Sprint(*idleCount)).Stdout) {
		_, token, _ := strings.Cut(strings.TrimSpace(line), "\t")
		tokens = append(tokens, token)
		p.AddSecret(token)
	}
	p.Start()
	before := memoryOf(t, p)
	var clients []*packetstest.Client
	for i, token := range tokens {
		connect := packetstest.Identity(4, fmt.Sprint("device-", i), token)
		connect.KeepAlive = 3600
		clients = append(clients, packetstest.Connect(t, dial(p), connect))
		do(t, clients[i])
	}
	waits := []time.Duration{time.Second}
	if len(clients) >= 1000 {
		waits = []time.Duration{10 * time.Second, 170 * time.Second}
	}
	for _, calm := range waits {
		<-time.After(calm)
		after := memoryOf(t, p)
		var parts []string
		for _, kind := range memoryKinds {
			parts = append(parts, fmt.Sprintf("%s %.1f", kind, (after[kind]-before[kind])/float64(len(clients))))
		}
		if files := after["files"] - before["files"]; files > float64(3*len(clients)+10) {
			t.Errorf("%v files for %d devices", files, len(clients))
		}
		t.Logf("KiB of an idle device, of %d, after %v: %s", len(clients), calm, strings.Join(parts, ", "))
	}
	for _, c := range clients {
		c.Ping()
	}
}

// memoryKinds are the kinds of memory that memoryOf returns: all that the process takes, and what
// Go's runtime says about its parts (see [runtime.MemStats]).
var memoryKinds = []string{"PSS", "HeapAlloc", "HeapInuse", "Stack", "MSpan", "GCSys", "goroutines", "files"}

// memoryOf returns the memory of the program by kind in KiB, and the number of goroutines and of
// open files.
func memoryOf(t *testing.T, p *harness.Proxy) map[string]float64 {
	t.Helper()
	found := map[string]float64{"PSS": float64(harness.Memory(t, p)) / 1024, "files": float64(harness.Descriptors(t, p))}
	_, heap := p.Get("/debug/pprof/heap?debug=1")
	for _, m := range regexp.MustCompile(`(?m)^# (\w+) = (\d+)`).FindAllStringSubmatch(heap, -1) {
		n, _ := strconv.ParseFloat(m[2], 64)
		found[m[1]] = n / 1024
	}
	_, goroutines := p.Get("/debug/pprof/goroutine?debug=1")
	if m := regexp.MustCompile(`total (\d+)`).FindStringSubmatch(goroutines); m != nil {
		found["goroutines"], _ = strconv.ParseFloat(m[1], 64)
	}
	return found
}
