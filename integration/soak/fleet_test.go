//go:build integration && linux

package soak

import (
	"crypto/rand"
	"crypto/tls"
	"flag"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/integration/harness"
	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/packets"
	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/packets/packetstest"
)

var deviceCount = flag.Int("soak.devices", 2000, "how many devices TestFleet imports and connects")

// TestFleet: a fleet is imported while the program runs, and its devices connect one after the
// other, each with a token of its own; every tenth does so again by TLS. The broker sees every
// device once for each visit, under its own name. What it costs is printed.
//
// It does not run in parallel with other stories.
func TestFleet(t *testing.T) {
	f := &fleet{t: t, sink: harness.StartSink(t)}
	f.Proxy = harness.NewProxy(t, fmt.Sprintf("upstream: {servers: ['tcp://%s'], username: '${subject}'}\n", f.sink.Addr()))
	f.Env = append(f.Env, "MQTT_AUTH_PROXY_LOG_LEVEL=warn")
	f.Token("first")
	f.Start()
	f.report("at the start")
	f.importAll()
	f.report("after the import")
	f.connectAll("plain", f.tokens, func() (net.Conn, error) { return net.DialTimeout("tcp", f.Plain, harness.Patience) })
	f.report("after all have connected")
	trust, dialer := f.ClientTLS(t), &net.Dialer{Timeout: harness.Patience}
	f.connectAll("TLS, full handshakes", f.tokens[:len(f.tokens)/10], func() (net.Conn, error) {
		return tls.DialWithDialer(dialer, "tcp", f.TLS, trust)
	})
	f.report("at the end")
	f.checkVisits()
}

// fleet is the program between devices and a broker that accepts all.
type fleet struct {
	*harness.Proxy
	t      *testing.T
	sink   *harness.Sink
	tokens []string // that of device N at N
}

func (f *fleet) report(when string) {
	f.t.Helper()
	f.t.Logf("%s: %.1f MiB, %d files", when, float64(harness.Memory(f.t, f.Proxy))/(1<<20), harness.Descriptors(f.t, f.Proxy))
}

func deviceName(n int) string { return fmt.Sprintf("device-%06d", n) }

// importAll imports the devices from a table with their tokens, and waits until all are in force.
func (f *fleet) importAll() {
	f.t.Helper()
	table := strings.Builder{}
	table.WriteString("subject,token\n")
	for n := range *deviceCount {
		f.tokens = append(f.tokens, rand.Text())
		fmt.Fprintf(&table, "%s,%s\n", deviceName(n), f.tokens[n])
	}
	file := filepath.Join(f.t.TempDir(), "devices.csv")
	harness.WriteFile(f.t, file, table.String())
	before, begun := harness.ProcessorTime(f.t, f.Process), time.Now()
	r := f.TokenCommand("import", file, "--format", "csv")
	took := time.Since(begun)
	if want := fmt.Sprintf("added: %d\n", *deviceCount); r.Status != 0 || !strings.HasPrefix(r.Stdout, want) {
		f.t.Fatalf("import: status %d\n%s", r.Status, r.Output())
	}
	harness.Eventually(f.t, "all devices in force", func() bool {
		return int(harness.Metric(f.t, f.Proxy, `mqtt_auth_proxy_token_file_entries{source="file0"}`)) == *deviceCount+1
	})
	info, err := os.Stat(filepath.Join(f.Data, "tokens.jsonl"))
	if err != nil {
		f.t.Fatal(err)
	}
	f.t.Logf("import of %d devices: %v of processors in %v, in force %v after the beginning with %v of processors in the proxy; the file has %d bytes a device",
		*deviceCount, r.Processor, took.Round(time.Millisecond), time.Since(begun).Round(time.Millisecond),
		harness.ProcessorTime(f.t, f.Process)-before, int(info.Size())/(*deviceCount+1))
}

// connectAll connects one device after the other. It prints what a visit costs, also the least and
// the most over twenty parts of the fleet, between which the other load of the machine varies.
func (f *fleet) connectAll(kind string, tokens []string, dial func() (net.Conn, error)) {
	f.t.Helper()
	const parts = 20
	size := max(1, len(tokens)/parts)
	var each []time.Duration
	begun, first := time.Now(), harness.ProcessorTime(f.t, f.Process)
	for part := range slices.Chunk(tokens, size) {
		before := harness.ProcessorTime(f.t, f.Process)
		for i, token := range part {
			n := len(each)*size + i
			if err := visit(dial, deviceName(n), token); err != nil {
				f.t.Fatalf("%s, %s: %v", deviceName(n), kind, err)
			}
		}
		each = append(each, (harness.ProcessorTime(f.t, f.Process)-before)/time.Duration(len(part)))
	}
	used := harness.ProcessorTime(f.t, f.Process) - first
	f.t.Logf("%s: %d devices connected and left, each %v of processors (from %v to %v in parts of %d) and %v in all",
		kind, len(tokens), (used / time.Duration(len(tokens))).Round(time.Microsecond), slices.Min(each), slices.Max(each), size,
		(time.Since(begun) / time.Duration(len(tokens))).Round(time.Microsecond))
}

// visit connects a device, which leaves again, and waits for the end of the connection.
func visit(dial func() (net.Conn, error), name, token string) error {
	conn, err := dial()
	if err != nil {
		return err
	}
	defer conn.Close()
	_ = conn.SetDeadline(time.Now().Add(patience))
	_, ack, err := packetstest.Try(conn, packetstest.Identity(4, name, token))
	if err != nil {
		return err
	}
	if ack.Code != packets.Success {
		return fmt.Errorf("CONNACK %v", ack.Code)
	}
	if _, err := conn.Write([]byte{byte(packets.DISCONNECT) << 4, 0}); err != nil {
		return err
	}
	_, err = io.Copy(io.Discard, conn)
	return err
}

// checkVisits compares the connections at the broker with those of the devices.
func (f *fleet) checkVisits() {
	f.t.Helper()
	want := map[string]int{}
	for n := range f.tokens {
		want[deviceName(n)]++
		if n < len(f.tokens)/10 {
			want[deviceName(n)]++
		}
	}
	_, connects := f.sink.Reached()
	for _, c := range connects {
		if want[c.Username]--; want[c.Username] < 0 {
			f.t.Fatalf("the broker has seen %q too often", c.Username)
		}
	}
	if all := len(f.tokens) + len(f.tokens)/10; len(connects) != all {
		f.t.Errorf("the broker has seen %d connections of %d", len(connects), all)
	}
}
