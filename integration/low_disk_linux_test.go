//go:build integration

package integration

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/integration/harness"
)

// TestLowDisk: with too little room on the disk no message is acknowledged, and /readyz
// and a metric say why. All of it recovers once there is room.
func TestLowDisk(t *testing.T) {
	t.Parallel()
	disk := t.TempDir()
	if err := unix.Mount("tmpfs", disk, "tmpfs", 0, "size=48m"); err != nil {
		harness.Skip(t, fmt.Sprintf("no tmpfs can be mounted, which takes root: %v", err))
	}
	t.Cleanup(func() {
		if err := unix.Unmount(disk, unix.MNT_DETACH); err != nil {
			t.Error(err)
		}
	})
	p := harness.NewProxy(t, "telemetry: {min_free: 16MiB, path: '"+filepath.Join(disk, "telemetry.db")+"'}\n")
	token := p.Token("device")
	p.Start()
	publish := func(payload string) error {
		return p.Connect(t, 4, "device", token).Publish("v1/devices/me/telemetry", payload)
	}
	ready := func() (int, string) { return harness.Fetch(t, "http://"+p.Admin+"/readyz", "") }
	if err := publish(`{"n":1}`); err != nil {
		t.Fatal(err)
	}
	if status, body := ready(); status != 200 {
		t.Fatalf("with room: /readyz %d %s", status, body)
	}
	ballast := filepath.Join(disk, "ballast")
	if err := os.WriteFile(ballast, make([]byte, 40<<20), 0o600); err != nil {
		t.Fatal(err)
	}
	if status, body := ready(); status != 503 || !strings.Contains(body, "bytes of disk are free at "+disk) {
		t.Errorf("without room: /readyz %d %s", status, body)
	}
	if !p.HasMetric("mqtt_auth_proxy_telemetry_writable 0") || !p.HasMetric("mqtt_auth_proxy_ready 0") {
		t.Error("the metrics do not say that nothing can be stored")
	}
	if err := publish(`{"n":2}`); err == nil {
		t.Error("a message was acknowledged without room for it")
	}
	r := harness.Command{Env: harness.CleanEnvironment(), Args: []string{harness.Binary(), "check", "--config", p.Config}}.Run(t)
	if r.Status != 0 || !strings.Contains(r.Stderr, "telemetry.min_free: no telemetry is stored for now: ") {
		t.Errorf("check: status %d, %s", r.Status, r.Stderr)
	}
	if err := os.Remove(ballast); err != nil {
		t.Fatal(err)
	}
	harness.Eventually(t, "readiness with room again", func() bool {
		status, _ := ready()
		return status == 200 && p.HasMetric("mqtt_auth_proxy_telemetry_writable 1")
	})
	if err := publish(`{"n":3}`); err != nil {
		t.Errorf("with room again: %v", err)
	}
}
