//go:build integration && linux

package integration

import (
	"bytes"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/integration/harness"
	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/packets/packetstest"
)

// deadline is what the stories here set connect.timeout to. A refused client has
// up to two more seconds, to read the answer and to close.
const (
	deadline  = 5 * time.Second
	lingering = 2 * time.Second
)

// attack is what a client without a valid token does on a connection until it is closed.
type attack struct {
	name string
	tls  bool // on the listener for TLS
	act  func(conn net.Conn)
}

func attacks() []attack {
	hello := packetstest.Identity(5, "slow", "no-token-of-anybody").Append(nil)
	send := func(text string) func(net.Conn) {
		return func(conn net.Conn) { _, _ = io.WriteString(conn, text) }
	}
	drip := func(conn net.Conn) {
		for _, b := range hello {
			if _, err := conn.Write([]byte{b}); err != nil {
				return
			}
			time.Sleep(400 * time.Millisecond)
		}
	}
	huge := send("\x10\xFF\xFF\xFF\x7F\x00\x04MQTT\x05\x02\x00\x3C" + strings.Repeat("x", 4<<10))
	return []attack{
		{"silence", false, func(net.Conn) {}},
		{"silence", true, func(net.Conn) {}},
		{"one byte every 400 ms", false, drip},
		{"one byte every 400 ms", true, drip},
		{"256 MB announced", false, huge},
		{"256 MB announced", true, huge},
		{"HTTP", false, send("GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")},
		{"HTTP", true, send("GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")},
		{"TLS", false, func(conn net.Conn) { _ = tls.Client(conn, &tls.Config{InsecureSkipVerify: true}).Handshake() }},
		{"MQTT without TLS", true, send(string(hello))},
		{"half a TLS handshake", true, send("\x16\x03\x01\x02\x00\x01\x00\x01\xFC\x03\x03")},
		{"PUBLISH first", false, send("\x32\x07\x00\x01t\x00\x01hi")},
		{"half a CONNECT", false, send(string(hello[:len(hello)/2]))},
		{"wrong token, then a flood", false, func(conn net.Conn) {
			_, _ = conn.Write(hello)
			_, _ = conn.Write(bytes.Repeat([]byte{0x30, 0x03, 0, 1, 't'}, 20_000))
		}},
		{"200 wrong properties", false, send("\x10\xC8\x01\x00\x04MQTT\x05\x02\x00\x3C" + strings.Repeat("\x26", 200))},
	}
}

// outcome is how an attack ended.
type outcome struct {
	attack
	answer string
	took   time.Duration // from the connection to its end
	err    error         // unless it was closed
}

// attackOnce runs an attack and waits for the end of the connection.
func attackOnce(p *harness.Proxy, a attack) outcome {
	address := p.Plain
	if a.tls {
		address = p.TLS
	}
	start := time.Now()
	conn, err := net.DialTimeout("tcp", address, harness.Patience)
	if err != nil {
		return outcome{attack: a, err: err}
	}
	defer conn.Close()
	_ = conn.SetDeadline(start.Add(deadline + lingering + harness.Patience))
	go a.act(conn)
	answer, err := io.ReadAll(io.LimitReader(conn, 64<<10))
	if err != nil && !packetstest.IsTimeout(err) {
		err = nil // a reset closes the connection as well
	}
	return outcome{a, string(answer), time.Since(start), err}
}

// TestHostileInput: every attack ends by the deadline. The broker gets no connection, and
// a device with a token is not affected.
func TestHostileInput(t *testing.T) {
	t.Parallel()
	s := harness.StartSink(t)
	p := harness.NewProxy(t, s.Upstream()+fmt.Sprintf("connect: {timeout: %v}\n", deadline))
	token := p.Token("device")
	p.Start()
	var all sync.WaitGroup
	for _, a := range attacks() {
		all.Go(func() {
			if o := attackOnce(p, a); o.err != nil || o.took > deadline+lingering+harness.Slack {
				t.Errorf("%s: ended after %v, %v", name(a), o.took, o.err)
			} else if strings.HasPrefix(o.answer, "\x20") && o.answer[3] == 0 {
				t.Errorf("%s: was let in", name(a))
			}
		})
	}
	all.Wait()
	if opened, _ := s.Reached(); opened != 0 {
		t.Errorf("%d connections reached the broker", opened)
	}
	p.Connect(t, 5, "device", token)
	for _, reason := range []string{"connect_timeout", "too_large", "not_mqtt", "tls", "unknown_token", "malformed"} {
		p.AwaitLog(reason, func(l harness.LogLine) bool { return l.String("reason") == reason })
	}
}

func name(a attack) string {
	if a.tls {
		return a.name + ", to the TLS listener"
	}
	return a.name
}

// TestThousandAttackers: a thousand attacks at once need little memory, and a device with
// a token still gets in.
func TestThousandAttackers(t *testing.T) {
	s := harness.StartSink(t)
	p := harness.NewProxy(t, s.Upstream()+fmt.Sprintf("connect: {timeout: %v}\n", deadline))
	token := p.Token("device")
	p.Start()
	kinds := attacks()
	// The first attack of each kind needs more than the rest.
	p.Connect(t, 5, "before", token)
	before := harness.Memory(t, p)

	const attackers = 1000
	outcomes := make([]outcome, attackers)
	var all sync.WaitGroup
	for i := range attackers {
		all.Go(func() { outcomes[i] = attackOnce(p, kinds[i%len(kinds)]) })
	}
	over := make(chan struct{})
	go func() { all.Wait(); close(over) }()

	peak, slowest := watchUnderAttack(t, p, token, over)
	t.Logf("memory %d KiB before, %d KiB at most, device let in within %v", before>>10, peak>>10, slowest.Round(time.Millisecond))
	bound := int64(64 << 20)
	if harness.Race() {
		bound *= 4
	}
	if grown := peak - before; grown > bound {
		t.Errorf("%d KiB more memory for %d attackers", grown>>10, attackers)
	}
	for _, o := range outcomes {
		if o.err != nil || o.took > deadline+lingering+harness.Slack {
			t.Errorf("%s: ended after %v, %v", name(o.attack), o.took, o.err)
		}
	}
	_, connects := s.Reached()
	for _, c := range connects {
		if !strings.HasSuffix(c.ClientID, ":before") && c.ClientID != "device" {
			t.Errorf("an attacker reached the broker as %q", c.ClientID)
		}
	}
	harness.Eventually(t, "the end of all connections but the device's", func() bool {
		return p.HasMetric("mqtt_auth_proxy_connections 1")
	})
}

// watchUnderAttack connects a device again and again until over is closed. It returns the
// largest amount of memory that the program used, and the longest time that the device
// waited.
func watchUnderAttack(t *testing.T, p *harness.Proxy, token string, over <-chan struct{}) (peak int64, slowest time.Duration) {
	t.Helper()
	for {
		start := time.Now()
		d := p.Connect(t, 5, "device", token)
		slowest = max(slowest, time.Since(start))
		peak = max(peak, harness.Memory(t, p))
		d.Conn.Close()
		select {
		case <-over:
			return peak, slowest
		case <-time.After(50 * time.Millisecond):
		}
	}
}

// TestSecondConnect: a second CONNECT ends the session, and the broker does not get it.
func TestSecondConnect(t *testing.T) {
	t.Parallel()
	s := harness.StartSink(t)
	p := harness.NewProxy(t, s.Upstream())
	token := p.Token("device")
	p.Start()
	for _, level := range []byte{3, 4, 5} {
		d := p.Connect(t, level, fmt.Sprint("device", level), token)
		if err := d.Publish("a", "b"); err != nil {
			t.Fatal(err)
		}
		intruder := packetstest.Identity(level, "somebody-else", "their-name")
		if _, err := d.Conn.Write(intruder.Append(nil)); err != nil {
			t.Fatal(err)
		}
		if _, err := d.AwaitEnd(harness.Patience); err != nil {
			t.Errorf("level %d: %v", level, err)
		}
	}
	if _, connects := s.Reached(); len(connects) != 3 {
		t.Errorf("the broker got %d CONNECTs, want 3", len(connects))
	}
	// Both are in one segment: the second must not pass along with the first.
	both := append(packetstest.Identity(4, "both", token).Append(nil), packetstest.Identity(4, "intruder", "their-name").Append(nil)...)
	if answer := packetstest.Exchange(t, packetstest.Dial(t, p.Plain), string(both), harness.Patience); !strings.HasPrefix("\x20\x02\x00\x00", answer) {
		t.Errorf("two CONNECTs at once are answered % x", answer)
	}
	_, connects := s.Reached()
	for _, c := range connects {
		if strings.HasSuffix(c.ClientID, "intruder") || strings.HasSuffix(c.ClientID, "somebody-else") {
			t.Error("the second CONNECT reached the broker")
		}
	}
}
