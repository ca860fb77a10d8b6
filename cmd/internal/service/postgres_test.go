package service

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/cmd/internal/config"
)

// dsnFile writes a DSN that leads to nothing.
func dsnFile(t *testing.T) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "dsn")
	if err := os.WriteFile(path, []byte("postgres://proxy:hunter2@127.0.0.1:1/fleet?sslmode=disable\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// TestDatabaseThatIsAwayIsNotReady: the program starts without its database, says why devices
// cannot be served, and prints no password. There is no file of SQLite.
func TestDatabaseThatIsAwayIsNotReady(t *testing.T) {
	dsn := dsnFile(t)
	s, log := startService(t, bundledConfig+"telemetry: {postgres: {dsn_file: '"+dsn+"'}}\n")
	status, body := get(t, s, "/readyz")
	if status != 503 || !strings.Contains(body, "connection refused") {
		t.Errorf("/readyz: %d %s", status, body)
	}
	_, metrics := get(t, s, "/metrics")
	for _, line := range []string{"mqtt_auth_proxy_ready 0\n", "mqtt_auth_proxy_telemetry_writable 0\n"} {
		if !strings.Contains(metrics, line) {
			t.Errorf("the metrics lack %s", line)
		}
	}
	if !strings.Contains(log.String(), "telemetry store") || strings.Contains(log.String()+body, "hunter2") {
		t.Errorf("the log does not have the fault, or has the password:\n%s", log)
	}
	if files, err := filepath.Glob(filepath.Join(s.current.Load().config.Data, "telemetry*")); err != nil || len(files) > 0 {
		t.Errorf("files %v, error %v", files, err)
	}
}

// TestPostgresSection: the section is checked before the start, set by the environment as well,
// and cannot change while the program runs.
func TestPostgresSection(t *testing.T) {
	dsn := dsnFile(t)
	path := filepath.Join(t.TempDir(), "proxy.yaml")
	load := func(text string, environ ...string) (*Plan, error) {
		t.Helper()
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return Load(config.Options{Path: path, Environ: environ}, "test")
	}
	for text, want := range map[string]string{
		"telemetry: {postgres: {dsn_file: none}}\n":          "proxy.yaml:1: telemetry.postgres.dsn_file: stat ",
		"telemetry: {postgres: {dsn_file: proxy.yaml}}\n":    "proxy.yaml:1: telemetry.postgres.dsn_file: " + path + ": not the connection string",
		"telemetry: {path: a.db, postgres: {dsn_file: d}}\n": "proxy.yaml:1: telemetry.path: is set together with postgres",
	} {
		if _, err := load(text); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: error %v, want %s", text, err, want)
		}
	}
	now, err := load("", "MQTT_AUTH_PROXY_TELEMETRY_POSTGRES_DSN_FILE="+dsn)
	if err != nil || now.Telemetry.Postgres == nil || now.Telemetry.Postgres.DSNFile != dsn || now.Telemetry.Path != "" {
		t.Fatalf("from the environment: error %v", err)
	}
	next, err := load("telemetry: {postgres: {dsn_file: '" + dsn + "', connections: 5}}\n")
	if err != nil {
		t.Fatal(err)
	}
	if err := needsRestart(now.Config, next.Config); err == nil || !strings.Contains(err.Error(), "telemetry.postgres") {
		t.Errorf("error %v does not say that the section needs a restart", err)
	}
}
