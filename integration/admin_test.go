//go:build integration

package integration

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/integration/harness"
)

// TestAdminSide: every client may request the probes, everything else requires the admin token, and
// the metrics count events without naming devices.
func TestAdminSide(t *testing.T) {
	t.Parallel()
	p := harness.NewProxy(t, "")
	token := p.Token("gauge")
	p.Start()
	for path, want := range map[string]int{
		"/livez": 200, "/readyz": 200,
		"/metrics": 401, "/nothing": 401, "/debug/pprof/heap": 401, "/api/plugins/telemetry/DEVICE/gauge/keys/timeseries": 401,
	} {
		for _, authorization := range []string{"", "Bearer wrong-wrong-wrong-wrong", "Bearer " + token} {
			status, body := harness.Fetch(t, "http://"+p.Admin+path, authorization)
			if status != want {
				t.Errorf("GET %s: status %d, want %d", path, status, want)
			}
			var problem struct{ Status int }
			if want == 401 && (json.Unmarshal([]byte(body), &problem) != nil || problem.Status != 401) {
				t.Errorf("GET %s: %q, want problem details", path, body)
			}
		}
	}

	d := p.Connect(t, 5, "client-of-gauge", token)
	if err := d.Publish("v1/devices/me/telemetry", `{"level":1,"flow":2.5}`); err != nil {
		t.Fatal(err)
	}
	p.AddSecret("wrong-wrong-wrong")
	if _, ack := p.Present(t, 4, "stranger", "wrong-wrong-wrong"); ack.Code != 5 {
		t.Fatalf("a wrong token gets %v", ack.Code)
	}
	if n := harness.Metric(t, p, "mqtt_auth_proxy_sessions"); n != 1 {
		t.Errorf("%v sessions, want 1", n)
	}
	harness.Eventually(t, "a count of 52 bytes for the PUBLISH of a live session", func() bool {
		return harness.Metric(t, p, `mqtt_auth_proxy_session_bytes_total{direction="up"}`) == 52
	})
	if _, err := d.Conn.Write([]byte{0xE0, 0}); err != nil {
		t.Fatal(err)
	}
	d.Conn.Close()
	harness.Eventually(t, "the end of the session", func() bool { return harness.Metric(t, p, "mqtt_auth_proxy_sessions") == 0 })
	for name, want := range map[string]float64{
		`mqtt_auth_proxy_connections_accepted_total{listener="plain"}`:                       2,
		`mqtt_auth_proxy_connections_refused_total{listener="plain",reason="unknown_token"}`: 1,
		`mqtt_auth_proxy_sessions_opened_total{listener="plain",version="5.0"}`:              1,
		`mqtt_auth_proxy_connect_seconds_count{listener="plain"}`:                            1,
		`mqtt_auth_proxy_telemetry_messages_total`:                                           1,
		`mqtt_auth_proxy_telemetry_points_total`:                                             2,
		`mqtt_auth_proxy_panics_total`:                                                       0,
		`mqtt_auth_proxy_session_bytes_total{direction="up"}`:                                52 + 2, // PUBLISH and DISCONNECT
	} {
		harness.Eventually(t, fmt.Sprintf("%s %v", name, want), func() bool { return harness.Metric(t, p, name) == want })
	}
	_, metrics := p.Get("/metrics")
	for _, private := range []string{token, "wrong-wrong", "client-of-gauge", "stranger", `"gauge"`} {
		if strings.Contains(metrics, private) {
			t.Errorf("the metrics contain %.6s...", private)
		}
	}
	if status, body := p.Get("/api/plugins/telemetry/DEVICE/gauge/keys/timeseries"); status != 200 || !strings.Contains(body, `"flow"`) || !strings.Contains(body, `"level"`) {
		t.Errorf("keys: status %d, %s", status, body)
	}
}
