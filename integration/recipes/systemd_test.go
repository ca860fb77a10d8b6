//go:build integration && linux

package recipes

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/integration/harness"
	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/packets/packetstest"
)

// installUnits copies the recipe's units to a directory of its own, with the path of the
// program under test in them.
func installUnits(t *testing.T) (dir string, units []string) {
	t.Helper()
	dir = t.TempDir()
	found, err := filepath.Glob("systemd/mqtt-auth-proxy*")
	if err != nil || len(found) != 3 {
		t.Fatalf("found %q, %v", found, err)
	}
	for _, f := range found {
		text, err := os.ReadFile(f)
		if err != nil {
			t.Fatal(err)
		}
		unit := filepath.Join(dir, filepath.Base(f))
		if err := os.WriteFile(unit, []byte(strings.ReplaceAll(string(text), "/usr/local/bin/mqtt-auth-proxy", harness.Binary())), 0o644); err != nil {
			t.Fatal(err)
		}
		units = append(units, unit)
	}
	return dir, units
}

// TestUnits: systemd-analyze finds no mistake in the units and rates their exposure as
// low.
func TestUnits(t *testing.T) {
	t.Parallel()
	analyze := harness.Need(t, "systemd-analyze")
	dir, units := installUnits(t)
	environ := append(harness.CleanEnvironment(), "SYSTEMD_UNIT_PATH="+dir+":", "LC_ALL=C")
	r := harness.Command{Env: environ, Args: append([]string{analyze, "verify"}, units...)}.Run(t)
	if r.Status != 0 || strings.Contains(r.Stderr, "mqtt-auth-proxy") {
		t.Errorf("verify: status %d\n%s%s", r.Status, r.Stdout, r.Stderr)
	}
	// In tenths; 100 is a service without any restriction.
	const most = "20"
	r = harness.Command{Env: environ, Args: []string{analyze, "security", "--offline=true", "--threshold=" + most, "--no-pager", filepath.Join(dir, "mqtt-auth-proxy.service")}}.Run(t)
	lines := strings.Split(strings.TrimSpace(r.Stdout), "\n")
	t.Log(lines[len(lines)-1])
	if r.Status != 0 {
		t.Errorf("security: status %d\n%s%s", r.Status, r.Stdout, r.Stderr)
	}
}

// TestUnitsAndConfigAgree: with the config of the recipe the program serves on the
// sockets of the socket units.
func TestUnitsAndConfigAgree(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile("systemd/proxy.yaml")
	if err != nil {
		t.Fatal(err)
	}
	p := harness.BareProxy(t)
	p.Config = filepath.Join(filepath.Dir(p.Data), "proxy.yaml")
	config := strings.Replace(string(text), "/var/lib/mqtt-auth-proxy", p.Data, 1) + "admin: {address: '" + p.Admin + "'}\n"
	if err := os.WriteFile(p.Config, []byte(config), 0o600); err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, name := range []string{"mqtt", "mqtts"} {
		unit, err := os.ReadFile("systemd/mqtt-auth-proxy-" + name + ".socket")
		if err != nil {
			t.Fatal(err)
		}
		_, rest, _ := strings.Cut(string(unit), "FileDescriptorName=")
		given, _, _ := strings.Cut(rest, "\n")
		names = append(names, given)
	}
	addresses := p.PassSockets(names...)
	p.Plain, p.TLS = addresses[0], addresses[1]
	token := p.Token("device")
	p.Start()
	p.Connect(t, 5, "plain", token)
	packetstest.Connect(t, p.DialTLS(t), packetstest.Identity(5, "tls", token))
}
