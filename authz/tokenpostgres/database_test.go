//go:build integration

package tokenpostgres

import (
	"errors"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/authz"
	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/integration/harness"
)

// outcome returns the kind of an answer, with the reason of a denial.
func outcome(s *Source, t *testing.T, r authz.Request) string {
	t.Helper()
	g, err := s.Authorize(t.Context(), r)
	d, denied := errors.AsType[*authz.Denial](err)
	switch {
	case err == nil && g != nil:
		return "allowed"
	case denied:
		return string(d.Reason)
	case errors.Is(err, authz.ErrUnanswerable):
		return "unanswerable"
	case errors.Is(err, authz.ErrUnavailable):
		return "unavailable"
	}
	return "malformed"
}

// TestAnswersAboutPasswords: only a row with the right password is a grant, and what is wrong
// with the row of one device is no answer about it.
func TestAnswersAboutPasswords(t *testing.T) {
	d := newDatabase(t, harness.StartPostgres(t))
	s := d.source(Options{Query: usersQuery})
	if err := s.Check(t.Context()); err != nil {
		t.Fatal(err)
	}
	for user, want := range map[string]string{
		"pump-7": "allowed", "pump-99": "unknown_token", "unset": "wrong_password", "disabled": "disabled", "expired": "expired",
		"twice": "unavailable", "bad-hash": "unanswerable",
	} {
		if got := outcome(s, t, pairRequest(user, goodWord)); got != want {
			t.Errorf("%s: %s, want %s", user, got, want)
		}
	}
	if _, err := s.Authorize(t.Context(), pairRequest("twice", goodWord)); err == nil || !strings.Contains(err.Error(), "several rows") {
		t.Errorf("two rows: error %v", err)
	}
	g, err := s.Authorize(t.Context(), pairRequest("pump-7", goodWord))
	if err != nil || g.Subject != "pump-7" || g.TokenID != "pump-7" || !g.IsPair() {
		t.Errorf("%+v, %v", g, err)
	}
	d.sql("UPDATE devices SET password_hash = NULL")
	if got := outcome(s, t, pairRequest("pump-7", goodWord)); got != "wrong_password" {
		t.Errorf("without a hash: %s", got)
	}
}

// TestManyRows: the rows of a query that has a million of them are not read.
func TestManyRows(t *testing.T) {
	d := newDatabase(t, harness.StartPostgres(t))
	s := d.source(Options{Query: "SELECT repeat('x', 100) AS subject FROM generate_series(1, 1000000) WHERE @token_sha256::text <> ''", Timeout: 10 * time.Second})
	for range 3 {
		if _, err := s.Authorize(t.Context(), tokenRequest(goodToken)); err == nil || !strings.Contains(err.Error(), "several rows") {
			t.Errorf("error %v", err)
		}
	}
}

// TestQueriesThatTheDatabaseRefuses are known when they are first described. The error says what
// the server says, which has no value in it.
func TestQueriesThatTheDatabaseRefuses(t *testing.T) {
	d := newDatabase(t, harness.StartPostgres(t))
	for text, want := range map[string]string{
		"SELECT subject, secret FROM devices WHERE token = @token_sha256":                         `column "secret" does not exist`,
		"SELECT subject FROM device WHERE token = @token_sha256":                                  `relation "device" does not exist`,
		"SELECT subject FORM devices WHERE token = @token_sha256":                                 "syntax error",
		"SELECT subject, token FROM devices WHERE token = @token_sha256":                          `"token" is not a column that has a meaning`,
		"SELECT username AS subject FROM devices WHERE username = @username":                      "no secret would be checked",
		"SELECT subject FROM devices WHERE token = @token_sha256; DROP TABLE devices":             "multiple commands",
		"SELECT subject, now()::timestamp AS expires_at FROM devices WHERE token = @token_sha256": "leaves the time zone open",
	} {
		s := d.source(Options{Query: text})
		err := s.Check(t.Context())
		if err == nil || !strings.Contains(err.Error(), want) || s.Fault() == nil {
			t.Errorf("%s: error %v, want %q", text, err, want)
		}
		if got := outcome(s, t, tokenRequest(goodToken)); s.Takes() == authz.Tokens && got != "unavailable" {
			t.Errorf("%s: %s", text, got)
		}
	}
}

// TestTablesThatChange: the query is described anew, and answers again when it is valid again.
func TestTablesThatChange(t *testing.T) {
	server := harness.StartPostgres(t)
	for name, unprepared := range map[string]bool{"prepared": false, "unprepared": true} {
		t.Run(name, func(t *testing.T) {
			d := newDatabase(t, server)
			s := d.source(Options{Query: "SELECT * FROM seen WHERE token_id <> '' AND @token_sha256::text <> ''", Unprepared: unprepared})
			good := func(what string) {
				t.Helper()
				if got := outcome(s, t, tokenRequest(goodToken)); got != "allowed" {
					t.Errorf("%s: %s", what, got)
				}
			}
			d.sql("CREATE TABLE seen AS SELECT 'pump-7' AS subject, 'id' AS token_id; GRANT ALL ON seen TO " + harness.Role)
			good("at first")
			d.sql("ALTER TABLE seen ADD limits jsonb")
			good("with another column")
			d.sql("ALTER TABLE seen ALTER subject TYPE varchar(40)")
			good("with another type")
			d.sql("ALTER TABLE seen RENAME token_id TO id")
			if got := outcome(s, t, tokenRequest(goodToken)); got != "unavailable" || s.Fault() == nil {
				t.Errorf("without a column that it needs: %s, fault %v", got, s.Fault())
			}
			d.sql("ALTER TABLE seen RENAME id TO token_id")
			good("with the column again")
			if s.Fault() != nil {
				t.Errorf("the fault stays: %v", s.Fault())
			}
		})
	}
}

// TestRestartedDatabase: the first device after a restart gets an answer, although all
// connections are broken, and one while the server is down gets none.
func TestRestartedDatabase(t *testing.T) {
	server := harness.StartPostgres(t)
	d := newDatabase(t, server)
	s := d.source(Options{Query: tokensQuery, Timeout: 10 * time.Second})
	var wg sync.WaitGroup
	for range 4 { // all connections
		wg.Go(func() { outcome(s, t, tokenRequest(goodToken)) })
	}
	wg.Wait()
	server.CutConnections()
	if got := outcome(s, t, tokenRequest(goodToken)); got != "allowed" {
		t.Errorf("after the connections were cut: %s", got)
	}
	server.Stop()
	if got := outcome(s, t, tokenRequest(goodToken)); got != "unavailable" {
		t.Errorf("while the server is down: %s", got)
	}
	server.Start()
	if got := outcome(s, t, tokenRequest(goodToken)); got != "allowed" {
		t.Errorf("after a restart: %s", got)
	}
}

// TestSlowQuery: a lookup ends in time, the query is canceled at the server, and the connection
// is used again.
func TestSlowQuery(t *testing.T) {
	d := newDatabase(t, harness.StartPostgres(t))
	for name, unprepared := range map[string]bool{"prepared": false, "unprepared": true} {
		s := d.source(Options{Query: "SELECT subject FROM devices, pg_sleep(60) WHERE token = @token_sha256", Timeout: 300 * time.Millisecond, Unprepared: unprepared})
		if got := outcome(s, t, tokenRequest(goodToken)); got != "unavailable" {
			t.Errorf("%s: %s", name, got)
		}
		harness.Eventually(t, "the end of the query", func() bool {
			return d.sql("SELECT count(*) FROM pg_stat_activity WHERE state = 'active' AND query LIKE '%pg_sleep(60)%' AND pid <> pg_backend_pid()") == "0"
		})
	}
}

// TestChangedConnectionString: a password that was changed is taken up without a restart.
func TestChangedConnectionString(t *testing.T) {
	server := harness.StartPostgres(t)
	d := newDatabase(t, server)
	path := t.TempDir() + "/dsn"
	harness.WriteFile(t, path, d.dsn)
	s := d.source(Options{Query: tokensQuery, DSNFile: path})
	if got := outcome(s, t, tokenRequest(goodToken)); got != "allowed" {
		t.Fatal(got)
	}
	server.SQL("postgres", "ALTER ROLE "+harness.Role+" PASSWORD 'second-password'")
	server.CutConnections()
	_, err := s.Authorize(t.Context(), tokenRequest(goodToken))
	if err == nil || !strings.Contains(err.Error(), "28P01") || strings.Contains(err.Error(), server.Password) {
		t.Errorf("with the old password: %v", err)
	}
	harness.WriteFile(t, path, strings.Replace(d.dsn, server.Password, "second-password", 1))
	s.Refresh()
	if got := outcome(s, t, tokenRequest(goodToken)); got != "allowed" {
		t.Errorf("with the new password: %s", got)
	}
}

// TestPgBouncer: through PgBouncer in transaction mode the query must not be prepared, and if it
// is, the fault says so or PgBouncer keeps the statements itself.
func TestPgBouncer(t *testing.T) {
	server := harness.StartPostgres(t)
	d := newDatabase(t, server)
	d.dsn = server.StartPgBouncer(t, d.name)
	s := d.source(Options{Query: tokensQuery, Unprepared: true, Connections: 8})
	if err := s.Check(t.Context()); err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	for range 16 {
		wg.Go(func() {
			for range 20 {
				if got := outcome(s, t, tokenRequest(goodToken)); got != "allowed" {
					t.Error(got)
				}
			}
		})
	}
	wg.Wait()
	if n := d.sql("SELECT count(*) FROM pg_stat_activity WHERE datname = '" + d.name + "' AND usename = '" + harness.Role + "'"); n > "3" {
		t.Errorf("%s connections behind PgBouncer", n)
	}
}

// TestTLS: the connection string decides about TLS, and a certificate that cannot be verified is
// an outage.
func TestTLS(t *testing.T) {
	server := harness.StartPostgres(t)
	d := newDatabase(t, server)
	d.dsn = server.TLSDSN(d.name)
	if got := outcome(d.source(Options{Query: tokensQuery}), t, tokenRequest(goodToken)); got != "allowed" {
		t.Errorf("with TLS: %s", got)
	}
	d.dsn, _, _ = strings.Cut(server.TLSDSN(d.name), "&sslrootcert")
	_, err := d.source(Options{Query: tokensQuery}).Authorize(t.Context(), tokenRequest(goodToken))
	if !errors.Is(err, authz.ErrUnavailable) || !strings.Contains(err.Error(), "unknown authority") {
		t.Errorf("without its authority: %v", err)
	}
}
