//go:build integration

package presence

import (
	"context"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/authz/tokenpostgres"
	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/integration/harness"
)

// sharedStore is a database for several proxies.
type sharedStore struct {
	t      testing.TB
	server *harness.Postgres
	dsn    string
}

func newSharedStore(t testing.TB) *sharedStore {
	t.Helper()
	s := &sharedStore{t: t, server: harness.StartPostgres(t), dsn: filepath.Join(t.TempDir(), "dsn")}
	harness.WriteFile(t, s.dsn, s.server.Database("fleet"))
	if _, err := tokenpostgres.Migrate(context.Background(), s.dsn); err != nil {
		t.Fatal(err)
	}
	return s
}

// proxy is a recorder of the proxy with that name.
func (s *sharedStore) proxy(name string) *fleet {
	s.t.Helper()
	f := newFleet(s.t, Options{Target: func() Target { return Target{DSNFile: s.dsn, Proxy: name} }})
	f.flushed()
	s.t.Cleanup(func() { _ = f.Close(context.Background()) })
	return f
}

// TestProxiesShareTheRecord: each knows where the devices of the others are, a device that moves is
// connected all the time, and what is shown outlives all of them.
func TestProxiesShareTheRecord(t *testing.T) {
	s := newSharedStore(t)
	one, two := s.proxy("one"), s.proxy("two")
	before := one.open("pump")
	one.flushed()
	if got := two.page(Query{Limit: 9}) + "|" + two.page(Query{Limit: 9, Connected: connected(true)}) + "|" + two.page(Query{Limit: 9, Connected: connected(false)}); got != "pump*|pump*|" {
		t.Errorf("at the other proxy: %q", got)
	}
	first := two.device("pump").FirstSeen
	<-time.After(2 * time.Millisecond) // times have a millisecond
	now := two.open("pump")
	two.flushed()
	<-time.After(2 * time.Millisecond)
	one.end(before)
	one.flushed()
	for name, f := range map[string]*fleet{"one": one, "two": two} {
		if d := f.device("pump"); !d.Connected || !d.FirstSeen.Equal(first) || d.Address != "192.0.2.7" {
			t.Errorf("after the move, at proxy %s: %+v", name, d)
		}
	}
	two.end(now)
	two.flushed()
	if one.device("pump").Connected {
		t.Error("connected after the end")
	}
	one.open("left behind")
	one.flushed()
	again := s.proxy("one") // the first was killed
	if got := again.page(Query{Limit: 9}); got != "left behind pump" {
		t.Errorf("after a restart: %q", got)
	}
	seen, err := TokensSeen(t.Context(), Target{DSNFile: s.dsn}, []string{"t-pump", "t-x"})
	if err != nil || len(seen) != 1 || seen["t-pump"].Before(first) {
		t.Errorf("tokens: %v, %v", seen, err)
	}
}

// TestPagesOfTheDatabase: as those of a file.
func TestPagesOfTheDatabase(t *testing.T) {
	s := newSharedStore(t)
	checkPages(t, 10, func() *fleet {
		s.server.SQL("fleet", "TRUNCATE mqtt_auth_proxy.devices")
		return s.proxy("one")
	})
}

// TestDatabaseThatIsAway: what was not written is written once it is back.
func TestDatabaseThatIsAway(t *testing.T) {
	s := newSharedStore(t)
	f := s.proxy("one")
	s.server.SQL("postgres", "ALTER DATABASE fleet ALLOW_CONNECTIONS false; SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = 'fleet'")
	f.open("pump")
	if err := f.flush(t.Context()); err == nil || strings.Contains(err.Error(), s.server.Password) {
		t.Errorf("while it is away: %v", err)
	}
	s.server.SQL("postgres", "ALTER DATABASE fleet ALLOW_CONNECTIONS true")
	harness.Eventually(t, "the record", func() bool { return f.flush(t.Context()) == nil })
	if got := s.server.SQL("fleet", "SELECT subject, proxy FROM mqtt_auth_proxy.devices"); got != "pump|one" {
		t.Errorf("rows %q", got)
	}
}

// TestDatabaseThatDoesNotFit: the fault says what to do.
func TestDatabaseThatDoesNotFit(t *testing.T) {
	s := newSharedStore(t)
	for _, c := range []struct{ statement, want string }{
		{"REVOKE ALL ON mqtt_auth_proxy.devices FROM " + harness.Role,
			"it needs SELECT, INSERT, UPDATE and DELETE on mqtt_auth_proxy.devices and mqtt_auth_proxy.token_uses"},
		{"ALTER TABLE mqtt_auth_proxy.devices RENAME TO x", "mqtt-auth-proxy store migrate makes them"},
	} {
		s.server.SQL("fleet", c.statement)
		f := newFleet(t, Options{Target: func() Target { return Target{DSNFile: s.dsn, Proxy: "one"} }})
		f.open("pump")
		if err := f.flush(t.Context()); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("after %s: %v", c.statement, err)
		}
	}
}

// TestTheOldestRowsAreDeleted: and names that PostgreSQL cannot store do not keep it from storing
// others.
func TestTheOldestRowsAreDeleted(t *testing.T) {
	s := newSharedStore(t)
	f := newFleet(t, Options{Target: func() Target { return Target{DSNFile: s.dsn, Proxy: "one"} }, max: 200})
	defer func() { _ = f.Close(context.Background()) }()
	at := time.Now().UnixMilli()
	for i := range int64(500) {
		name := "d" + string(rune('a'+i/26)) + string(rune('a'+i%26))
		f.pending.device(sighting{subject: name, first: at + i, last: at + i}, 1000)
		f.pending.token(name, at+i, 1000)
	}
	f.pending.device(sighting{subject: "with\x00nul", first: at, last: at}, 1000)
	f.flushed()
	got := s.server.SQL("fleet", "SELECT (SELECT count(*) FROM mqtt_auth_proxy.devices), (SELECT count(*) FROM mqtt_auth_proxy.token_uses)")
	if diff := cmp.Diff("198|198", got); diff != "" {
		t.Error(diff)
	}
}
