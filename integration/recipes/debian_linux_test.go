//go:build integration

package recipes

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/integration/harness"
)

// TestDebianPackage: the package holds the program and a valid configuration. Its
// installation creates a user and private directories.
func TestDebianPackage(t *testing.T) {
	t.Parallel()
	dpkg := harness.Need(t, "dpkg-deb")
	out := t.TempDir()
	completion := filepath.Join(t.TempDir(), "completion")
	if err := os.WriteFile(completion, []byte(harness.Run(t, harness.Binary(), "completion", "bash").Stdout), 0o600); err != nil {
		t.Fatal(err)
	}
	if r := harness.Run(t, "packages/deb", "v1.2.3-4-gabc", releaseArch(), harness.Binary(), completion, out); r.Status != 0 {
		t.Fatalf("deb: status %d\n%s", r.Status, r.Output())
	}
	found, err := filepath.Glob(filepath.Join(out, "mqtt-auth-proxy_1.2.3.4.gabc_*.deb"))
	if err != nil || len(found) != 1 {
		t.Fatalf("packages: %v, %v", found, err)
	}
	deb, root := found[0], filepath.Join(t.TempDir(), "root")
	for field, want := range map[string]string{"Package": "mqtt-auth-proxy", "Version": "1.2.3.4.gabc", "Depends": "passwd"} {
		if got := strings.TrimSpace(harness.Run(t, dpkg, "-f", deb, field).Stdout); got != want {
			t.Errorf("%s is %q, want %q", field, got, want)
		}
	}
	if r := harness.Run(t, dpkg, "-x", deb, root); r.Status != 0 {
		t.Fatalf("unpack: %s", r.Output())
	}
	for path, mode := range map[string]os.FileMode{
		"usr/bin/mqtt-auth-proxy": 0o755, "etc/mqtt-auth-proxy/proxy.yaml": 0o640,
		"usr/lib/systemd/system/mqtt-auth-proxy.service": 0o644, "usr/share/doc/mqtt-auth-proxy/copyright": 0o644,
		"usr/share/bash-completion/completions/mqtt-auth-proxy": 0o644, "usr/share/doc/mqtt-auth-proxy/prometheus/alerts.yaml": 0o644,
	} {
		if info, err := os.Stat(filepath.Join(root, path)); err != nil || info.Mode().Perm() != mode {
			t.Errorf("%s: %v, %v; want mode %v", path, info, err, mode)
		}
	}
	if text := harness.ReadFile(t, root, "usr/share/bash-completion/completions/mqtt-auth-proxy"); !strings.Contains(text, "complete -o default -F __start_mqtt-auth-proxy mqtt-auth-proxy") {
		t.Errorf("the package completes nothing:\n%s", text)
	}
	pages, err := filepath.Glob("../../cmd/mqtt-auth-proxy/*.md")
	if err != nil || len(pages) < 4 {
		t.Fatalf("pages of the manual: %v, %v", pages, err)
	}
	for _, page := range pages {
		if text := harness.ReadFile(t, root, "usr/share/doc/mqtt-auth-proxy", filepath.Base(page)); strings.Contains(text, "](../") {
			t.Errorf("%s links to files that the package does not have", page)
		}
	}
	unit := harness.ReadFile(t, root, "usr/lib/systemd/system/mqtt-auth-proxy.service")
	if !strings.Contains(unit, "ExecStart=/usr/bin/mqtt-auth-proxy serve --config /etc/mqtt-auth-proxy/proxy.yaml\n") {
		t.Errorf("the unit does not run the package's program on its configuration:\n%s", unit)
	}
	checked := harness.Command{Env: append(harness.CleanEnvironment(), "MQTT_AUTH_PROXY_DATA="+t.TempDir()), Args: []string{
		filepath.Join(root, "usr/bin/mqtt-auth-proxy"), "check", "--config", filepath.Join(root, "etc/mqtt-auth-proxy/proxy.yaml"),
	}}.Run(t)
	if checked.Status != 0 {
		t.Errorf("check: status %d\n%s", checked.Status, checked.Output())
	}
	if os.Getuid() == 0 {
		installPackage(t, deb)
	}
}

// installPackage installs, removes and purges the package in a root directory of its own.
// Only root can do that.
func installPackage(t *testing.T, deb string) {
	t.Helper()
	root := t.TempDir()
	for _, dir := range []string{"etc", "var/lib/dpkg/info", "var/lib/dpkg/updates"} {
		if err := os.MkdirAll(filepath.Join(root, dir), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	for file, text := range map[string]string{
		"etc/passwd": "root:x:0:0::/root:/bin/sh\n", "etc/group": "root:x:0:\n", "etc/shadow": "root:*:::::::\n", "etc/gshadow": "root:*::\n",
		"var/lib/dpkg/status": "", "var/lib/dpkg/available": "",
	} {
		if err := os.WriteFile(filepath.Join(root, file), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	dpkg := func(args ...string) harness.Result {
		t.Helper()
		r := harness.Run(t, append([]string{"dpkg", "--root=" + root, "--force-script-chrootless", "--force-depends", "--log=" + filepath.Join(root, "log")}, args...)...)
		if r.Status != 0 {
			t.Fatalf("dpkg %s: status %d\n%s", args, r.Status, r.Output())
		}
		return r
	}
	if r := dpkg("-i", deb); !strings.Contains(r.Stdout, "systemctl enable --now") {
		t.Errorf("a first installation does not say what to do next:\n%s", r.Output())
	}
	var uid, gid uint32
	for line := range strings.Lines(harness.ReadFile(t, root, "etc/passwd")) {
		if rest, ok := strings.CutPrefix(line, "mqtt-auth-proxy:x:"); ok {
			_, _ = fmt.Sscanf(rest, "%d:%d:", &uid, &gid)
		}
	}
	for path, mode := range map[string]os.FileMode{"var/lib/mqtt-auth-proxy": 0o700, "etc/mqtt-auth-proxy": 0o750, "etc/mqtt-auth-proxy/proxy.yaml": 0o640} {
		info, err := os.Stat(filepath.Join(root, path))
		if err != nil {
			t.Fatal(err)
		}
		owner := info.Sys().(*syscall.Stat_t)
		if info.Mode().Perm() != mode || owner.Gid != gid && path != "var/lib/mqtt-auth-proxy" || path == "var/lib/mqtt-auth-proxy" && owner.Uid != uid || uid == 0 {
			t.Errorf("%s: mode %v, owner %d:%d; the user is %d:%d", path, info.Mode(), owner.Uid, owner.Gid, uid, gid)
		}
	}
	edited := filepath.Join(root, "etc/mqtt-auth-proxy/proxy.yaml")
	if err := os.WriteFile(edited, []byte("# edited\n"), 0o640); err != nil {
		t.Fatal(err)
	}
	if r := dpkg("-i", deb); harness.ReadFile(t, edited) != "# edited\n" || strings.Contains(r.Stdout, "systemctl enable") {
		t.Errorf("an upgrade changes the configuration:\n%s", r.Output())
	}
	dpkg("-r", "mqtt-auth-proxy")
	if _, err := os.Stat(edited); err != nil {
		t.Errorf("a removal deletes the configuration: %v", err)
	}
	dpkg("-P", "mqtt-auth-proxy")
	for _, gone := range []string{"etc/mqtt-auth-proxy", "var/lib/mqtt-auth-proxy", "usr/bin/mqtt-auth-proxy"} {
		if _, err := os.Stat(filepath.Join(root, gone)); err == nil {
			t.Errorf("a purge leaves %s", gone)
		}
	}
}
