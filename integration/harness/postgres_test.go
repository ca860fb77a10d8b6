//go:build integration

package harness

import (
	"strings"
	"testing"
)

// TestPostgresKeepsWhatWasCommitted: a database outlives an orderly end of the server and a
// kill, and connections are those of a role without rights.
func TestPostgresKeepsWhatWasCommitted(t *testing.T) {
	p := StartPostgres(t)
	dsn := p.Database("kept")
	query := func(dsn, statement string) string {
		t.Helper()
		r := Run(t, Need(t, "psql"), "-X", "-A", "-t", "-q", "-d", dsn, "-c", statement)
		if r.Status != 0 {
			t.Errorf("psql: %s", r.Output())
		}
		return strings.TrimSpace(r.Stdout)
	}
	query(dsn, "CREATE TABLE numbers (n int)")
	for _, end := range []func(){p.Stop, p.Kill} {
		query(dsn, "INSERT INTO numbers VALUES (1)")
		end()
		p.Start()
	}
	for _, dsn := range []string{dsn, p.TLSDSN("kept"), p.SocketDSN("kept"), p.StartPgBouncer(t, "kept")} {
		if got := query(dsn, "SELECT count(*) FROM numbers"); got != "2" {
			t.Errorf("%s rows", got)
		}
	}
	if got := query(dsn, "SHOW fsync") + query(dsn, "SELECT usesuper FROM pg_user WHERE usename = current_user"); got != "onf" {
		t.Errorf("fsync and superuser are %s", got)
	}
	p.CutConnections()
}
