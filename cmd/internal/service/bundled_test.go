package service

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/cmd/internal/config"
)

// TestNotReadyWithTooLittleDisk: /readyz and the metrics say that devices cannot be served,
// and why.
func TestNotReadyWithTooLittleDisk(t *testing.T) {
	s, _ := startService(t, bundledConfig+"telemetry: {min_free: 4000000000GiB}\n")
	if status, body := get(t, s, "/readyz"); status != 503 || !strings.Contains(body, "bytes of disk are free at "+filepath.Dir(s.current.Load().config.Telemetry.Path)) {
		t.Errorf("/readyz: %d %s", status, body)
	}
	_, metrics := get(t, s, "/metrics")
	for _, line := range []string{"mqtt_auth_proxy_ready 0\n", "mqtt_auth_proxy_telemetry_writable 0\n"} {
		if !strings.Contains(metrics, line) {
			t.Errorf("the metrics lack %s", line)
		}
	}
}

func TestReadyWithRoomOnTheDisk(t *testing.T) {
	s, _ := startService(t, bundledConfig+"telemetry: {min_free: 0}\n")
	if status, body := get(t, s, "/readyz"); status != 200 {
		t.Errorf("/readyz: %d %s", status, body)
	}
	if _, metrics := get(t, s, "/metrics"); !strings.Contains(metrics, "mqtt_auth_proxy_telemetry_writable 1\n") {
		t.Error("the metrics do not say that the store can write")
	}
}

// TestTooLittleDiskIsAWarning: check and the start warn of a full disk, unless the broker is
// outside the program and nothing is stored.
func TestTooLittleDiskIsAWarning(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "proxy.yaml")
	for _, tt := range []struct {
		yaml string
		want bool
	}{
		{"telemetry: {min_free: 4000000000GiB}\n", true},
		{"telemetry: {min_free: 0}\n", false},
		{"telemetry: {min_free: 4000000000GiB}\nupstream: {servers: ['tcp://127.0.0.1:1883']}\n", false},
	} {
		if err := os.WriteFile(path, []byte("data: "+filepath.Join(dir, "not", "made")+"\n"+tt.yaml), 0o600); err != nil {
			t.Fatal(err)
		}
		c, err := config.Load(config.Options{Path: path})
		if err != nil {
			t.Fatal(err)
		}
		told := false
		for _, w := range warnings(c) {
			told = told || strings.HasPrefix(w.String(), path+":2: telemetry.min_free: no telemetry is stored for now: ") && strings.Contains(w.String(), "free at "+dir+",")
		}
		if told != tt.want {
			t.Errorf("%q: warned %v, want %v: %v", tt.yaml, told, tt.want, warnings(c))
		}
	}
}
