//go:build integration && linux

package soak

import (
	"crypto/rand"
	"flag"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/integration/harness"
	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/packets/packetstest"
)

var messageCount = flag.Int("soak.messages", 2000, "how many messages TestCosts stores with each store")

// costRounds is how often TestCosts measures each cost.
const costRounds = 4

// TestCosts: it prints what one device and one message cost with the parts that package bench
// does not measure: sessions and messages of the bundled broker with each store, and tokens in
// PostgreSQL. All messages are acknowledged, and all devices let in.
//
// It does not run in parallel with other stories.
func TestCosts(t *testing.T) {
	t.Run("SQLite", func(t *testing.T) { storeMessages(t, "", nil) })
	t.Run("PostgreSQL", func(t *testing.T) {
		server := harness.StartPostgres(t)
		dsn := filepath.Join(t.TempDir(), "dsn")
		harness.WriteFile(t, dsn, server.Database("telemetry")+"\n")
		storeMessages(t, "telemetry: {postgres: {dsn_file: '"+dsn+"'}}\n", server)
	})
	t.Run("tokens in PostgreSQL", lookUpTokens)
	t.Run("messages of quiet sessions", wakeSessions)
}

// costs compares the processor time before and after.
type costs struct {
	t        *testing.T
	proxy    *harness.Proxy
	server   *harness.Postgres // nil without
	ofProxy  time.Duration
	ofServer time.Duration
}

// begin notes the time so far.
func (c *costs) begin() {
	c.ofProxy, c.ofServer = harness.ProcessorTime(c.t, c.proxy.Process), 0
	if c.server != nil {
		c.ofServer = harness.ProcessorTime(c.t, c.server.Process)
	}
}

// end prints the time since begin for each of n.
func (c *costs) end(what string, n int) {
	each := func(p *harness.Process, before time.Duration) time.Duration {
		return ((harness.ProcessorTime(c.t, p) - before) / time.Duration(n)).Round(time.Microsecond)
	}
	text := fmt.Sprintf("%s: %v of processors in the proxy", what, each(c.proxy.Process, c.ofProxy))
	if c.server != nil {
		text += fmt.Sprintf(", %v in PostgreSQL", each(c.server.Process, c.ofServer))
	}
	c.t.Log(text)
}

// storeMessages connects devices to the bundled broker, and lets them publish with QoS 1.
func storeMessages(t *testing.T, telemetry string, server *harness.Postgres) {
	const devices = 200
	p := harness.NewProxy(t, telemetry)
	p.Env = append(p.Env, "MQTT_AUTH_PROXY_LOG_LEVEL=warn")
	var tokens []string
	for line := range strings.Lines(p.TokenCommand("create", "device", "--count", fmt.Sprint(devices)).Stdout) {
		_, token, _ := strings.Cut(strings.TrimSpace(line), "\t")
		tokens = append(tokens, token)
		p.AddSecret(token)
	}
	p.Start()
	c := &costs{t: t, proxy: p, server: server}
	before := harness.Memory(t, p)
	clients := make([]*packetstest.Client, 0, devices)
	c.begin()
	for i, token := range tokens {
		clients = append(clients, p.Connect(t, 4, fmt.Sprint("device-", i), token))
	}
	c.end("a connect", devices)
	t.Logf("a session: %.1f KiB", float64(harness.Memory(t, p)-before)/devices/1024)
	publishAll(t, clients, devices) // makes the keys and the partitions
	for range costRounds {
		c.begin()
		begun := time.Now()
		publishAll(t, clients, *messageCount)
		c.end(fmt.Sprintf("a stored message, at %.0f a second", float64(*messageCount)/time.Since(begun).Seconds()), *messageCount)
	}
	stored := devices + costRounds*(*messageCount/devices)*devices
	if server != nil {
		size := server.SQL("telemetry", "SELECT sum(pg_total_relation_size(c.oid)) FROM pg_class c WHERE c.relnamespace = 'mqtt_auth_proxy'::regnamespace AND c.relkind = 'r'")
		t.Logf("%s bytes in tables and indexes for %d messages", size, stored)
	}
	p.Stop()
	if info, err := os.Stat(filepath.Join(p.Data, "telemetry.db")); err == nil {
		t.Logf("%d bytes in telemetry.db for %d messages", info.Size(), stored)
	}
}

// publishAll sends n messages from all devices at the same time, each of which waits for the
// acknowledgement before it sends the next one.
func publishAll(t *testing.T, clients []*packetstest.Client, n int) {
	t.Helper()
	var all sync.WaitGroup
	for _, c := range clients {
		all.Go(func() {
			for i := range n / len(clients) {
				if err := c.Publish("v1/devices/me/telemetry", fmt.Sprintf(`{"temperature":%d,"humidity":%d}`, i, 100-i%100)); err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	all.Wait()
}

// lookUpTokens connects devices whose tokens are in PostgreSQL: for the first time, and again.
func lookUpTokens(t *testing.T) {
	server, sink := harness.StartPostgres(t), harness.StartSink(t)
	dsn := filepath.Join(t.TempDir(), "dsn")
	harness.WriteFile(t, dsn, server.Database("tokens")+"\n")
	p := harness.NewProxy(t, sink.Upstream()+"auth: {sources: [{postgres: {dsn_file: '"+dsn+"'}}], cache: {ttl: 1h}}\n")
	p.Env = append(p.Env, "MQTT_AUTH_PROXY_LOG_LEVEL=warn")
	if r := harness.Run(t, harness.Binary(), "store", "migrate", "--config", p.Config); r.Status != 0 {
		t.Fatal(r.Output())
	}
	p.AddSecret(server.Password)
	p.Start()
	dial := func() (net.Conn, error) { return net.DialTimeout("tcp", p.Plain, harness.Patience) }
	c := &costs{t: t, proxy: p, server: server}
	for round := range costRounds {
		tokens := insertTokens(server, round)
		for _, when := range []string{"the first connect of a device", "a connect with a remembered token"} {
			c.begin()
			for i, token := range tokens {
				if err := visit(dial, deviceName(i), token); err != nil {
					t.Fatal(err)
				}
			}
			c.end(when, len(tokens))
		}
	}
	t.Logf("%.0f bytes of memory for a remembered answer", harness.Metric(t, p, `mqtt_auth_proxy_cache_bytes{source="postgres0",store="positive"}`)/
		harness.Metric(t, p, `mqtt_auth_proxy_cache_entries{source="postgres0",store="positive"}`))
	if _, connects := sink.Reached(); len(connects) != 2*costRounds*(*deviceCount/costRounds) {
		t.Errorf("the broker has seen %d connects", len(connects))
	}
}

// insertTokens makes a part of the devices and returns their tokens.
func insertTokens(server *harness.Postgres, round int) (tokens []string) {
	var rows []string
	for i := range *deviceCount / costRounds {
		tokens = append(tokens, rand.Text())
		rows = append(rows, fmt.Sprintf("('%d-%s', '%s', sha256('%s'))", round, deviceName(i), deviceName(i), tokens[i]))
	}
	for part := 0; part < len(rows); part += 500 {
		server.SQL("tokens", "INSERT INTO mqtt_auth_proxy.tokens (token_id, subject, token_sha256) VALUES "+strings.Join(rows[part:min(part+500, len(rows))], ", "))
	}
	return tokens
}

// wakeSessions lets sessions that had been quiet send a message each.
func wakeSessions(t *testing.T) {
	sessions := min(*deviceCount, 2000)
	for kind, dial := range map[string]func(p *harness.Proxy) net.Conn{
		"plain": func(p *harness.Proxy) net.Conn { return packetstest.Dial(t, p.Plain) },
		"TLS":   func(p *harness.Proxy) net.Conn { return p.DialTLS(t) },
	} {
		p := harness.NewProxy(t, harness.StartSink(t).Upstream())
		p.Env = append(p.Env, "MQTT_AUTH_PROXY_LOG_LEVEL=warn")
		token := p.Token("fleet")
		p.Start()
		clients := make([]*packetstest.Client, 0, sessions)
		for i := range sessions {
			clients = append(clients, packetstest.Connect(t, dial(p), packetstest.Identity(4, fmt.Sprint("device-", i), token)))
		}
		c := &costs{t: t, proxy: p}
		for range costRounds {
			harness.Eventually(t, "quiet sessions", func() bool {
				return int(harness.Metric(t, p, `mqtt_auth_proxy_relay_sessions{state="quiet"}`)) == sessions
			})
			c.begin()
			for _, client := range clients {
				if err := client.Publish("a", strings.Repeat("x", 100)); err != nil {
					t.Fatal(err)
				}
			}
			c.end(kind+", a message of a quiet session and its PUBACK", sessions)
		}
		p.Stop()
	}
}
