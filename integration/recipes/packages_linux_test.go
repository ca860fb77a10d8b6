//go:build integration

package recipes

import (
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/integration/harness"
	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/packets/packetstest"
)

// TestReleaseArchives: an archive holds the program and its manual and has a checksum.
// The program needs no other file: it serves in an empty root directory without rights.
func TestReleaseArchives(t *testing.T) {
	t.Parallel()
	out, arch := t.TempDir(), releaseArch()
	build := harness.Launch(t, append(os.Environ(), "PLATFORMS=linux/"+arch), "packages/build", "v1.2.3", out)
	if status := build.Wait(t, 3*time.Minute); status != 0 {
		t.Fatalf("build: status %d\n%s%s", status, build.Stdout, build.Stderr)
	}
	if c := (harness.Command{Dir: out, Args: []string{"sha256sum", "-c", "checksums.txt"}}).Run(t); c.Status != 0 || strings.Count(c.Stdout, ": OK\n") != 2 {
		t.Errorf("checksums: status %d\n%s", c.Status, c.Output())
	}
	name := "mqtt-auth-proxy_v1.2.3_linux_" + arch
	if c := harness.Run(t, "tar", "-C", out, "-xzf", filepath.Join(out, name+".tar.gz")); c.Status != 0 {
		t.Fatalf("unpack: %s", c.Output())
	}
	for _, file := range []string{"README.md", "LICENSE", "systemd/mqtt-auth-proxy.service"} {
		if len(harness.ReadFile(t, out, name, file)) == 0 {
			t.Errorf("%s is empty", file)
		}
	}
	if c := harness.Run(t, filepath.Join(out, name, "mqtt-auth-proxy"), "version"); !strings.HasPrefix(c.Stdout, "mqtt-auth-proxy v1.2.3 ") {
		t.Errorf("version: %s", c.Output())
	}
	root := t.TempDir()
	if err := os.Rename(filepath.Join(out, name, "mqtt-auth-proxy"), filepath.Join(root, "mqtt-auth-proxy")); err != nil {
		t.Fatal(err)
	}
	serveInEmptyRoot(t, root)
}

// releaseArch returns the name of this machine's processor in the files of a release.
func releaseArch() string {
	if runtime.GOARCH == "arm" {
		return "armv7"
	}
	return runtime.GOARCH
}

// serveInEmptyRoot runs the program as in a container that holds nothing else.
func serveInEmptyRoot(t *testing.T, root string) {
	t.Helper()
	p := harness.BareProxy(t)
	p.Data = filepath.Join(root, "data")
	if err := os.Mkdir(p.Data, 0o700); err != nil {
		t.Fatal(err)
	}
	inside := []string{harness.Need(t, "chroot"), root, "/mqtt-auth-proxy"}
	if os.Getuid() != 0 {
		// In a user namespace of its own every user may change the root.
		inside = append([]string{harness.Need(t, "unshare"), "-r"}, inside...)
	} else {
		inside = []string{harness.Need(t, "chroot"), "--userspec=65532:65532", root, "/mqtt-auth-proxy"}
		giveTo(t, root, 65532)
	}
	environ := []string{"MQTT_AUTH_PROXY_DATA=/data", "MQTT_AUTH_PROXY_ADMIN_ADDRESS=" + p.Admin, "MQTT_AUTH_PROXY_LOG_LEVEL=debug",
		"MQTT_AUTH_PROXY_LISTENERS_0_ADDRESS=" + p.Plain, "MQTT_AUTH_PROXY_LISTENERS_1_ADDRESS=" + p.TLS, "MQTT_AUTH_PROXY_LISTENERS_1_TLS_AUTO=true"}
	p.Process = harness.Launch(t, environ, append(inside, "serve")...)
	p.Processes = append(p.Processes, p.Process)
	p.AwaitServing()
	made := harness.Command{Env: environ, Args: append(inside, "token", "create", "sensor-17")}.Run(t)
	token := strings.TrimSpace(made.Stdout)
	if made.Status != 0 || token == "" {
		t.Fatalf("token create: status %d\n%s", made.Status, made.Stderr)
	}
	p.AddSecret(token)
	harness.Eventually(t, "the new token to let in", func() bool {
		_, ack := packetstest.Present(t, p.DialTLS(t), packetstest.Identity(5, "d", token))
		return ack.Code == 0
	})
}

// giveTo makes another user the owner of the data directory and lets it enter the test's directory.
func giveTo(t *testing.T, root string, uid int) {
	t.Helper()
	if err := os.Chown(filepath.Join(root, "data"), uid, uid); err != nil {
		t.Fatal(err)
	}
	for dir := root; len(dir) > len(os.TempDir()); dir = filepath.Dir(dir) {
		if err := os.Chmod(dir, 0o755); err != nil {
			t.Fatal(err)
		}
	}
}
