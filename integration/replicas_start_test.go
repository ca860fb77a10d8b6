//go:build integration

package integration

import (
	"bytes"
	"crypto/rand"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/integration/harness"
	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/packets"
)

// bus is the way on which three proxies reach each other.
type bus struct {
	broker   *harness.Mosquitto // in front of which they are
	database *harness.Postgres  // nil if the bus is a topic of the broker
	gate     *busGate           // on the way of the third proxy to the bus
	sections func(i int) string // of the config of proxy i
	secrets  []string
}

// eachBus runs a story with the bus on the broker, and with the bus in a database.
func eachBus(t *testing.T, story func(t *testing.T, b *bus)) {
	t.Run("mqtt", func(t *testing.T) { story(t, busOnBroker(t)) })
	t.Run("postgres", func(t *testing.T) { story(t, busInDatabase(t)) })
}

func busOnBroker(t *testing.T) *bus {
	t.Helper()
	m := harness.StartMosquitto(t)
	b := &bus{broker: m, gate: startBusGate(t, m.Addr, []byte("mqtt-auth-proxy-bus-"))}
	secret, password := fileWith(t, rand.Text()+rand.Text()), fileWith(t, m.Password+"\n")
	b.sections = func(i int) string {
		broker := m.Addr
		if i == 2 {
			broker = b.gate.addr
		}
		return fmt.Sprintf("upstream: {servers: ['tcp://%s'], username: %s, password: %s}\n"+
			"replicas: {bus: mqtt, secret_file: %s, name: proxy-%d, username: %s, password_file: %s}\n",
			broker, m.Username, m.Password, secret, i+1, m.Username, password)
	}
	return b
}

// busOnTwoBrokers returns a bus on two brokers, and the second of them. It has no gate.
func busOnTwoBrokers(t *testing.T) (b *bus, second *harness.Mosquitto) {
	t.Helper()
	m := harness.StartMosquitto(t)
	second = m.Sibling()
	secret, password := fileWith(t, rand.Text()+rand.Text()), fileWith(t, m.Password+"\n")
	return &bus{broker: m, sections: func(i int) string {
		return severalBrokers(m, []string{second.Addr}, "health: {interval: 500ms}") +
			fmt.Sprintf("replicas: {bus: mqtt, secret_file: %s, name: proxy-%d, username: %s, password_file: %s}\n", secret, i+1, m.Username, password)
	}}, second
}

func busInDatabase(t *testing.T) *bus {
	t.Helper()
	server := harness.StartPostgres(t)
	m := harness.StartMosquitto(t)
	b := &bus{broker: m, database: server, gate: startBusGate(t, server.Addr, nil), secrets: []string{server.Password}}
	dsn, secret := server.Database("fleet"), fileWith(t, rand.Text()+rand.Text())
	files := []string{fileWith(t, dsn), fileWith(t, dsn), fileWith(t, strings.Replace(dsn, server.Addr, b.gate.addr, 1))}
	b.sections = func(i int) string {
		return m.Upstream() + fmt.Sprintf("replicas: {bus: postgres, secret_file: %s, name: proxy-%d, dsn_file: %s}\n", secret, i+1, files[i])
	}
	return b
}

// fileWith returns the path of a new file.
func fileWith(t *testing.T, content string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "file")
	harness.WriteFile(t, path, content)
	return path
}

// startReplicas runs three proxies, each on an address of the loopback network of its own, in
// front of one Mosquitto. All know the tokens of the devices, each from a file of its own, and
// accept pushes with the same secret. The tokens are in the order of the devices.
func startReplicas(t *testing.T, b *bus, devices ...string) (all []*harness.Proxy, tokens []string) {
	t.Helper()
	push := fileWith(t, pushSecret)
	for i := range 3 {
		p := harness.NewProxy(t, b.sections(i))
		p.Env = append(p.Env, "MQTT_AUTH_PROXY_ADMIN_PUSH_SECRET_FILE="+push)
		for _, secret := range b.secrets {
			p.AddSecret(secret)
		}
		moveTo(t, p, fmt.Sprintf("127.0.0.1%d", i+1))
		all = append(all, p)
	}
	for _, device := range devices {
		tokens = append(tokens, all[0].Token(device))
	}
	for i, p := range all {
		if i > 0 && len(devices) > 0 {
			if err := os.MkdirAll(p.Data, 0o700); err != nil {
				t.Fatal(err)
			}
			harness.WriteFile(t, filepath.Join(p.Data, "tokens.jsonl"), harness.ReadFile(t, all[0].Data, "tokens.jsonl"))
		}
		p.Start()
	}
	awaitReplicas(t, all)
	return all, tokens
}

// awaitReplicas waits until each proxy hears the others.
func awaitReplicas(t *testing.T, all []*harness.Proxy) {
	t.Helper()
	for _, p := range all {
		harness.Eventually(t, "all other replicas", func() bool { return heard(t, p) == len(all)-1 })
	}
}

// moveTo makes the installation listen on another address of the loopback network.
func moveTo(t *testing.T, p *harness.Proxy, host string) {
	t.Helper()
	config := harness.ReadFile(t, p.Config)
	for _, address := range []*string{&p.Plain, &p.TLS, &p.Admin} {
		moved := net.JoinHostPort(host, harness.Port(*address))
		config = strings.Replace(config, "'"+*address+"'", "'"+moved+"'", 1)
		*address = moved
	}
	harness.WriteFile(t, p.Config, config)
}

// busGate leads to the server of a bus and can be closed for the connections of the bus alone, so
// that the sessions of devices live on while their proxy is cut off from the others.
type busGate struct {
	addr string
	// only is in the first packet of the connections of the bus. If it is empty, all are of the
	// bus.
	only []byte

	mu     sync.Mutex
	closed bool
	bus    map[net.Conn]bool
}

func startBusGate(t *testing.T, server string, only []byte) *busGate {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { ln.Close() })
	g := &busGate{addr: ln.Addr().String(), only: only, bus: make(map[net.Conn]bool)}
	go func() {
		for {
			conn, err := ln.Accept()
			if err != nil {
				return
			}
			go g.pass(conn, server)
		}
	}()
	return g
}

// pass connects the two sides of one connection.
func (g *busGate) pass(conn net.Conn, server string) {
	defer conn.Close()
	var first []byte
	if g.only != nil {
		var err error
		if first, err = packets.ReadPacket(conn, 64<<10); err != nil {
			return
		}
	}
	if bytes.Contains(first, g.only) && !g.admit(conn) {
		return
	}
	up, err := net.Dial("tcp", server)
	if err != nil {
		return
	}
	defer up.Close()
	if _, err := up.Write(first); err != nil {
		return
	}
	go func() {
		_, _ = io.Copy(conn, up)
		conn.Close()
	}()
	_, _ = io.Copy(up, conn)
}

func (g *busGate) admit(conn net.Conn) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.bus[conn] = true
	return !g.closed
}

// close ends the connections of the bus and keeps new ones out, until open is called.
func (g *busGate) close() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.closed = true
	for conn := range g.bus {
		conn.Close()
	}
	clear(g.bus)
}

func (g *busGate) open() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.closed = false
}
