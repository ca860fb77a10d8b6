//go:build integration && linux

package integration

import (
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// installUnits puts the recipe's units where systemd-analyze may look at them, with
// the program in its place.
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
		if err := os.WriteFile(unit, []byte(strings.ReplaceAll(string(text), "/usr/local/bin/mqtt-auth-proxy", binary)), 0o644); err != nil {
			t.Fatal(err)
		}
		units = append(units, unit)
	}
	return dir, units
}

// TestUnits: systemd finds no fault in the recipe, and little that an attacker could
// use.
func TestUnits(t *testing.T) {
	t.Parallel()
	analyze := need(t, "systemd-analyze")
	dir, units := installUnits(t)
	environ := append(cleanEnvironment(), "SYSTEMD_UNIT_PATH="+dir+":", "LC_ALL=C")
	r := command{environ: environ, argv: append([]string{analyze, "verify"}, units...)}.run(t)
	if r.status != 0 || strings.Contains(r.stderr, "mqtt-auth-proxy") {
		t.Errorf("verify: status %d\n%s%s", r.status, r.stdout, r.stderr)
	}
	// In tenths; 100 is a service without any restriction.
	const most = "20"
	r = command{environ: environ, argv: []string{analyze, "security", "--offline=true", "--threshold=" + most, "--no-pager", filepath.Join(dir, "mqtt-auth-proxy.service")}}.run(t)
	lines := strings.Split(strings.TrimSpace(r.stdout), "\n")
	t.Log(lines[len(lines)-1])
	if r.status != 0 {
		t.Errorf("security: status %d\n%s%s", r.status, r.stdout, r.stderr)
	}
}

// TestUnitsAndConfigAgree: the program serves on the sockets of the socket units with
// the config of the recipe.
func TestUnitsAndConfigAgree(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile("systemd/proxy.yaml")
	if err != nil {
		t.Fatal(err)
	}
	p := bareProxy(t)
	p.config = filepath.Join(filepath.Dir(p.data), "proxy.yaml")
	config := strings.Replace(string(text), "/var/lib/mqtt-auth-proxy", p.data, 1) + "admin: {address: '" + p.admin + "'}\n"
	if err := os.WriteFile(p.config, []byte(config), 0o600); err != nil {
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
		ln, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		defer ln.Close()
		socket, err := ln.(*net.TCPListener).File()
		if err != nil {
			t.Fatal(err)
		}
		defer socket.Close()
		p.files = append(p.files, socket)
		if name == "mqtt" {
			p.plain = ln.Addr().String()
		} else {
			p.tls = ln.Addr().String()
		}
	}
	p.environ = append(p.environ, "LISTEN_FDS=2", "LISTEN_FDNAMES="+strings.Join(names, ":"))
	p.wrapper = []string{"sh", "-c", `LISTEN_PID=$$ exec "$@"`, "sh"}
	token := p.token("device")
	p.start()
	connect(t, dial(t, p.plain), identity(5, "plain", token))
	connect(t, p.dialTLS(t), identity(5, "tls", token))
}
