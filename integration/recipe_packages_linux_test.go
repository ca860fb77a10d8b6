//go:build integration

package integration

import (
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"
)

// TestReleaseArchives: an archive holds the program and its manual, has a checksum,
// and the program needs nothing but itself: it serves as nobody in an empty root.
func TestReleaseArchives(t *testing.T) {
	t.Parallel()
	out, arch := t.TempDir(), releaseArch()
	build := launch(t, append(os.Environ(), "PLATFORMS=linux/"+arch), "packages/build", "v1.2.3", out)
	if status := build.wait(t, 3*time.Minute); status != 0 {
		t.Fatalf("build: status %d\n%s%s", status, build.stdout, build.stderr)
	}
	if c := (command{dir: out, argv: []string{"sha256sum", "-c", "checksums.txt"}}).run(t); c.status != 0 || strings.Count(c.stdout, ": OK\n") != 2 {
		t.Errorf("checksums: status %d\n%s", c.status, c.all())
	}
	name := "mqtt-auth-proxy_v1.2.3_linux_" + arch
	if c := run(t, "tar", "-C", out, "-xzf", filepath.Join(out, name+".tar.gz")); c.status != 0 {
		t.Fatalf("unpack: %s", c.all())
	}
	for _, file := range []string{"README.md", "LICENSE", "systemd/mqtt-auth-proxy.service"} {
		if len(readAll(t, out, name, file)) == 0 {
			t.Errorf("%s is empty", file)
		}
	}
	root := t.TempDir()
	if err := os.Rename(filepath.Join(out, name, "mqtt-auth-proxy"), filepath.Join(root, "mqtt-auth-proxy")); err != nil {
		t.Fatal(err)
	}
	serveInEmptyRoot(t, root)
}

// releaseArch is what a release calls this machine's processor.
func releaseArch() string {
	if runtime.GOARCH == "arm" {
		return "armv7"
	}
	return runtime.GOARCH
}

// serveInEmptyRoot runs the program as it runs in a container of which it is all.
func serveInEmptyRoot(t *testing.T, root string) {
	t.Helper()
	p := bareProxy(t)
	p.data = filepath.Join(root, "data")
	if err := os.Mkdir(p.data, 0o700); err != nil {
		t.Fatal(err)
	}
	inside := []string{need(t, "chroot"), root, "/mqtt-auth-proxy"}
	if os.Getuid() != 0 {
		// In a namespace of its own everybody may change the root.
		inside = append([]string{need(t, "unshare"), "-r"}, inside...)
	} else {
		inside = []string{need(t, "chroot"), "--userspec=65532:65532", root, "/mqtt-auth-proxy"}
		openTo(t, root, 65532)
	}
	environ := []string{"MQTT_AUTH_PROXY_DATA=/data", "MQTT_AUTH_PROXY_ADMIN_ADDRESS=" + p.admin, "MQTT_AUTH_PROXY_LOG_LEVEL=debug",
		"MQTT_AUTH_PROXY_LISTENERS_0_ADDRESS=" + p.plain, "MQTT_AUTH_PROXY_LISTENERS_1_ADDRESS=" + p.tls, "MQTT_AUTH_PROXY_LISTENERS_1_TLS_AUTO=true"}
	p.process = launch(t, environ, append(inside, "serve")...)
	p.processes = append(p.processes, p.process)
	p.awaitServing()
	made := command{environ: environ, argv: append(inside, "token", "create", "sensor-17")}.run(t)
	token := strings.TrimSpace(made.stdout)
	if made.status != 0 || token == "" {
		t.Fatalf("token create: status %d\n%s", made.status, made.stderr)
	}
	p.keep(token)
	eventually(t, "the new token to let in", func() bool {
		_, ack := present(t, p.dialTLS(t), identity(5, "d", token))
		return ack.Code == 0
	})
}

// openTo lets another user reach the test's directory, and own what is to be the data
// directory.
func openTo(t *testing.T, root string, uid int) {
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
