//go:build integration

package integration

import (
	"bytes"
	"crypto/rand"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/integration/harness"
	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/packets"
	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/packets/packetstest"
)

// busGate leads to a broker and can be closed for the connections of the bus alone, so that the
// sessions of devices live on while their proxy is cut off from the others.
type busGate struct {
	addr string

	mu     sync.Mutex
	closed bool
	bus    map[net.Conn]bool
}

func startBusGate(t *testing.T, broker string) *busGate {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { ln.Close() })
	g := &busGate{addr: ln.Addr().String(), bus: make(map[net.Conn]bool)}
	go func() {
		for {
			conn, err := ln.Accept()
			if err != nil {
				return
			}
			go g.pass(conn, broker)
		}
	}()
	return g
}

// pass connects the two sides of one connection.
func (g *busGate) pass(conn net.Conn, broker string) {
	defer conn.Close()
	connect, err := packets.ReadPacket(conn, 64<<10)
	if err != nil {
		return
	}
	if bytes.Contains(connect, []byte("mqtt-auth-proxy-bus-")) && !g.admit(conn) {
		return
	}
	up, err := net.Dial("tcp", broker)
	if err != nil {
		return
	}
	defer up.Close()
	if _, err := up.Write(connect); err != nil {
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

// startReplicas runs three proxies, each on an address of the loopback network of its own, in
// front of one Mosquitto. The third reaches it through the gate. All know the tokens of the
// devices, each from a file of its own. The tokens are in the order of the devices.
func startReplicas(t *testing.T, devices ...string) (all []*harness.Proxy, gate *busGate, tokens []string) {
	t.Helper()
	m := harness.StartMosquitto(t)
	gate = startBusGate(t, m.Addr)
	dir := t.TempDir()
	secret, password := filepath.Join(dir, "secret"), filepath.Join(dir, "password")
	harness.WriteFile(t, secret, rand.Text()+rand.Text())
	harness.WriteFile(t, password, m.Password+"\n")
	for i := range 3 {
		broker := m.Addr
		if i == 2 {
			broker = gate.addr
		}
		p := harness.NewProxy(t, fmt.Sprintf(`upstream: {servers: ['tcp://%s'], username: %s, password: %s}
replicas: {bus: mqtt, secret_file: %s, name: proxy-%d, username: %s, password_file: %s}
`, broker, m.Username, m.Password, secret, i+1, m.Username, password))
		moveTo(t, p, fmt.Sprintf("127.0.0.1%d", i+1))
		all = append(all, p)
	}
	for _, device := range devices {
		tokens = append(tokens, all[0].Token(device))
	}
	file, err := os.ReadFile(filepath.Join(all[0].Data, "tokens.jsonl"))
	if err != nil {
		t.Fatal(err)
	}
	for i, p := range all {
		if i > 0 {
			if err := os.MkdirAll(p.Data, 0o700); err != nil {
				t.Fatal(err)
			}
			harness.WriteFile(t, filepath.Join(p.Data, "tokens.jsonl"), string(file))
		}
		p.Start()
	}
	for _, p := range all {
		harness.Eventually(t, "both other replicas", func() bool { return heard(t, p) == 2 })
	}
	return all, gate, tokens
}

// moveTo makes the installation listen on another address of the loopback network.
func moveTo(t *testing.T, p *harness.Proxy, host string) {
	t.Helper()
	text, err := os.ReadFile(p.Config)
	if err != nil {
		t.Fatal(err)
	}
	config := string(text)
	for _, address := range []*string{&p.Plain, &p.TLS, &p.Admin} {
		moved := net.JoinHostPort(host, harness.Port(*address))
		config = strings.Replace(config, "'"+*address+"'", "'"+moved+"'", 1)
		*address = moved
	}
	harness.WriteFile(t, p.Config, config)
}

// heard returns how many replicas the proxy has heard in the last five seconds.
func heard(t *testing.T, p *harness.Proxy) (n int) {
	t.Helper()
	var status struct {
		Replicas struct {
			Heard []struct {
				LastHeardSeconds float64 `json:"last_heard_seconds"`
			}
		}
	}
	if err := json.Unmarshal([]byte(p.Status()), &status); err != nil {
		t.Fatal(err)
	}
	for _, r := range status.Replicas.Heard {
		if r.LastHeardSeconds < 5 {
			n++
		}
	}
	return n
}

// ask sends a request to the admin side, which must accept it.
func ask(t *testing.T, p *harness.Proxy, method, path, body string) {
	t.Helper()
	if status, answer := p.Request(method, path, body); status != 200 {
		t.Fatalf("%s %s: status %d, %s", method, path, status, answer)
	}
}

// onEach connects the device to each of the proxies, each time with another client id, because the
// broker ends the session that had the same one.
func onEach(t *testing.T, all []*harness.Proxy, token string) (sessions []*packetstest.Client) {
	t.Helper()
	for i, p := range all {
		sessions = append(sessions, p.Connect(t, 5, fmt.Sprint("device-", i), token))
	}
	return sessions
}

// awaitEnds waits until each session has ended with the code, and returns how long each took.
func awaitEnds(t *testing.T, sessions []*packetstest.Client, since time.Time, want packets.ReasonCode) (took []time.Duration) {
	t.Helper()
	took = make([]time.Duration, len(sessions))
	var waiting sync.WaitGroup
	for i, d := range sessions {
		waiting.Go(func() {
			code, err := d.AwaitEnd(harness.Patience)
			took[i] = time.Since(since)
			if err != nil || code != want {
				t.Errorf("the session on proxy %d ended with %#x, %v, want %#x", i+1, byte(code), err, byte(want))
			}
		})
	}
	waiting.Wait()
	return took
}

// TestReplicasActAsOne: what one proxy revokes, kicks, denies or reads from its token file, all
// proxies do. The log of the test has the times.
func TestReplicasActAsOne(t *testing.T) {
	all, _, tokens := startReplicas(t, "pump", "valve", "bystander")
	bystanders := onEach(t, all, tokens[2])
	var elsewhere []time.Duration
	measure := func(method, path, body string, code packets.ReasonCode) {
		for round := range 20 {
			sessions := onEach(t, all, tokens[0])
			since := time.Now()
			ask(t, all[round%3], method, path, body)
			took := awaitEnds(t, sessions, since, code)
			elsewhere = append(elsewhere, slices.Delete(took, round%3, round%3+1)...)
		}
	}
	measure("POST", "/v1/revocations", `{"subject":"pump"}`, packets.AdministrativeAction)
	measure("POST", "/v1/revocations", `{"token":"`+tokens[0]+`"}`, packets.AdministrativeAction)
	measure("DELETE", "/v1/sessions?subject=pump", "", packets.AdministrativeAction)
	slices.Sort(elsewhere)
	t.Logf("until a session on another proxy has ended: p50 %v, p99 %v", elsewhere[len(elsewhere)/2], elsewhere[len(elsewhere)*99/100])

	sessions := onEach(t, all, tokens[1])
	since := time.Now()
	all[0].NewToken("rotate", "valve", "--overlap", "0s") // in the file of one proxy
	took := awaitEnds(t, sessions, since, packets.AdministrativeAction)
	t.Logf("after a rotation in the file of the first proxy: %v", took)

	sessions = onEach(t, all, tokens[0])
	ask(t, all[1], "POST", "/v1/revocations", `{"subject":"pump","mode":"deny"}`)
	awaitEnds(t, sessions, time.Now(), packets.AdministrativeAction)
	for i, p := range all {
		if _, ack := p.Present(t, 5, "device", tokens[0]); ack.Code == packets.Success {
			t.Errorf("proxy %d accepts a denied device", i+1)
		}
	}
	for i, d := range bystanders {
		if err := d.Publish("a", "b"); err != nil {
			t.Errorf("the bystander on proxy %d: %v", i+1, err)
		}
	}
}

// TestCutOffReplicaCatchesUp: a proxy that was cut off from the others does on its return what it
// has missed, and no more.
func TestCutOffReplicaCatchesUp(t *testing.T) {
	all, gate, tokens := startReplicas(t, "pump", "valve", "bystander")
	sessions, bystander := onEach(t, all, tokens[0]), all[2].Connect(t, 5, "b", tokens[2])
	valve := onEach(t, all, tokens[1])
	gate.close()
	harness.Eventually(t, "the silence of the third proxy", func() bool { return heard(t, all[0]) == 1 && heard(t, all[2]) == 0 })
	ask(t, all[0], "POST", "/v1/revocations", `{"subject":"pump"}`)
	ask(t, all[1], "POST", "/v1/revocations", `{"subject":"valve","mode":"deny"}`)
	awaitEnds(t, sessions[:2], time.Now(), packets.AdministrativeAction)
	awaitEnds(t, valve[:2], time.Now(), packets.AdministrativeAction)
	for _, d := range []*packetstest.Client{sessions[2], valve[2]} {
		if err := d.Publish("a", "b"); err != nil {
			t.Fatalf("the session on the proxy that is cut off: %v", err)
		}
	}
	since := time.Now()
	gate.open()
	took := awaitEnds(t, []*packetstest.Client{sessions[2], valve[2]}, since, packets.AdministrativeAction)
	t.Logf("after the way was open again: %v", took)
	if _, ack := all[2].Present(t, 5, "d", tokens[1]); ack.Code == packets.Success {
		t.Error("the proxy that was cut off accepts a device that was denied meanwhile")
	}
	if err := bystander.Publish("a", "b"); err != nil {
		t.Errorf("the session of another device: %v", err)
	}
	if n := harness.Metric(t, all[2], "mqtt_auth_proxy_replicas_catch_ups_total"); n < 1 {
		t.Errorf("it has caught up %v times", n)
	}
	if status, _ := all[2].Get("/readyz"); status != 200 {
		t.Errorf("/readyz: status %d", status)
	}
}

// TestHostileDeviceOnTheBus: a device that reads and writes the topic of the bus learns nothing
// and can do nothing, and cannot take the client id of a replica.
func TestHostileDeviceOnTheBus(t *testing.T) {
	const topic = "mqtt-auth-proxy/bus"
	all, _, tokens := startReplicas(t, "pump-with-a-long-name", "hostile", "mqtt-auth-proxy-bus-1")
	hostile := all[0].Connect(t, 5, "h", tokens[1])
	hostile.MustSubscribe(topic, 1)
	victim := onEach(t, all, tokens[0])
	ask(t, all[1], "DELETE", "/v1/sessions?subject=pump-with-a-long-name", "")
	awaitEnds(t, victim, time.Now(), packets.AdministrativeAction)
	victim = onEach(t, all, tokens[0])
	var captured [][]byte
	for len(captured) < 10 {
		m, err := hostile.Next(harness.Patience)
		if err != nil {
			t.Fatal(err)
		}
		if bytes.Contains(m.Payload, []byte("pump")) || bytes.Contains(m.Payload, []byte("proxy-")) {
			t.Error("a message on the bus shows a name")
		}
		captured = append(captured, slices.Clone(m.Payload))
	}
	writer := all[0].Connect(t, 5, "w", tokens[1])
	payloads := slices.Concat(captured, captured)
	for range 3000 {
		junk := make([]byte, 4000)
		_, _ = rand.Read(junk)
		payloads = append(payloads, junk)
	}
	payloads = append(payloads, make([]byte, 200_000), []byte("{}"), nil)
	if err := writer.PublishAll(topic, payloads, func([]byte) {}); err != nil {
		t.Fatal(err)
	}
	harness.Eventually(t, "the count of unreadable messages", func() bool {
		return harness.Metric(t, all[2], `mqtt_auth_proxy_replicas_messages_ignored_total{cause="unreadable"}`) >= 3000
	})
	if n := harness.Metric(t, all[2], `mqtt_auth_proxy_replicas_messages_ignored_total{cause="repeated"}`); n == 0 {
		t.Error("no repeated message was ignored")
	}
	for i, d := range victim {
		if err := d.Publish("a", "b"); err != nil {
			t.Errorf("the session on proxy %d: %v", i+1, err)
		}
	}
	ask(t, all[2], "DELETE", "/v1/sessions?subject=pump-with-a-long-name", "")
	awaitEnds(t, victim, time.Now(), packets.AdministrativeAction)
	if _, ack := all[0].Present(t, 5, "mqtt-auth-proxy-bus-1", tokens[2]); ack.Code != packets.ClientIDNotValid {
		t.Errorf("a device with the client id of a replica: code %#x", byte(ack.Code))
	}
	for _, p := range all {
		if heard(t, p) != 2 {
			t.Error("the replicas do not hear each other any more")
		}
	}
	if _, err := hostile.Next(harness.Patience); err != nil && !packetstest.IsTimeout(err) {
		t.Errorf("the hostile session ended: %v", err)
	}
}
