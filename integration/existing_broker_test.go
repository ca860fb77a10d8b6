//go:build integration

package integration

import (
	"encoding/hex"
	"net/http"
	"os"
	"strings"
	"testing"

	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/integration/harness"
	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/packets"
	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/packets/packetstest"
)

// TestCommandsInFrontOfMosquitto runs the two commands of the README. A shell removes the
// quotes from their payload; nothing else may change it.
func TestCommandsInFrontOfMosquitto(t *testing.T) {
	t.Parallel()
	harness.Need(t, "mosquitto_pub")
	m := harness.StartMosquitto(t)
	p := harness.NewProxy(t, m.Upstream())
	token := p.Token("thermometer")
	p.Start()
	behind := harness.Subscribe(t, append(m.ClientArgs(), "-q", "1", "-t", "v1/devices/me/telemetry", "-C", "2")...)
	for _, line := range []string{
		`mosquitto_pub -d -q 1 -h localhost -p ` + harness.Port(p.Plain) + ` -t v1/devices/me/telemetry -u "$TOKEN" -m {"temperature":25}`,
		`mosquitto_pub --cafile ca-root.pem -d -q 1 -h localhost -p ` + harness.Port(p.TLS) + ` -t v1/devices/me/telemetry -u "$TOKEN" -m {"temperature":25}`,
	} {
		r := harness.Command{Dir: p.Data + "/tls", Env: append(harness.CleanEnvironment(), "TOKEN="+token), Args: []string{"sh", "-c", line}}.Run(t)
		if r.Status != 0 {
			t.Fatalf("%s\nstatus %d\n%s", line, r.Status, r.Output())
		}
	}
	want := harness.Message{Topic: "v1/devices/me/telemetry", QoS: "1", Retain: "0", Payload: hex.EncodeToString([]byte("{temperature:25}"))}
	for i, got := range behind.Messages(2) {
		if got != want {
			t.Errorf("message %d: the broker has %v, want %v", i+1, got, want)
		}
	}
}

// TestDevicesCannotReachTheBroker: the proxy refuses the broker's own credentials, and
// the broker refuses the tokens of devices.
func TestDevicesCannotReachTheBroker(t *testing.T) {
	t.Parallel()
	m := harness.StartMosquitto(t)
	p := harness.NewProxy(t, m.Upstream())
	p.AddSecret(m.Password)
	token := p.Token("thermometer")
	p.Start()
	direct := append(m.ClientArgs()[:4], "-u", token, "-t", "a", "-m", "b")
	if r := harness.MosquittoPub(t, direct...); r.Status != 5 {
		t.Errorf("the token at the broker itself: status %d, want 5\n%s", r.Status, r.Output())
	}
	if r := harness.MosquittoPub(t, append(p.ClientArgs(m.Username), "-P", m.Password, "-t", "a", "-m", "b")...); r.Status != 5 {
		t.Errorf("the broker's credentials at the proxy: status %d, want 5\n%s", r.Status, r.Output())
	}
	harness.Publish(t, append(p.ClientArgs(token), "-t", "a", "-m", "b")...)
}

// TestBrokerDown: devices are asked to try again later, and can connect as soon as the
// broker is back.
func TestBrokerDown(t *testing.T) {
	t.Parallel()
	m := harness.StartMosquitto(t)
	m.Kill()
	p := harness.NewProxy(t, m.Upstream())
	p.AddSecret(m.Password)
	token := p.Token("thermometer")
	p.Start()
	attempt := func(version string) int {
		return harness.MosquittoPub(t, append(p.ClientArgs(token), "-V", version, "-q", "1", "-t", "a", "-m", "b")...).Status
	}
	down := func() {
		t.Helper()
		for version, want := range map[string]int{"mqttv31": 3, "mqttv311": 3, "mqttv5": 136} {
			if got := attempt(version); got != want {
				t.Errorf("without a broker: %s gets status %d, want %d", version, got, want)
			}
		}
		if status, _ := harness.Fetch(t, "http://"+p.Admin+"/readyz", ""); status != 503 {
			t.Errorf("without a broker: /readyz has status %d, want 503", status)
		}
	}
	down()
	m.Start()
	if got := attempt("mqttv311"); got != 0 {
		t.Errorf("with the broker: status %d, want 0", got)
	}
	if status, _ := harness.Fetch(t, "http://"+p.Admin+"/readyz", ""); status != 200 {
		t.Errorf("with the broker: /readyz has status %d, want 200", status)
	}
	d := p.Connect(t, 5, "d", token)
	m.Kill()
	if _, err := d.AwaitEnd(harness.Patience); err != nil {
		t.Errorf("the broker is gone and the device %v", err)
	}
	down()
	m.Start()
	if got := attempt("mqttv5"); got != 0 {
		t.Errorf("with the broker again: status %d, want 0", got)
	}
}

// TestBrokerRefusesProxy: if the broker refuses the proxy's credentials, the log says so.
// The device is asked to try again later, because its own credentials are right.
func TestBrokerRefusesProxy(t *testing.T) {
	t.Parallel()
	m := harness.StartMosquitto(t)
	p := harness.NewProxy(t, strings.Replace(m.Upstream(), m.Password, "not-"+m.Password, 1))
	p.AddSecret(m.Password)
	token := p.Token("thermometer")
	p.Start()
	for version, want := range map[string]int{"mqttv31": 3, "mqttv311": 3, "mqttv5": 136} {
		if r := harness.MosquittoPub(t, append(p.ClientArgs(token), "-V", version, "-t", "a", "-m", "b")...); r.Status != want {
			t.Errorf("%s: status %d, want %d\n%s", version, r.Status, want, r.Output())
		}
	}
	line := p.AwaitLog("refusal", func(l harness.LogLine) bool { return l.String("reason") == "upstream_credentials" })
	if line.String("level") != "error" || line.String("subject") != "thermometer" {
		t.Errorf("the log says %v, want an error that names the device", line)
	}
	harness.Eventually(t, "a metric that counts the refusals", func() bool {
		return p.HasMetric(`mqtt_auth_proxy_connections_refused_total{listener="plain",reason="upstream_credentials"} 3`)
	})
	ready := func() (int, string) { return harness.Fetch(t, "http://"+p.Admin+"/readyz", "") }
	harness.Eventually(t, "/readyz says so", func() bool {
		status, body := ready()
		return status == 503 && strings.Contains(body, "refuses the proxy's credentials") && p.HasMetric("mqtt_auth_proxy_upstream_login_refused 1")
	})
	harness.WriteFile(t, p.Config, strings.Replace(harness.ReadFile(t, p.Config), "not-"+m.Password, m.Password, 1))
	if status, body := p.Request(http.MethodPost, "/v1/reload", ""); status != 200 {
		t.Fatalf("reload: %d %s", status, body)
	}
	p.Connect(t, 5, "d", token)
	harness.Eventually(t, "/readyz with the right password", func() bool {
		status, _ := ready()
		return status == 200 && p.HasMetric("mqtt_auth_proxy_upstream_login_refused 0")
	})
}

// TestTokenIsNotForwarded: the broker gets the proxy's credentials instead of the
// device's, and a client identifier with the subject in it. The rest of the CONNECT is
// unchanged.
func TestTokenIsNotForwarded(t *testing.T) {
	t.Parallel()
	s := harness.StartSink(t)
	p := harness.NewProxy(t, s.Upstream())
	token := p.Token("thermometer")
	p.Start()
	in := packetstest.Identity(5, "hall-2", token)
	in.CleanStart, in.KeepAlive, in.HasPassword, in.Password = false, 77, true, "ignored"
	in.HasWill, in.Will = true, packets.Will{Topic: "gone", Payload: []byte("\x00\xFF"), QoS: 2, Retain: true}
	in.Properties = packets.Properties{0x11, 0, 0, 1, 0} // session expiry interval
	packetstest.Connect(t, packetstest.Dial(t, p.Plain), in)
	want := *in
	want.ClientID, want.Username, want.HasPassword, want.Password = "thermometer:hall-2", "proxy", false, ""
	_, connects := s.Reached()
	if len(connects) != 1 || string(connects[0].Append(nil)) != string(want.Append(nil)) {
		t.Errorf("the broker got %d CONNECTs, the first %x, want %x", len(connects), connects[0].Append(nil), want.Append(nil))
	}
}

// TestBrokerWithoutMQTT5: a 5.0 device gets the broker's answer, which has the form of
// 3.1.1, and can connect again with 3.1.1.
func TestBrokerWithoutMQTT5(t *testing.T) {
	t.Parallel()
	s := harness.StartSink(t)
	s.NewestLevel = 4
	p := harness.NewProxy(t, s.Upstream())
	token := p.Token("thermometer")
	p.Start()
	want := packets.UnsupportedProtocolVersion
	if _, ack := p.Present(t, 5, "d", token); ack.Code != want {
		t.Errorf("a 5.0 device gets %v, want %v", ack.Code, want)
	}
	p.Connect(t, 4, "d", token)
	p.AwaitLog("the broker's answer", func(l harness.LogLine) bool {
		return l.String("reason") == "upstream_refused" && strings.Contains(l.String("detail"), "in the form of MQTT 3.1.1")
	})
}

// TestBrokerRefusesWill: before MQTT 5.0 Mosquitto answers "not authorized" if the will
// is too large. It has accepted the proxy's credentials a moment ago, so the answer is
// forwarded to the device, and the log does not blame the credentials.
func TestBrokerRefusesWill(t *testing.T) {
	t.Parallel()
	m := harness.StartMosquitto(t)
	m.Kill()
	config, err := os.ReadFile(m.Config)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(m.Config, append(config, "message_size_limit 100\n"...), 0o600); err != nil {
		t.Fatal(err)
	}
	m.Start()
	p := harness.NewProxy(t, m.Upstream())
	p.AddSecret(m.Password)
	good, bad := p.Token("good"), p.Token("bad")
	p.Start()
	p.Connect(t, 4, "d", good)
	for level, want := range map[byte]packets.ReasonCode{4: packets.RefusedNotAuthorized, 5: packets.PacketTooLarge} {
		c := packetstest.Identity(level, "d", bad)
		c.HasWill, c.Will = true, packets.Will{Topic: "gone", Payload: make([]byte, 200)}
		if _, ack := packetstest.Present(t, packetstest.Dial(t, p.Plain), c); ack.Code != want {
			t.Errorf("level %d: CONNACK %v, want %v", level, ack.Code, want)
		}
	}
	if p.HasMetric(`mqtt_auth_proxy_connections_refused_total{listener="plain",reason="upstream_credentials"} 1`) {
		t.Error("the proxy's credentials are blamed")
	}
}
