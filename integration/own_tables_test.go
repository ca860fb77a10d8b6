//go:build integration && linux

package integration

import (
	"fmt"
	"path/filepath"
	"strings"
	"testing"

	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/integration/harness"
	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/packets"
	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/packets/packetstest"
)

// ownTables are proxies before one broker that share the tables of their own in PostgreSQL.
type ownTables struct {
	t        *testing.T
	replicas []*harness.Proxy
}

// newOwnTables makes the tables in the database of the connection string and starts n proxies.
func newOwnTables(t *testing.T, dsn, password string, n int) *ownTables {
	t.Helper()
	file := filepath.Join(t.TempDir(), "dsn")
	harness.WriteFile(t, file, dsn)
	sections := harness.StartMosquitto(t).Upstream() +
		"auth: {cache: {ttl: 1s, negative_ttl: 0s}, guard: {exempt: [127.0.0.0/8]}, sources: [{postgres: {dsn_file: '" + file + "'}}]}\n"
	o := &ownTables{t: t}
	for range n {
		p := harness.NewProxy(t, sections)
		p.AddSecret(password)
		o.replicas = append(o.replicas, p)
	}
	o.command("store", "migrate")
	for _, p := range o.replicas {
		p.Start()
		awaitListening(t, p)
	}
	return o
}

// command runs a command of the program and returns what it prints.
func (o *ownTables) command(args ...string) string {
	o.t.Helper()
	r := harness.Run(o.t, append(append([]string{harness.Binary()}, args...), "--config", o.replicas[0].Config)...)
	if r.Status != 0 {
		o.t.Fatalf("%v: status %d\n%s", args, r.Status, r.Stderr)
	}
	return strings.TrimSpace(r.Stdout)
}

// token runs a command that prints a token and returns the token.
func (o *ownTables) token(args ...string) string {
	o.t.Helper()
	token := o.command(append([]string{"token"}, args...)...)
	for _, p := range o.replicas {
		p.AddSecret(token)
	}
	return token
}

// awaitReports returns when all proxies have dealt with the notifications so far, which come in
// their order.
func (o *ownTables) awaitReports() {
	o.t.Helper()
	token := o.token("create", "marker")
	var marked []*packetstest.Client
	for i, p := range o.replicas {
		marked = append(marked, p.Connect(o.t, 4, fmt.Sprint("marker-", i), token))
	}
	o.command("token", "revoke", "marker")
	for _, c := range marked {
		ended(o.t, c)
	}
}

// TestTokenCommandsOnOwnTables: a token that a command makes in the database lets its device in on
// all proxies. When it is rotated with an overlap, the session goes on and both tokens are valid;
// when it is withdrawn, its sessions end on all proxies at once, and those of other devices do not.
func TestTokenCommandsOnOwnTables(t *testing.T) {
	t.Parallel()
	server := harness.StartPostgres(t)
	o := newOwnTables(t, server.Database("own"), server.Password, 2)
	a, b := o.replicas[0], o.replicas[1]
	token, other := o.token("create", "pump-7"), o.token("create", "valve-1")
	live, elsewhere, bystander := a.Connect(t, 4, "a", token), b.Connect(t, 5, "b", token), b.Connect(t, 4, "c", other)

	next := o.token("rotate", "pump-7", "--overlap", "1h")
	list := func() string { return o.command("token", "list", "--jsonl", "--match", "pump-7") }
	if got := list(); strings.Count(got, `"state":"good"`) != 2 || strings.Count(got, `"expire_at"`) != 1 {
		t.Errorf("after rotating, the tokens are\n%s", got)
	}
	newest := a.Connect(t, 4, "newest", next)
	if err := newest.Publish("a", "b"); err != nil {
		t.Errorf("the new token: %v", err)
	}
	o.command("token", "extend", "valve-1", "--expires", "720h")
	o.awaitReports()
	for name, c := range map[string]*packetstest.Client{"a": live, "b": elsewhere, "c": bystander} {
		if err := c.Publish("a", "b"); err != nil {
			t.Errorf("session %s after the change: %v", name, err)
		}
	}

	o.command("token", "rotate", "pump-7")
	ended(t, live)
	ended(t, elsewhere)
	ended(t, newest)
	for _, p := range o.replicas {
		if _, ack := p.Present(t, 4, "x", next); ack.Code != packets.RefusedNotAuthorized {
			t.Errorf("a token that was replaced: CONNACK %v", ack.Code)
		}
	}
	if err := bystander.Publish("a", "b"); err != nil {
		t.Errorf("another device: %v", err)
	}
	o.command("token", "disable", "--match", "valve-?", "--yes")
	ended(t, bystander)
	o.command("token", "enable", "valve-1")
	harness.Eventually(t, "the device that is enabled again", func() bool {
		_, ack := b.Present(t, 4, "c", other)
		return ack.Code == packets.Success
	})
}

// TestDatabaseFailsOver: the server of the database is killed, and after a while another one with the
// same data takes its place, which the connection string names as the second host. Known devices go
// on all the time and unknown ones are asked to try again later. After that, commands and
// withdrawals work with the second server.
func TestDatabaseFailsOver(t *testing.T) {
	t.Parallel()
	first, second := harness.StartPostgres(t), harness.StartPostgres(t)
	second.SQL("postgres", fmt.Sprintf("ALTER ROLE %s PASSWORD '%s'", harness.Role, first.Password))
	first.Database("own")
	dsn := fmt.Sprintf("host=127.0.0.1,127.0.0.1 port=%s,%s user=%s password=%s dbname=own sslmode=disable target_session_attrs=read-write connect_timeout=2",
		harness.Port(first.Addr), harness.Port(second.Addr), harness.Role, first.Password)
	o := newOwnTables(t, dsn, first.Password, 1)
	p := o.replicas[0]
	known, unseen := o.token("create", "known"), o.token("create", "unseen")
	live := p.Connect(t, 4, "live", known)

	second.Database("own")
	first.CopyTo(second, "own")
	second.Stop()
	first.Kill()
	served := `mqtt_auth_proxy_cache_stale_served_total{source="postgres0"}`
	harness.Eventually(t, "an old answer in use", func() bool {
		_, ack := p.Present(t, 4, "again", known)
		if ack.Code != packets.Success {
			t.Fatalf("a known device without a database: CONNACK %v", ack.Code)
		}
		return harness.Metric(t, p, served) > 0
	})
	if _, ack := p.Present(t, 5, "unseen", unseen); ack.Code != packets.ServerUnavailable {
		t.Errorf("an unknown device without a database: CONNACK %v", ack.Code)
	}

	second.Start()
	harness.Eventually(t, "the unknown device", func() bool {
		_, ack := p.Present(t, 5, "unseen", unseen)
		if ack.Code != packets.Success && ack.Code != packets.ServerUnavailable && ack.Code != packets.ServerBusy {
			t.Fatalf("an unknown device with the second server: CONNACK %v", ack.Code)
		}
		return ack.Code == packets.Success
	})
	awaitListening(t, p)
	if err := live.Publish("a", "b"); err != nil {
		t.Errorf("the live session: %v", err)
	}
	if open := harness.Metric(t, p, `mqtt_auth_proxy_auth_database_connections{source="postgres0",state="idle"}`); open < 1 {
		t.Errorf("%v connections are idle with the second server", open)
	}
	o.command("token", "revoke", "known")
	ended(t, live)
	if made := o.token("create", "new"); p.Connect(t, 5, "new", made).Publish("a", "b") != nil {
		t.Error("a token that was made on the second server does not work")
	}
}
