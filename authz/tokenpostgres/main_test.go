//go:build integration

package tokenpostgres

import (
	"context"
	"crypto/rand"
	"fmt"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"go.uber.org/goleak"
	"golang.org/x/crypto/bcrypt"

	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/authz"
	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/integration/harness"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const (
	goodToken = "Good-token-of-pump-7"
	goodWord  = "Good-password-of-pump-7"

	tokensQuery = "SELECT subject, token_id, disabled, expires_at, not_before, client_ids, cidrs, acl, limits, attrs, upstream_username FROM devices WHERE token = @token_sha256"
	usersQuery  = "SELECT username AS subject, password_hash, disabled, expires_at, client_ids FROM devices WHERE username = @username"
)

// database is a database with a table of devices.
type database struct {
	t      testing.TB
	server *harness.Postgres
	name   string
	dsn    string
}

// newDatabase makes a database with devices and some entries.
func newDatabase(t testing.TB, server *harness.Postgres) *database {
	t.Helper()
	d := &database{t: t, server: server, name: "d" + strings.ToLower(rand.Text()[:12])}
	d.dsn = server.Database(d.name)
	hash, err := bcrypt.GenerateFromPassword([]byte(goodWord), bcrypt.MinCost)
	if err != nil {
		t.Fatal(err)
	}
	var script strings.Builder
	script.WriteString(`CREATE TABLE devices (token bytea, token_id text, username text, password_hash text, subject text, disabled boolean NOT NULL DEFAULT false,
		expires_at timestamptz, not_before timestamptz, client_ids text[], cidrs cidr[], acl jsonb, limits jsonb, attrs jsonb, upstream_username text);
		GRANT ALL ON devices TO ` + harness.Role + ";\n")
	for _, device := range []struct{ name, columns, values string }{
		{"pump-7", "", ""},
		{"disabled", ", disabled", ", true"},
		{"expired", ", expires_at", ", now() - interval '1 minute'"},
		{"bound", ", client_ids", ", '{other,more*}'"},
		{"unset", ", password_hash", ", NULL"},
		{"twice", "", ""}, {"twice", "", ""},
		{"bad-hash", ", password_hash", ", 'hunter2'"},
	} {
		token := goodToken
		if device.name != "pump-7" {
			token = "Good-token-of-" + device.name
		}
		columns, values := device.columns, device.values
		if !strings.Contains(columns, "password_hash") {
			columns, values = columns+", password_hash", fmt.Sprintf("%s, '%s'", values, hash)
		}
		fmt.Fprintf(&script, "INSERT INTO devices (token, username, subject%s) VALUES (sha256('%s'), '%s', '%s'%s);\n", columns, token, device.name, device.name, values)
	}
	d.sql(script.String())
	return d
}

func (d *database) sql(statements string) string {
	d.t.Helper()
	return d.server.SQL(d.name, statements)
}

// source returns a Source with the query.
func (d *database) source(o Options) *Source {
	d.t.Helper()
	if o.DSNFile == "" {
		o.DSNFile = filepath.Join(d.t.(interface{ TempDir() string }).TempDir(), "dsn")
		harness.WriteFile(d.t, o.DSNFile, d.dsn+"\n")
	}
	s, err := New(o)
	if err != nil {
		d.t.Fatal(err)
	}
	d.t.Cleanup(s.Close)
	return s
}

// refuse ends all connections to the database and accepts no more.
func (d *database) refuse() {
	d.t.Helper()
	d.server.SQL("postgres", "ALTER DATABASE "+d.name+" ALLOW_CONNECTIONS false")
	d.server.SQL("postgres", "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '"+d.name+"'")
}

// stall locks the table until the test ends. The channel is closed when a query waits for it.
func (d *database) stall() <-chan struct{} {
	d.t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	conn, err := pgx.Connect(ctx, fmt.Sprintf("host=%s port=%s user=postgres dbname=%s", d.server.Dir, harness.Port(d.server.Addr), d.name))
	if err != nil {
		d.t.Fatal(err)
	}
	if _, err := conn.Exec(ctx, "BEGIN; LOCK TABLE devices"); err != nil {
		d.t.Fatal(err)
	}
	reached, ended := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(ended)
		defer func() { _ = conn.Close(context.Background()) }()
		tick := time.NewTicker(20 * time.Millisecond)
		defer tick.Stop()
		for waiting := 0; waiting == 0; {
			select {
			case <-ctx.Done():
				return
			case <-tick.C:
			}
			if conn.QueryRow(ctx, "SELECT count(*) FROM pg_locks WHERE NOT granted").Scan(&waiting) != nil {
				return
			}
		}
		close(reached)
		<-ctx.Done()
	}()
	d.t.Cleanup(func() {
		cancel()
		<-ended
	})
	return reached
}

func tokenRequest(token string) authz.Request { return authz.Request{Token: authz.NewToken(token)} }

func pairRequest(username, password string) authz.Request {
	return authz.Request{Pair: authz.Pair{ClientID: "id-of-" + username, Username: username, Password: authz.NewToken(password)}}
}
