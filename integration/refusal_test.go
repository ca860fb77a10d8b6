//go:build integration

package integration

import (
	"fmt"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/integration/harness"
	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/packets/packetstest"
)

// TestRefusals: what a device with a bad token gets in every version. The exit status of
// mosquitto_pub is the code of the CONNACK.
func TestRefusals(t *testing.T) {
	t.Parallel()
	s := harness.StartSink(t)
	p := harness.NewProxy(t, s.Upstream())
	p.Token("good")
	disabled := p.Token("disabled")
	if r := p.TokenCommand("disable", "disabled"); r.Status != 0 {
		t.Fatal(r.Output())
	}
	expired := p.Token("expired", "--expires", "1s")
	soon := time.Now().Add(1100 * time.Millisecond)
	p.Start()
	time.Sleep(time.Until(soon))
	wrong := "a-token-that-does-not-exist"
	p.AddSecret(wrong)
	for _, tt := range []struct {
		name   string
		args   []string
		v3, v5 int
		says   string // for 3.1.1 and 5.0
	}{
		{"wrong token", []string{"-u", wrong}, 5, 134, "not authorised|Bad User Name or Password"},
		{"wrong token with client id", []string{"-u", wrong, "-i", "someone"}, 5, 134, ""},
		{"disabled", []string{"-u", disabled}, 5, 135, ""},
		{"expired", []string{"-u", expired}, 5, 135, "not authorised|Not authorized"},
		{"no token, client id", []string{"-i", "someone"}, 2, 133, "identifier rejected|Client Identifier not valid"},
		{"neither", nil, 5, 135, ""},
	} {
		for version, want := range map[string]int{"mqttv31": tt.v3, "mqttv311": tt.v3, "mqttv5": tt.v5} {
			if tt.args == nil && version == "mqttv31" {
				continue // libmosquitto sends an identifier, because 3.1 requires one
			}
			args := append([]string{"-h", "127.0.0.1", "-p", harness.Port(p.Plain), "-V", version, "-t", "a", "-m", "b"}, tt.args...)
			r := harness.MosquittoPub(t, args...)
			if r.Status != want {
				t.Errorf("%s, %s: status %d, want %d\n%s", tt.name, version, r.Status, want, r.Output())
			}
			if old, now, ok := strings.Cut(tt.says, "|"); ok && !strings.Contains(r.Output(), old) && !strings.Contains(r.Output(), now) {
				t.Errorf("%s, %s: mosquitto_pub says %q, want %q", tt.name, version, r.Output(), tt.says)
			}
		}
	}
	if opened, _ := s.Reached(); opened != 0 {
		t.Errorf("%d connections reached the broker without a good token", opened)
	}
}

// TestRefusalsOnTheWire compares every byte of the refusals that mosquitto_pub cannot
// provoke.
func TestRefusalsOnTheWire(t *testing.T) {
	t.Parallel()
	s := harness.StartSink(t)
	p := harness.NewProxy(t, s.Upstream()+"connect: {max_packet: 1KiB}\n")
	token := p.Token("good")
	p.Start()
	noID := packetstest.Identity(4, "", token)
	noID.CleanStart = false
	unknownLevel := packetstest.Identity(5, "id", token).Append(nil)
	unknownLevel[8] = 6
	badFlags := func(level byte) string {
		b := packetstest.Identity(level, "id", token).Append(nil)
		b[9] |= 1 // reserved
		return string(b)
	}
	for _, tt := range []struct {
		name, sent string
		want       string // all that comes back
	}{
		{"3.1.1 without id or clean session", string(noID.Append(nil)), "\x20\x02\x00\x02"},
		{"unknown version", string(unknownLevel), "\x20\x03\x00\x84\x00"},
		{"reserved flag, 3.1.1", badFlags(4), ""},
		{"reserved flag, 5.0", badFlags(5), "\x20\x03\x00\x81\x00"},
		{"too large, 3.1.1", string(packetstest.Identity(4, strings.Repeat("x", 2000), token).Append(nil)), ""},
		{"too large, 5.0", string(packetstest.Identity(5, strings.Repeat("x", 2000), token).Append(nil)), "\x20\x03\x00\x95\x00"},
		{"wrong token, 3.1", string(packetstest.Identity(3, "id", "wrong").Append(nil)), "\x20\x02\x00\x05"},
		{"wrong token, 3.1.1", string(packetstest.Identity(4, "id", "wrong").Append(nil)), "\x20\x02\x00\x05"},
		{"wrong token, 5.0", string(packetstest.Identity(5, "id", "wrong").Append(nil)), "\x20\x03\x00\x86\x00"},
		{"PUBLISH first", "\x30\x05\x00\x01tok", ""},
	} {
		conn := packetstest.Dial(t, p.Plain)
		if got := packetstest.Exchange(t, conn, tt.sent, harness.Patience); got != tt.want {
			t.Errorf("%s: answered % x, want % x", tt.name, got, tt.want)
		}
	}
	if opened, _ := s.Reached(); opened != 0 {
		t.Errorf("%d connections reached the broker", opened)
	}
}

// TestBridgeBit: bridges of Mosquitto set a bit of the protocol level that no standard
// defines.
func TestBridgeBit(t *testing.T) {
	t.Parallel()
	s := harness.StartSink(t)
	p := harness.NewProxy(t, s.Upstream())
	token := p.Token("bridge")
	p.Start()
	for _, level := range []byte{3, 4, 5} {
		c := packetstest.Identity(level, fmt.Sprint("bridge", level), token)
		c.Bridge = true
		packetstest.Connect(t, packetstest.Dial(t, p.Plain), c)
	}
	_, connects := s.Reached()
	if len(connects) != 3 {
		t.Fatalf("the broker got %d CONNECTs, want 3", len(connects))
	}
	for _, c := range connects {
		if !c.Bridge {
			t.Errorf("level %d: the broker does not see the bridge bit", c.Level)
		}
	}
}

// TestMosquittoWithoutTheCA: a client that does not trust the certificate causes a line
// of the log that says so.
func TestMosquittoWithoutTheCA(t *testing.T) {
	t.Parallel()
	p := harness.NewProxy(t, harness.StartSink(t).Upstream())
	token := p.Token("device")
	p.Start()
	host, port, _ := net.SplitHostPort(p.TLS)
	for _, version := range []string{"tlsv1.2", "tlsv1.3"} {
		if r := harness.MosquittoPub(t, "-h", host, "-p", port, "-u", token, "--tls-use-os-certs", "--tls-version", version, "-t", "a", "-m", "b"); r.Status == 0 {
			t.Errorf("%s: the certificate is trusted", version)
		}
	}
	p.Await(t, p.Stderr, "line for each", func(text string) bool {
		return strings.Count(text, "tls: unknown certificate authority; does it have the file of the CA") == 2
	})
}
