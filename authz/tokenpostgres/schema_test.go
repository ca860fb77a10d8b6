//go:build integration

package tokenpostgres

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"golang.org/x/crypto/bcrypt"

	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/authz"
	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/authz/authztest"
	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/integration/harness"
)

// newSchema makes a database with the schema, with some devices.
func newSchema(t testing.TB, server *harness.Postgres) (d *database, dsn string) {
	t.Helper()
	d = newDatabase(t, server)
	dsn = filepath.Join(t.(interface{ TempDir() string }).TempDir(), "dsn")
	harness.WriteFile(t, dsn, d.dsn)
	if before, err := Migrate(t.Context(), dsn); err != nil || before != 0 {
		t.Fatalf("migrate: from version %d, %v", before, err)
	}
	hash, err := bcrypt.GenerateFromPassword([]byte(goodWord), bcrypt.MinCost)
	if err != nil {
		t.Fatal(err)
	}
	d.sql(fmt.Sprintf(`INSERT INTO mqtt_auth_proxy.tokens (token_id, subject, token_sha256, username, password_hash, disabled, expires_at, client_ids) VALUES
		('t-7', 'pump-7', sha256('%[1]s'), NULL, NULL, false, NULL, NULL),
		('t-8', 'pump-8', sha256('Good-token-of-disabled'), NULL, NULL, true, NULL, NULL),
		('t-9', 'pump-9', sha256('Good-token-of-expired'), NULL, NULL, false, now() - interval '1 minute', NULL),
		('t-10', 'pump-10', sha256('Good-token-of-bound'), NULL, NULL, false, NULL, '{other}'),
		('u-7', 'pump-7', NULL, 'pump-7', '%[2]s', false, NULL, NULL)`, goodToken, hash))
	return d, dsn
}

func TestSchemaConformance(t *testing.T) {
	server := harness.StartPostgres(t)
	newFixture := func(tb testing.TB) authztest.Fixture {
		d, dsn := newSchema(tb, server)
		s := d.source(Options{DSNFile: dsn, Channel: SchemaChannel})
		if err := s.Open(tb.Context(), s.workers); err != nil {
			tb.Fatal(err)
		}
		harness.Eventually(tb, "listening", func() bool { return s.Stats().Listening })
		return authztest.Fixture{Authorizer: s, Break: d.refuse, Revoke: func() {
			d.sql("UPDATE mqtt_auth_proxy.tokens SET disabled = true")
		}}
	}
	t.Run("tokens", func(t *testing.T) {
		authztest.Run(t, authztest.Suite{
			NamesDevices: true,
			New:          newFixture, Good: tokenRequest(goodToken), Unknown: tokenRequest("Another-token-altogether"),
			Denied: map[authz.Reason]authz.Request{
				authz.Disabled:      tokenRequest("Good-token-of-disabled"),
				authz.Expired:       tokenRequest("Good-token-of-expired"),
				authz.WrongClientID: tokenRequest("Good-token-of-bound"),
			},
		})
	})
	t.Run("passwords", func(t *testing.T) {
		authztest.Run(t, authztest.Suite{
			NamesDevices: true,
			New:          newFixture, Good: pairRequest("pump-7", goodWord), Unknown: pairRequest("pump-99", goodWord),
			Denied: map[authz.Reason]authz.Request{authz.WrongPassword: pairRequest("pump-7", "Another-password")},
		})
	})
}

// TestTokenOrPassword: a device that sends both is found by its token first, and a user name alone
// lets it in by neither.
func TestTokenOrPassword(t *testing.T) {
	d, dsn := newSchema(t, harness.StartPostgres(t))
	s := d.source(Options{DSNFile: dsn})
	both := pairRequest("pump-7", goodWord)
	both.Token = authz.NewToken("pump-7")
	g, err := s.Authorize(t.Context(), both)
	if err != nil || g.TokenID != "u-7" || !g.IsPair() {
		t.Errorf("user name and password, where the user name may be a token: %+v, %v", g, err)
	}
	both.Token = authz.NewToken(goodToken)
	if g, err = s.Authorize(t.Context(), both); err != nil || g.TokenID != "t-7" || g.IsPair() {
		t.Errorf("a token besides: %+v, %v", g, err)
	}
	if got := outcome(s, t, tokenRequest("pump-7")); got != "unknown_token" {
		t.Errorf("the user name as the token: %s", got)
	}
	both.Token, both.Pair.Password = authz.Token{}, authz.NewToken("wrong-password")
	if got := outcome(s, t, both); got != "wrong_password" {
		t.Errorf("a wrong password: %s", got)
	}
}

// TestMigrate: once is enough, many at once are one, and a version that does not fit is an error
// before anything is changed and at the start of a Source.
func TestMigrate(t *testing.T) {
	d := newDatabase(t, harness.StartPostgres(t))
	dsn := filepath.Join(t.TempDir(), "dsn")
	harness.WriteFile(t, dsn, d.dsn)
	s := d.source(Options{DSNFile: dsn})
	if err := s.Check(t.Context()); !errors.Is(err, ErrSchema) || !strings.Contains(err.Error(), "missing") {
		t.Errorf("without the schema: %v", err)
	}
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			if _, err := Migrate(t.Context(), dsn); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if before, err := Migrate(t.Context(), dsn); err != nil || before != SchemaVersion {
		t.Errorf("once more: from version %d, %v", before, err)
	}
	if err := s.Check(t.Context()); err != nil {
		t.Errorf("with the schema: %v", err)
	}
	d.sql("UPDATE mqtt_auth_proxy.version SET version = 99")
	if _, err := Migrate(t.Context(), dsn); !errors.Is(err, ErrSchema) || !strings.Contains(err.Error(), "newer") {
		t.Errorf("from a newer version: %v", err)
	}
	if err := d.source(Options{DSNFile: dsn}).Check(t.Context()); err != nil {
		t.Errorf("a newer version that this one can use: %v", err)
	}
	d.sql("UPDATE mqtt_auth_proxy.version SET usable_from = 99")
	if err := d.source(Options{DSNFile: dsn}).Check(t.Context()); !errors.Is(err, ErrSchema) || !strings.Contains(err.Error(), "newer") {
		t.Errorf("a newer version: %v", err)
	}
}

// TestMigrateKeepsRows: a database with the former version of the schema keeps its rows, which then
// have the order in which they were added, and a Source without that step is refused.
func TestMigrateKeepsRows(t *testing.T) {
	d := newDatabase(t, harness.StartPostgres(t))
	dsn := filepath.Join(t.TempDir(), "dsn")
	harness.WriteFile(t, dsn, d.dsn)
	d.sql("SET ROLE " + harness.Role + ";" + schema1)
	d.sql(fmt.Sprintf(`INSERT INTO mqtt_auth_proxy.tokens (token_id, subject, token_sha256, is_superuser, comment) VALUES
		('z', 'pump-7', sha256('%s'), true, 'first'), ('a', 'pump-8', sha256('another-token-of-8'), false, 'second')`, goodToken))
	const rows = "SELECT to_jsonb(t) - 'number' - 'gateway' - 'role' FROM mqtt_auth_proxy.tokens t ORDER BY token_id"
	before := d.sql(rows)
	if err := d.source(Options{DSNFile: dsn}).Check(t.Context()); !errors.Is(err, ErrSchema) || !strings.Contains(err.Error(), "version 1, which is older") {
		t.Errorf("with the former version: %v", err)
	}
	if from, err := Migrate(t.Context(), dsn); err != nil || from != 1 {
		t.Fatalf("migrate: from version %d, %v", from, err)
	}
	if after := d.sql(rows); after != before {
		t.Errorf("the rows were\n%s\nand are\n%s", before, after)
	}
	if order := d.sql("SELECT string_agg(token_id, ' ' ORDER BY number) FROM mqtt_auth_proxy.tokens"); order != "z a" {
		t.Errorf("the order is %s", order)
	}
	g, err := d.source(Options{DSNFile: dsn}).Authorize(t.Context(), tokenRequest(goodToken))
	if err != nil || g.TokenID != "z" || !g.Superuser || g.Gateway {
		t.Errorf("a token of the former version: %+v, %v", g, err)
	}
}

// TestChangesOfRows: a comment and a later expiry concern no session. An earlier expiry and other
// rights are reported with the new grant, and other conditions as a revocation.
func TestChangesOfRows(t *testing.T) {
	d, dsn := newSchema(t, harness.StartPostgres(t))
	_, h := d.listeningTo(t, Options{DSNFile: dsn, Channel: SchemaChannel})
	for _, change := range []struct{ id, set, want string }{
		{"t-7", "comment = 'x'", ""},
		{"t-7", "expires_at = now() + interval '1 day'", "granted"},
		{"t-7", "expires_at = now() + interval '2 days'", ""},
		{"t-7", "expires_at = NULL", ""},
		{"t-7", "attrs = '{\"a\":1}'", "granted"},
		{"t-7", "attrs = '{\"a\":1}'", ""},
		{"t-7", "acl = '[]', limits = '{\"max_qos\":1}'", "granted"},
		{"t-7", "acl = '7'", "revoked"}, // which no source can read
		{"t-7", "acl = NULL, client_ids = '{a}'", "revoked"},
		{"t-7", "expires_at = now()", "revoked"},
		{"t-7", "expires_at = NULL, disabled = true", "revoked"},
		{"u-7", "attrs = '{\"a\":1}'", "granted"},
		{"u-7", "role = 'reader'", "revoked"},
		{"u-7", "gateway = true", "revoked"},
		{"u-7", "password_hash = 'x'", "revoked"},
	} {
		d.sql("UPDATE mqtt_auth_proxy.tokens SET " + change.set + " WHERE token_id = '" + change.id + "'")
		d.sql(`NOTIFY mqtt_auth_proxy, '{"subject":"mark"}'`)
		var got []string
		harness.Eventually(t, "the mark after "+change.set, func() bool {
			h.mu.Lock()
			defer h.mu.Unlock()
			if len(h.all) == 0 || h.all[len(h.all)-1].Subject != "mark" {
				return false
			}
			for _, r := range h.all[:len(h.all)-1] {
				switch {
				case r.Grant != nil && r.Grant.TokenID == change.id && r.TokenHash != [32]byte{}:
					got = append(got, "granted")
				case r.TokenID == change.id:
					got = append(got, "revoked")
				}
			}
			h.all = nil
			return true
		})
		if strings.Join(got, " ") != change.want {
			t.Errorf("after %s: %q, want %q", change.set, got, change.want)
		}
	}
}

// TestAlteredWhileTheDatabaseIsAway: a session keeps its grant until the database says what the
// token allows now.
func TestAlteredWhileTheDatabaseIsAway(t *testing.T) {
	d, dsn := newSchema(t, harness.StartPostgres(t))
	s, h := d.listeningTo(t, Options{DSNFile: dsn, Channel: SchemaChannel, Connections: 1})
	conn, err := s.pool.Acquire(t.Context()) // the only one
	if err != nil {
		t.Fatal(err)
	}
	canceled, cancel := context.WithCancel(t.Context())
	cancel()
	s.report(canceled, []withdrawal{{authz.Revocation{TokenID: "t-7"}, true}}, func(r authz.Revocation) { t.Errorf("reported %+v", r) })
	conn.Release()
	harness.Eventually(t, "the grant", func() bool {
		h.mu.Lock()
		defer h.mu.Unlock()
		return len(h.all) == 1 && h.all[0].Grant != nil
	})
}
