//go:build integration && linux

package integration

import (
	"context"
	"crypto/rand"
	"fmt"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/authz"
	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/integration/harness"
	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/packets"
	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/packets/packetstest"
)

// deviceTable is a database with tokens of devices, and the proxy in front of a broker that
// looks them up there.
type deviceTable struct {
	*harness.Proxy
	t        testing.TB
	server   *harness.Postgres
	database string
	dsn      string // the file
	sections string // of the config
}

// newDeviceTable makes a database. through returns the connection string for the proxy, source
// has further keys of the source, and ttl is how long answers are remembered.
func newDeviceTable(t *testing.T, through func(*harness.Postgres, string) string, source, ttl string) *deviceTable {
	t.Helper()
	d := &deviceTable{t: t, server: harness.StartPostgres(t), database: "fleet", dsn: filepath.Join(t.TempDir(), "dsn")}
	d.server.Database(d.database)
	harness.WriteFile(t, d.dsn, through(d.server, d.database)+"\n")
	d.sql(`CREATE TABLE tokens (device text PRIMARY KEY, digest bytea UNIQUE); GRANT SELECT ON tokens TO ` + harness.Role)
	m := harness.StartMosquitto(t)
	d.sections = m.Upstream() + fmt.Sprintf(
		"auth: {cache: {ttl: %s, negative_ttl: 0s}, guard: {exempt: [127.0.0.0/8]}, sources: [{postgres: {dsn_file: '%s', query: 'SELECT device AS subject, device AS token_id FROM tokens WHERE digest = @token_sha256'%s}}]}\n", ttl, d.dsn, source)
	d.Proxy = d.replica()
	return d
}

// replica returns another proxy with the same broker and database.
func (d *deviceTable) replica() *harness.Proxy {
	d.t.Helper()
	p := harness.NewProxy(d.t, d.sections)
	p.AddSecret(d.server.Password)
	return p
}

func direct(p *harness.Postgres, database string) string { return p.DSN(database) }

func (d *deviceTable) sql(statements string) string {
	d.t.Helper()
	return d.server.SQL(d.database, statements)
}

// device adds a device and returns its token.
func (d *deviceTable) device(name string) string {
	d.t.Helper()
	token := rand.Text()
	d.AddSecret(token)
	d.sql(fmt.Sprintf("INSERT INTO tokens VALUES ('%s', sha256('%s'))", name, token))
	return token
}

// status returns the exit status of mosquitto_pub with that version, and with MQTT 5.0.
func (d *deviceTable) status(token string) (old, five int) {
	d.t.Helper()
	args := append(d.ClientArgs(token), "-q", "1", "-t", "a", "-m", "b")
	return harness.MosquittoPub(d.t, args...).Status, harness.MosquittoPub(d.t, append(args, "-V", "5")...).Status
}

// TestDatabaseAway: while PostgreSQL is stopped, known devices can connect and others are asked to
// try again later; none is denied. When PostgreSQL runs again, all can connect. The program also
// starts without its database.
func TestDatabaseAway(t *testing.T) {
	t.Parallel()
	d := newDeviceTable(t, direct, "", "1s")
	known, unseen := d.device("known"), d.device("unseen")
	d.Start()
	if old, five := d.status(known); old != 0 || five != 0 {
		t.Fatalf("a good token: status %d and %d", old, five)
	}
	live := d.Connect(t, 4, "live", known)
	d.server.Stop()
	hits := `mqtt_auth_proxy_cache_stale_served_total{source="postgres0"} `
	harness.Eventually(t, "an old answer in use", func() bool {
		old, five := d.status(known)
		if old != 0 || five != 0 {
			t.Fatalf("a known device without the database: status %d and %d", old, five)
		}
		return harness.Metric(t, d.Proxy, strings.TrimSpace(hits)) > 0
	})
	if old, five := d.status(unseen); old != 3 || five != 0x88 {
		t.Errorf("a device that was never seen, without the database: status %d and %d", old, five)
	}
	if err := live.Publish("a", "b"); err != nil {
		t.Errorf("a live session without the database: %v", err)
	}
	d.server.Start()
	harness.Eventually(t, "the device that was never seen", func() bool {
		old, _ := d.status(unseen)
		if old != 0 && old != 3 {
			t.Fatalf("when the database is there again: status %d", old)
		}
		return old == 0
	})
	d.server.Stop()
	d.Stop()
	d.Start()
	if old, _ := d.status(known); old != 3 {
		t.Errorf("after a start without the database: status %d", old)
	}
	d.server.Start()
	harness.Eventually(t, "devices after that start", func() bool { old, _ := d.status(known); return old == 0 })
}

// TestDatabaseConnectionsKilled: connections to PostgreSQL are killed again and again while
// devices connect. None is denied, and live sessions stay.
func TestDatabaseConnectionsKilled(t *testing.T) {
	t.Parallel()
	d := newDeviceTable(t, direct, ", timeout: 10s", "1s")
	var tokens []string
	for i := range 8 {
		tokens = append(tokens, d.device(fmt.Sprint("device-", i)))
	}
	d.Start()
	live := d.Connect(t, 4, "live", tokens[0])
	ctx, stop := context.WithCancel(t.Context())
	var accepted atomic.Int64
	var devices sync.WaitGroup
	for i, token := range tokens {
		devices.Go(func() {
			for ctx.Err() == nil {
				conn := packetstest.Dial(t, d.Plain)
				_, ack := packetstest.Present(t, conn, packetstest.Identity(4, fmt.Sprint("id-", i), token))
				switch ack.Code {
				case packets.Success:
					accepted.Add(1)
				case packets.RefusedServerUnavailable:
				default:
					t.Errorf("CONNACK %v", ack.Code)
				}
				_ = conn.Close()
			}
		})
	}
	for range 5 {
		before := accepted.Load()
		d.server.CutConnections()
		harness.Eventually(t, "further connections", func() bool { return accepted.Load() > before+20 })
		// The answers in the cache expire after a second, so that the database is asked again.
		asked := `mqtt_auth_proxy_auth_source_requests_total{outcome="allowed",source="postgres0"}`
		now := harness.Metric(t, d.Proxy, asked)
		harness.Eventually(t, "further answers of the database", func() bool { return harness.Metric(t, d.Proxy, asked) > now })
	}
	stop()
	devices.Wait()
	if err := live.Publish("a", "b"); err != nil {
		t.Errorf("the live session: %v", err)
	}
}

// TestDatabaseThroughPgBouncer: tokens are found through PgBouncer in transaction mode.
func TestDatabaseThroughPgBouncer(t *testing.T) {
	t.Parallel()
	bouncer := func(p *harness.Postgres, database string) string { return p.StartPgBouncer(t, database) }
	d := newDeviceTable(t, bouncer, ", prepared_statements: false, connections: 8", "1s")
	d.Start()
	for i := range 10 {
		if old, five := d.status(d.device(fmt.Sprint("device-", i))); old != 0 || five != 0 {
			t.Errorf("device %d: status %d and %d", i, old, five)
		}
	}
	if old, _ := d.status(rand.Text()); old != 5 {
		t.Errorf("another token: status %d", old)
	}
}

// TestQueryThatTheDatabaseRefuses: the program does not start with such a query, and the error has
// the reason and the place in the configuration. The command check finds parameters that do not
// exist.
func TestQueryThatTheDatabaseRefuses(t *testing.T) {
	t.Parallel()
	d := newDeviceTable(t, direct, "", "1s")
	config := harness.ReadFile(t, d.Config)
	for _, c := range []struct{ from, to, command, want string }{
		{"device AS token_id", "device AS id", "serve", `auth.sources[0].postgres: query: "id" is not a column that has a meaning`},
		{"FROM tokens", "FROM token", "serve", `relation "token" does not exist`},
		{"@token_sha256", "@token", "check", "auth.sources[0].postgres: query: @token is not a parameter"},
	} {
		harness.WriteFile(t, d.Config, strings.Replace(config, c.from, c.to, 1))
		if r := harness.Run(t, harness.Binary(), c.command, "--config", d.Config); r.Status == 0 || !strings.Contains(r.Output(), c.want) {
			t.Errorf("%s with %s: status %d\n%s", c.command, c.to, r.Status, r.Output())
		}
	}
}

// TestOwnTables: without its tables the program does not start and says what to do. store migrate
// makes them, once. Tokens and passwords in them let devices in, and a row that is disabled ends
// its session at once.
func TestOwnTables(t *testing.T) {
	t.Parallel()
	server := harness.StartPostgres(t)
	dsn := filepath.Join(t.TempDir(), "dsn")
	harness.WriteFile(t, dsn, server.Database("own"))
	m := harness.StartMosquitto(t)
	sections := m.Upstream() + "auth: {cache: {ttl: 1h}, sources: [{postgres: {dsn_file: '" + dsn + "'}}]}\n"
	p := harness.NewProxy(t, sections+"replicas: {name: one}\n")
	p.AddSecret(server.Password)
	if r := harness.Run(t, harness.Binary(), "serve", "--config", p.Config); r.Status == 0 ||
		!strings.Contains(r.Output(), "the schema in the database is missing; mqtt-auth-proxy store migrate") {
		t.Errorf("serve without the tables: status %d\n%s", r.Status, r.Output())
	}
	for _, want := range []string{"made the schema, version 4", "the schema has version 4 already"} {
		if r := harness.Run(t, harness.Binary(), "store", "migrate", "--config", p.Config); r.Status != 0 || !strings.Contains(r.Stdout, want) {
			t.Errorf("store migrate: status %d, want %q\n%s", r.Status, want, r.Output())
		}
	}
	token, password := rand.Text(), rand.Text()
	for _, secret := range []string{token, password, authz.NewToken(password).Fingerprint()} {
		p.AddSecret(secret)
	}
	server.SQL("own", fmt.Sprintf(`INSERT INTO mqtt_auth_proxy.tokens (token_id, subject, token_sha256) VALUES ('valve-1', 'valve-1', sha256('%s'));
		INSERT INTO mqtt_auth_proxy.tokens (token_id, subject, username, password_hash) VALUES ('pump-7', 'pump-7', 'pump-7', '%s')`, token, goAuthHash(t, password)))
	p.Start()
	awaitListening(t, p)
	harness.Publish(t, append(p.ClientArgs(token), "-q", "1", "-t", "a", "-m", "b")...)
	harness.Publish(t, append(p.ClientArgs("pump-7"), "-P", password, "-q", "1", "-t", "a", "-m", "b")...)
	live := p.Connect(t, 4, "live", token)
	server.SQL("own", "UPDATE mqtt_auth_proxy.tokens SET disabled = true WHERE token_id = 'valve-1'")
	ended(t, live)
	if _, ack := p.Present(t, 4, "live", token); ack.Code != packets.RefusedNotAuthorized {
		t.Errorf("a disabled token: CONNACK %v", ack.Code)
	}
	if r := harness.MosquittoPub(t, append(p.ClientArgs("pump-7"), "-t", "a", "-m", "b")...); r.Status != 5 {
		t.Errorf("a user name without a password: status %d", r.Status)
	}
	other := harness.NewProxy(t, sections+"replicas: {name: two}\n")
	other.AddSecret(server.Password)
	other.Start()
	harness.Eventually(t, "the devices at the other proxy", func() bool {
		r := harness.Run(t, harness.Binary(), "devices", "list", "--away", "--config", other.Config)
		return strings.Contains(r.Stdout, "pump-7 ") && strings.Contains(r.Stdout, "valve-1 ")
	})
	if r := harness.Run(t, harness.Binary(), "token", "show", "valve-1", "--config", other.Config); !strings.Contains(r.Stdout, `"last_seen": "2`) {
		t.Errorf("token show: %s", r.Output())
	}
}
