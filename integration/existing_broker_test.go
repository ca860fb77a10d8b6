//go:build integration

package integration

import (
	"encoding/hex"
	"os"
	"strings"
	"testing"

	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/packets"
)

// TestCommandsInFrontOfMosquitto runs the two commands that every user pastes
// first. A shell takes the quotes out of their payload, and nothing else may
// change it on its way.
func TestCommandsInFrontOfMosquitto(t *testing.T) {
	t.Parallel()
	need(t, "mosquitto_pub")
	m := startMosquitto(t)
	p := newProxy(t, m.upstream())
	token := p.token("thermometer")
	p.start()
	behind := subscribe(t, append(m.clientArgs(), "-q", "1", "-t", "v1/devices/me/telemetry", "-C", "2")...)
	for _, line := range []string{
		`mosquitto_pub -d -q 1 -h localhost -p ` + portOf(p.plain) + ` -t v1/devices/me/telemetry -u "$TOKEN" -m {"temperature":25}`,
		`mosquitto_pub --cafile ca-root.pem -d -q 1 -h localhost -p ` + portOf(p.tls) + ` -t v1/devices/me/telemetry -u "$TOKEN" -m {"temperature":25}`,
	} {
		r := command{dir: p.data + "/tls", environ: append(cleanEnvironment(), "TOKEN="+token), argv: []string{"sh", "-c", line}}.run(t)
		if r.status != 0 {
			t.Fatalf("%s\nstatus %d\n%s", line, r.status, r.all())
		}
	}
	want := message{"v1/devices/me/telemetry", "1", "0", hex.EncodeToString([]byte("{temperature:25}"))}
	for i, got := range behind.messages(2) {
		if got != want {
			t.Errorf("message %d: the broker has %v, want %v", i+1, got, want)
		}
	}
}

// TestOnlyTheProxyKnowsThePassword: with the broker's own credentials a device
// gets nowhere, and with its token nowhere but through the proxy.
func TestOnlyTheProxyKnowsThePassword(t *testing.T) {
	t.Parallel()
	m := startMosquitto(t)
	p := newProxy(t, m.upstream())
	p.keep(m.password)
	token := p.token("thermometer")
	p.start()
	direct := append(m.clientArgs()[:4], "-u", token, "-t", "a", "-m", "b")
	if r := mosquittoPub(t, direct...); r.status != 5 {
		t.Errorf("the token at the broker itself: status %d, want 5\n%s", r.status, r.all())
	}
	if r := mosquittoPub(t, append(p.clientArgs(m.username), "-P", m.password, "-t", "a", "-m", "b")...); r.status != 5 {
		t.Errorf("the broker's credentials at the proxy: status %d, want 5\n%s", r.status, r.all())
	}
	publish(t, append(p.clientArgs(token), "-t", "a", "-m", "b")...)
}

// TestBrokerDown: a device is told to come back later, and can, as soon as the
// broker can.
func TestBrokerDown(t *testing.T) {
	t.Parallel()
	m := startMosquitto(t)
	m.kill()
	p := newProxy(t, m.upstream())
	p.keep(m.password)
	token := p.token("thermometer")
	p.start()
	attempt := func(version string) int {
		return mosquittoPub(t, append(p.clientArgs(token), "-V", version, "-q", "1", "-t", "a", "-m", "b")...).status
	}
	down := func() {
		t.Helper()
		for version, want := range map[string]int{"mqttv31": 3, "mqttv311": 3, "mqttv5": 136} {
			if got := attempt(version); got != want {
				t.Errorf("without a broker: %s gets status %d, want %d", version, got, want)
			}
		}
		if status, _ := fetch(t, "http://"+p.admin+"/readyz", ""); status != 503 {
			t.Errorf("without a broker: /readyz has status %d, want 503", status)
		}
	}
	down()
	m.start()
	if got := attempt("mqttv311"); got != 0 {
		t.Errorf("with the broker: status %d, want 0", got)
	}
	if status, _ := fetch(t, "http://"+p.admin+"/readyz", ""); status != 200 {
		t.Errorf("with the broker: /readyz has status %d, want 200", status)
	}
	d := connect(t, dial(t, p.plain), identity(5, "d", token))
	m.kill()
	if _, err := d.farewell(patience); err != nil {
		t.Errorf("the broker is gone and the device %v", err)
	}
	down()
	m.start()
	if got := attempt("mqttv5"); got != 0 {
		t.Errorf("with the broker again: status %d, want 0", got)
	}
}

// TestBrokerRefusesProxy: the device did nothing wrong and must not be told so;
// the operator must.
func TestBrokerRefusesProxy(t *testing.T) {
	t.Parallel()
	m := startMosquitto(t)
	p := newProxy(t, strings.Replace(m.upstream(), m.password, "not-"+m.password, 1))
	p.keep(m.password)
	token := p.token("thermometer")
	p.start()
	for version, want := range map[string]int{"mqttv31": 3, "mqttv311": 3, "mqttv5": 136} {
		if r := mosquittoPub(t, append(p.clientArgs(token), "-V", version, "-t", "a", "-m", "b")...); r.status != want {
			t.Errorf("%s: status %d, want %d\n%s", version, r.status, want, r.all())
		}
	}
	line := p.awaitLog("refusal", func(l logged) bool { return l.String("reason") == "upstream_credentials" })
	if line.String("level") != "error" || line.String("subject") != "thermometer" {
		t.Errorf("the log says %v, want an error that names the device", line)
	}
	if !p.counts(`mqtt_auth_proxy_connections_refused_total{listener="plain",reason="upstream_credentials"} 3`) {
		t.Error("no metric counts the refusals")
	}
}

// TestTokenStaysHere: the broker gets the proxy's credentials in place of the
// device's and a client id with the subject in it, and everything else as it was.
func TestTokenStaysHere(t *testing.T) {
	t.Parallel()
	s := startSink(t)
	p := newProxy(t, s.upstream())
	token := p.token("thermometer")
	p.start()
	in := identity(5, "hall-2", token)
	in.CleanStart, in.KeepAlive, in.HasPassword, in.Password = false, 77, true, "ignored"
	in.HasWill, in.Will = true, packets.Will{Topic: "gone", Payload: []byte("\x00\xFF"), QoS: 2, Retain: true}
	in.Properties = packets.Properties{0x11, 0, 0, 1, 0} // session expiry interval
	connect(t, dial(t, p.plain), in)
	want := *in
	want.ClientID, want.Username, want.HasPassword, want.Password = "thermometer:hall-2", "proxy", false, ""
	_, connects := s.reached()
	if len(connects) != 1 || string(connects[0].Append(nil)) != string(want.Append(nil)) {
		t.Errorf("the broker got %d CONNECTs, the first %x, want %x", len(connects), connects[0].Append(nil), want.Append(nil))
	}
}

// TestBrokerWithoutMQTT5: a device learns from the broker's answer, which comes in the
// form of 3.1.1, that it should fall back, and does.
func TestBrokerWithoutMQTT5(t *testing.T) {
	t.Parallel()
	s := startSink(t)
	s.newest = 4
	p := newProxy(t, s.upstream())
	token := p.token("thermometer")
	p.start()
	want := packets.UnsupportedProtocolVersion
	if _, ack := present(t, dial(t, p.plain), identity(5, "d", token)); ack.Code != want {
		t.Errorf("a 5.0 device is told %v, want %v", ack.Code, want)
	}
	connect(t, dial(t, p.plain), identity(4, "d", token))
	p.awaitLog("the broker's answer", func(l logged) bool {
		return l.String("reason") == "upstream_refused" && strings.Contains(l.String("detail"), "in the form of MQTT 3.1.1")
	})
}

// TestBrokerDislikesTheWill: Mosquitto answers "not authorized" before MQTT 5.0 if the
// will is too large. It has accepted the proxy's credentials a moment ago, so the device
// is told, and the log does not blame the credentials.
func TestBrokerDislikesTheWill(t *testing.T) {
	t.Parallel()
	m := startMosquitto(t)
	m.kill()
	config, err := os.ReadFile(m.config)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(m.config, append(config, "message_size_limit 100\n"...), 0o600); err != nil {
		t.Fatal(err)
	}
	m.start()
	p := newProxy(t, m.upstream())
	p.keep(m.password)
	good, bad := p.token("good"), p.token("bad")
	p.start()
	connect(t, dial(t, p.plain), identity(4, "d", good))
	for level, want := range map[byte]packets.ReasonCode{4: packets.RefusedNotAuthorized, 5: packets.PacketTooLarge} {
		c := identity(level, "d", bad)
		c.HasWill, c.Will = true, packets.Will{Topic: "gone", Payload: make([]byte, 200)}
		if _, ack := present(t, dial(t, p.plain), c); ack.Code != want {
			t.Errorf("level %d: CONNACK %v, want %v", level, ack.Code, want)
		}
	}
	if p.counts(`mqtt_auth_proxy_connections_refused_total{listener="plain",reason="upstream_credentials"} 1`) {
		t.Error("the proxy's credentials are blamed")
	}
}
