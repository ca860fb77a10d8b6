//go:build integration

package integration

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// TestLowDisk: with too little room on the disk nothing is acknowledged, /readyz and a
// metric say why, and all of it ends by itself once there is room.
func TestLowDisk(t *testing.T) {
	t.Parallel()
	disk := t.TempDir()
	if err := unix.Mount("tmpfs", disk, "tmpfs", 0, "size=48m"); err != nil {
		t.Skipf("no file system of its own can be mounted, which takes root: %v", err)
	}
	t.Cleanup(func() {
		if err := unix.Unmount(disk, unix.MNT_DETACH); err != nil {
			t.Error(err)
		}
	})
	p := newProxy(t, "telemetry: {min_free: 16MiB, path: '"+filepath.Join(disk, "telemetry.db")+"'}\n")
	token := p.token("device")
	p.start()
	publish := func(payload string) error {
		return connect(t, dial(t, p.plain), identity(4, "device", token)).publish("v1/devices/me/telemetry", payload)
	}
	ready := func() (int, string) { return fetch(t, "http://"+p.admin+"/readyz", "") }
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
	if !p.counts("mqtt_auth_proxy_telemetry_writable 0") || !p.counts("mqtt_auth_proxy_ready 0") {
		t.Error("the metrics do not say that nothing can be stored")
	}
	if err := publish(`{"n":2}`); err == nil {
		t.Error("a message was acknowledged without room for it")
	}
	r := command{environ: cleanEnvironment(), argv: []string{binary, "check", "--config", p.config}}.run(t)
	if r.status != 0 || !strings.Contains(r.stderr, "telemetry.min_free: no telemetry is stored for now: ") {
		t.Errorf("check: status %d, %s", r.status, r.stderr)
	}
	if err := os.Remove(ballast); err != nil {
		t.Fatal(err)
	}
	eventually(t, "readiness with room again", func() bool {
		status, _ := ready()
		return status == 200 && p.counts("mqtt_auth_proxy_telemetry_writable 1")
	})
	if err := publish(`{"n":3}`); err != nil {
		t.Errorf("with room again: %v", err)
	}
}
