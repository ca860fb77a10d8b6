//go:build integration

package postgres

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/cmd/internal/task"
	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/cmd/internal/telemetry"
	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/cmd/internal/telemetry/payload"
	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/integration/harness"
)

// TestDatabaseThatIsAway: a store opens without its database, says why it cannot store, keeps
// nothing that no caller waits for, and heals by itself.
func TestDatabaseThatIsAway(t *testing.T) {
	server := harness.StartPostgres(t)
	o := Options{DSNFile: dsnFile(t, server.Database("d"))}
	var reported reports
	o.OnError = reported.add
	server.Stop()
	s := open(t, o)
	if err := s.Writable(); !errors.Is(err, telemetry.ErrStore) || !strings.Contains(err.Error(), "connection refused") || strings.Contains(err.Error(), server.Password) {
		t.Errorf("not writable: error %v", err)
	}
	began := time.Now()
	ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer cancel()
	var callers sync.WaitGroup
	for i := range 20 {
		callers.Go(func() {
			err := s.Append(ctx, fmt.Sprint(i), number(1, 1))
			if !errors.Is(err, telemetry.ErrStore) || !errors.Is(err, context.DeadlineExceeded) {
				t.Errorf("append: error %v, want that of the store and that of the context", err)
			}
		})
	}
	callers.Wait()
	if _, err := telemetry.Latest(t.Context(), s, "0"); !errors.Is(err, telemetry.ErrStore) {
		t.Errorf("latest: error %v, want ErrStore", err)
	}
	took := time.Since(began)
	if n := int(reported.n.Load()); n < 1 || n > 1+int(took/reportEvery) {
		t.Errorf("%d reports within %v, want one every %v", n, took, reportEvery)
	}
	waiting := make(chan error)
	go func() { waiting <- s.Append(t.Context(), "waits", number(1, 1)) }()
	server.Start()
	if err := <-waiting; err != nil {
		t.Errorf("a caller that waited: %v", err)
	}
	harness.Eventually(t, "writable", func() bool { return s.Writable() == nil })
	server.Kill()
	harness.Eventually(t, "idle store that notices", func() bool { return s.Writable() != nil })
	server.Start()
	harness.Eventually(t, "writable again", func() bool { return s.Writable() == nil })
	for i := range 20 {
		points, err := telemetry.Latest(t.Context(), s, fmt.Sprint(i))
		if err != nil || len(points) > 0 {
			t.Errorf("device %d: %v, error %v; nothing was to be stored", i, points, err)
		}
	}
}

// TestFaultsUnderLoad: whatever happens to the server, each message is stored once.
func TestFaultsUnderLoad(t *testing.T) {
	server := harness.StartPostgres(t)
	dsn := server.Database("d")
	var reported reports
	s := open(t, Options{DSNFile: dsnFile(t, dsn), OnError: reported.add})
	l := startLoad(t, s, "d", 40)
	for range 3 {
		for _, fault := range []func(){
			server.CutConnections,
			func() { server.Kill(); server.Start() },
			func() { server.Stop(); server.Start() },
		} {
			l.await(10)
			fault()
		}
	}
	l.await(10)
	l.check(s)
	if n := server.SQL("d", "SELECT count(*) FROM mqtt_auth_proxy.telemetry WHERE device = ''"); n != "0" {
		t.Errorf("probes left %s rows", n)
	}
}

// TestPartitionMadeMeanwhile: a message that is on its way to the default partition while another
// store makes a partition for its time is stored.
func TestPartitionMadeMeanwhile(t *testing.T) {
	server := harness.StartPostgres(t)
	dsn := server.Database("d")
	var reported reports // other work may have to wait too long
	s := open(t, Options{DSNFile: dsnFile(t, dsn), Connections: 1, OnError: reported.add})
	harness.Eventually(t, "the partition that it makes at the start", func() bool { return s.partitions.covers(time.Now().UnixMilli()) })
	s.partitions.postpone() // it makes no other
	conn, err := pgx.Connect(t.Context(), dsn)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(context.WithoutCancel(t.Context()))
	ts := time.Now().Add(-100 * 24 * time.Hour).UnixMilli()
	if _, err := conn.Exec(t.Context(), fmt.Sprintf(`BEGIN;
		LOCK TABLE mqtt_auth_proxy.telemetry_default;
		CREATE TABLE mqtt_auth_proxy.telemetry_other (LIKE mqtt_auth_proxy.telemetry INCLUDING DEFAULTS);
		ALTER TABLE mqtt_auth_proxy.telemetry ATTACH PARTITION mqtt_auth_proxy.telemetry_other FOR VALUES FROM (%d) TO (%d)`, ts-1000, ts+1000)); err != nil {
		t.Fatal(err)
	}
	stored := make(chan error, 1)
	go func() { stored <- s.Append(t.Context(), "pump", number(ts, 1)) }()
	harness.Eventually(t, "a message that waits for the partition", func() bool {
		return server.SQL("d", "SELECT count(*) FROM pg_stat_activity WHERE datname = 'd' AND wait_event_type = 'Lock'") != "0"
	})
	if _, err := conn.Exec(t.Context(), "COMMIT"); err != nil {
		t.Fatal(err)
	}
	if err := <-stored; err != nil {
		t.Fatal(err)
	}
	if n := server.SQL("d", "SELECT count(*) FROM mqtt_auth_proxy.telemetry_other"); n != "1" {
		t.Errorf("%s messages in the new partition", n)
	}
}

// TestSeveralStores: stores that start at once on an empty database and write at the same
// places lose nothing, through PgBouncer and over TLS as well.
func TestSeveralStores(t *testing.T) {
	server := harness.StartPostgres(t)
	direct := server.Database("d")
	const messages = 200
	var (
		stores  []*Store
		opening sync.WaitGroup
	)
	dsns := []string{direct, server.TLSDSN("d"), server.SocketDSN("d"), server.StartPgBouncer(t, "d")}
	stores = make([]*Store, len(dsns))
	for i, dsn := range dsns {
		path := dsnFile(t, dsn)
		opening.Go(func() {
			s, err := Open(t.Context(), Options{DSNFile: path, Connections: 2, Retention: 240 * time.Hour, OnError: func(err error) { t.Errorf("store %d: %v", i, err) }})
			if err != nil {
				t.Error(err)
				return
			}
			stores[i] = s
			t.Cleanup(func() { _ = s.Close() })
		})
	}
	opening.Wait()
	now := time.Now().UnixMilli()
	var writing sync.WaitGroup
	for i, s := range stores {
		writing.Go(func() {
			for n := range messages {
				ts := now + int64(n%10)
				own := payload.Message{TS: now + 1000, Fields: []payload.Field{{Key: fmt.Sprintf("k%d-%d", i, n), Value: payload.Long(int64(n))}}}
				for _, list := range [][]payload.Message{number(ts, n), {own}} {
					if err := s.Append(t.Context(), "shared", list); err != nil {
						t.Errorf("store %d: %v", i, err)
					}
				}
				if err := s.SetAttributes(t.Context(), "shared", telemetry.ClientScope, now, []payload.Field{{Key: fmt.Sprint(i), Value: payload.Long(int64(n))}}); err != nil {
					t.Errorf("store %d: %v", i, err)
				}
			}
		})
	}
	writing.Wait()
	for i, s := range stores {
		n, merged := 0, 0
		for m, err := range s.Messages(t.Context(), telemetry.Range{Device: "shared", Start: now, End: now + 2000}) {
			if err != nil {
				t.Fatal(err)
			}
			if n++; m.TS == now+1000 {
				merged += len(m.Fields)
			}
		}
		if want := len(stores)*messages + 1; n != want || merged != len(stores)*messages {
			t.Errorf("store %d sees %d messages and %d merged values, want %d and %d", i, n, merged, want, want-1)
		}
		harness.Eventually(t, "the newest values of the others", func() bool {
			keys, err := telemetry.Keys(t.Context(), s, "shared")
			return err == nil && len(keys) == len(stores)*messages+1
		})
		if list, err := telemetry.Attributes(t.Context(), s, "shared", telemetry.ClientScope); err != nil || len(list) != len(stores) {
			t.Errorf("store %d sees attributes %v, error %v", i, list, err)
		}
	}
}

// TestOtherFormatIsLeftAlone: tables of a newer version are neither used nor changed.
func TestOtherFormatIsLeftAlone(t *testing.T) {
	server := harness.StartPostgres(t)
	var reported reports
	o := Options{DSNFile: dsnFile(t, server.Database("d")), OnError: reported.add}
	if err := open(t, o).Close(); err != nil {
		t.Fatal(err)
	}
	server.SQL("d", "UPDATE mqtt_auth_proxy.telemetry_format SET version = 99")
	s := open(t, o)
	if err := s.Writable(); err == nil || !strings.Contains(err.Error(), "the tables have format 99, this version reads 1") {
		t.Errorf("error %v does not say why", err)
	}
	server.SQL("d", "UPDATE mqtt_auth_proxy.telemetry_format SET version = 1")
	harness.Eventually(t, "writable", func() bool { return s.Writable() == nil })
}

// TestOlderDatabaseGetsNewerTables: an older database gets the newer tables, and two proxies that
// get to know a device behind a gateway at the same time store its data under the same name.
func TestOlderDatabaseGetsNewerTables(t *testing.T) {
	server := harness.StartPostgres(t)
	var reported reports
	o := Options{DSNFile: dsnFile(t, server.Database("d")), OnError: reported.add}
	older := open(t, o)
	if err := errors.Join(older.Append(t.Context(), "g/a", number(1, 1)), older.Close()); err != nil {
		t.Fatal(err)
	}
	server.SQL("d", "DROP TABLE mqtt_auth_proxy.shared_attributes; DROP TABLE mqtt_auth_proxy.children")
	s := open(t, o)
	if err := s.SetAttributes(t.Context(), "d", telemetry.SharedScope, 1, []payload.Field{{Key: "a", Value: payload.Long(1)}}); err != nil {
		t.Fatal(err)
	}
	if list, err := telemetry.Attributes(t.Context(), s, "d", telemetry.SharedScope); err != nil || len(list) != 1 {
		t.Errorf("attributes %v, error %v", list, err)
	}
	var proxies sync.WaitGroup
	for i, store := range []telemetry.Store{s, open(t, o)} {
		family := telemetry.WithChildren(store)
		proxies.Go(func() {
			for k := range 10 {
				part := telemetry.Part{Device: fmt.Sprint("g/", k), Messages: number(int64(i), 1)}
				if err := family.AppendAll(t.Context(), []telemetry.Part{part, {Device: "g/a", Messages: number(int64(2+10*k+i), 1)}}); err != nil {
					t.Error(err)
				}
			}
		})
	}
	proxies.Wait()
	const count = "SELECT count(DISTINCT c.device), count(*), min(c.child) FROM mqtt_auth_proxy.children c JOIN mqtt_auth_proxy.telemetry USING (device) WHERE gateway = 'g'"
	if got := server.SQL("d", count); got != "11|40|0" {
		t.Errorf("children and their messages: %s", got)
	}
	if got := server.SQL("d", "SELECT count(*) FROM mqtt_auth_proxy.telemetry WHERE device = 'g/a'"); got != "1" {
		t.Errorf("a device called like a child has %s messages", got)
	}
}

// TestServerThatCannotWrite: a replica, or a database without room, is not writable, and its
// errors quote no payload.
func TestServerThatCannotWrite(t *testing.T) {
	server := harness.StartPostgres(t)
	var reported reports
	s := open(t, Options{DSNFile: dsnFile(t, server.Database("d")), OnError: reported.add})
	for _, c := range []struct{ database, spoil, mend string }{
		{"postgres", "ALTER DATABASE d SET default_transaction_read_only = on", "ALTER DATABASE d SET default_transaction_read_only = off"},
		{"d", "ALTER TABLE mqtt_auth_proxy.telemetry ADD CHECK (n < 0) NOT VALID", "ALTER TABLE mqtt_auth_proxy.telemetry DROP CONSTRAINT telemetry_n_check"},
	} {
		server.SQL(c.database, c.spoil)
		server.CutConnections()
		ctx, cancel := context.WithTimeout(t.Context(), 3*time.Second)
		err := s.Append(ctx, "device", []payload.Message{{TS: 1, Fields: []payload.Field{{Key: "k", Value: payload.Text("secret")}}}})
		cancel()
		if !errors.Is(err, telemetry.ErrStore) || strings.Contains(err.Error(), "secret") || s.Writable() == nil {
			t.Errorf("%s: error %v, writable %v", c.spoil, err, s.Writable())
		}
		server.SQL(c.database, c.mend)
		server.CutConnections()
		harness.Eventually(t, "writable", func() bool { return s.Writable() == nil })
		if err := s.Append(t.Context(), "device", number(2, 2)); err != nil {
			t.Errorf("afterwards: %v", err)
		}
	}
}

// TestNewestValuesOfAKilledProcess: newest values that a killed process had not written are found
// by its next process at once, and by another process after a while.
func TestNewestValuesOfAKilledProcess(t *testing.T) {
	server := harness.StartPostgres(t)
	o := Options{DSNFile: dsnFile(t, server.Database("d"))}
	s := open(t, o)
	latest := func(s *Store) int64 {
		points, err := telemetry.Latest(t.Context(), s, "d")
		if err != nil {
			t.Fatal(err)
		}
		return points["n"].TS
	}
	for n := range 3 {
		if err := s.Append(t.Context(), "d", number(int64(n), n)); err != nil {
			t.Fatal(err)
		}
	}
	harness.Eventually(t, "flush", func() bool { return waits(s) == 0 })
	forget := func(age string) {
		server.SQL("d", `DELETE FROM mqtt_auth_proxy.latest;
			INSERT INTO mqtt_auth_proxy.unflushed (since) SELECT min(stored) - `+age+` FROM mqtt_auth_proxy.telemetry`)
	}
	forget("20000")
	harness.Eventually(t, "another process", func() bool { return latest(s) == 2 })
	forget("0")
	if n := latest(open(t, o)); n != 2 {
		t.Errorf("the next process has the newest value of %d, want 2", n)
	}
	if n := server.SQL("d", "SELECT count(*) FROM mqtt_auth_proxy.unflushed WHERE since > 0"); n != "0" {
		t.Errorf("%s notes are left", n)
	}
}

// TestPanicEndsOneGroup: a panic fails the calls of its group, is reported with its stack, and
// the store goes on.
func TestPanicEndsOneGroup(t *testing.T) {
	server := harness.StartPostgres(t)
	var (
		faulty atomic.Bool
		stacks atomic.Int64
	)
	s := open(t, Options{
		DSNFile: dsnFile(t, server.Database("d")),
		Now: func() time.Time {
			if faulty.Load() {
				panic("in a test")
			}
			return time.Now()
		},
		OnError: func(err error) {
			if task.StackOf(err) != nil {
				stacks.Add(1)
			}
		},
	})
	faulty.Store(true)
	if err := s.Append(t.Context(), "d", number(1, 1)); !errors.Is(err, telemetry.ErrStore) || strings.Contains(err.Error(), "in a test") {
		t.Errorf("error %v, want ErrStore without what the panic says", err)
	}
	if stacks.Load() == 0 {
		t.Error("the panic was not reported")
	}
	faulty.Store(false)
	if err := s.Append(t.Context(), "d", number(2, 2)); err != nil {
		t.Errorf("afterwards: %v", err)
	}
}
