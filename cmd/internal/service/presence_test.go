package service

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/cmd/internal/admin"
	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/cmd/internal/presence"
	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/packets"
)

func seenDevices(t *testing.T, s *Service) []presence.Device {
	t.Helper()
	var page presence.Page
	await(t, "answer about devices", func() bool {
		status, body := get(t, s, "/v1/devices")
		return status == 200 && json.Unmarshal([]byte(body), &page) == nil
	})
	return page.Devices
}

// TestDevicesAreRememberedAfterARestart: with the time of their first session.
func TestDevicesAreRememberedAfterARestart(t *testing.T) {
	s, _ := startService(t, bundledConfig)
	connectDemo(t, s, 4)
	var before []presence.Device
	await(t, "record of the session", func() bool { before = seenDevices(t, s); return len(before) == 1 })
	if len(before) != 1 || before[0].Subject != "demo" || !before[0].Connected || before[0].Address != "127.0.0.1" {
		t.Fatalf("devices %+v", before)
	}
	s.Close()
	again, err := restart(t, s)
	if err != nil {
		t.Fatal(err)
	}
	again.start()
	after := seenDevices(t, again)
	if len(after) != 1 || after[0].Connected || !after[0].FirstSeen.Equal(before[0].FirstSeen) || after[0].LastSeen.Before(before[0].LastSeen) {
		t.Errorf("devices %+v, and after a restart %+v", before, after)
	}
}

// TestDevicesAreServedWithoutTheirRecord: a state.db that cannot be used is a fault in log, status
// and metrics, and nothing else.
func TestDevicesAreServedWithoutTheirRecord(t *testing.T) {
	s, _ := startService(t, bundledConfig)
	token := s.demo.token.Reveal()
	s.Close()
	path := filepath.Join(s.current.Load().config.Data, stateFile)
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(path, 0o700); err != nil {
		t.Fatal(err)
	}
	again, err := restart(t, s)
	if err != nil {
		t.Fatal(err)
	}
	again.start()
	connect := packets.Connect{Level: 4, CleanStart: true, ClientID: "test", HasUsername: true, Username: token}
	if _, ack := login(t, again, connect); ack.Code != packets.Success {
		t.Errorf("CONNACK %v", ack.Code)
	}
	var st admin.Status
	await(t, "the fault", func() bool {
		_, body := get(t, again, "/v1/status")
		return json.Unmarshal([]byte(body), &st) == nil && strings.Contains(st.Presence.Error, path) && strings.Contains(st.Presence.Error, "directory")
	})
	if _, metrics := get(t, again, "/metrics"); !strings.Contains(metrics, "mqtt_auth_proxy_presence_recorded 0\n") {
		t.Error("the metrics do not say that nothing is recorded")
	}
	if status, body := get(t, again, "/v1/devices"); status != 503 || !strings.Contains(body, path) {
		t.Errorf("/v1/devices: %d %s", status, body)
	}
	if status, body := get(t, again, "/readyz"); status != 200 {
		t.Errorf("/readyz: %d %s", status, body)
	}
}

// TestLogSessionsTakesEffectAtAReload: without a restart.
func TestLogSessionsTakesEffectAtAReload(t *testing.T) {
	s, log := startService(t, strings.Replace(bundledConfig, "debug", "info", 1))
	begin := func() {
		t.Helper()
		connectDemo(t, s, 4)
	}
	begin()
	await(t, "session", func() bool { devices := seenDevices(t, s); return len(devices) == 1 && devices[0].Connected })
	if strings.Contains(log.String(), "session open") {
		t.Error("a line without the key")
	}
	text := strings.Replace(bundledConfig, "level: debug", "level: info, sessions: true", 1)
	if err := os.WriteFile(s.Config.Path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	if status, body := call(t, s, "POST", "/v1/reload", ""); status != 200 {
		t.Fatalf("reload: %d %s", status, body)
	}
	begin()
	await(t, "line", func() bool {
		return strings.Contains(log.String(), `"level":"info"`) && strings.Contains(log.String(), "session open")
	})
}
