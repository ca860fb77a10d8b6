//go:build integration

package replicas

import (
	"context"
	"crypto/rand"
	"fmt"
	"net"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/authz/pgdsn"
	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/integration/harness"
)

// databaseNode is a node whose bus is a database.
type databaseNode struct {
	*node
	file string // with the connection string
}

// inDatabase runs a node with the bus in the database that dsn leads to, until the test ends.
func inDatabase(t *testing.T, name, dsn string) *databaseNode {
	t.Helper()
	n := &databaseNode{node: newNode(t, name, testSecret), file: filepath.Join(t.TempDir(), "dsn")}
	harness.WriteFile(t, n.file, dsn+"\n")
	options := n.options
	var err error
	if options.Database, err = pgdsn.Open(n.file); err != nil {
		t.Fatal(err)
	}
	if n.Replicas, err = New(options); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	var running sync.WaitGroup
	running.Go(func() { n.Run(ctx) })
	t.Cleanup(func() {
		cancel()
		running.Wait()
	})
	return n
}

func (n *databaseNode) connected() bool { return n.Servers()[0].Connected }

// awaitPeers waits until each node hears that many others.
func awaitPeers(t *testing.T, count int, nodes ...*databaseNode) {
	t.Helper()
	for _, n := range nodes {
		harness.Eventually(t, "the other replicas of "+n.Name(), func() bool { return len(n.Peers()) == count })
	}
}

// TestDatabaseCarriesEveryMessageOnce: to each other replica, also a list that needs many
// notifications.
func TestDatabaseCarriesEveryMessageOnce(t *testing.T) {
	server := harness.StartPostgres(t)
	dsn := server.Database("fleet")
	a := inDatabase(t, "a", dsn)
	b := inDatabase(t, "b", dsn)
	c := inDatabase(t, "c", dsn)
	awaitPeers(t, 2, a, b, c)
	many := make([]Withdrawal, 5000)
	for i := range many {
		many[i] = subject(fmt.Sprint("pump-", i))
	}
	a.Withdraw(many...)
	a.Kick("valve")
	for _, n := range []*databaseNode{b, c} {
		harness.Eventually(t, "the messages", func() bool {
			applied, kicked, _, _ := n.see()
			return len(applied) >= len(many) && slices.Equal(kicked, []string{"valve"})
		})
		if applied, _, _, _ := n.see(); len(applied) != len(many) || applied[4999].Subject != "pump-4999" {
			t.Errorf("%s applied %d withdrawals", n.Name(), len(applied))
		}
		if s := n.Stats(); s.Unreadable+s.Late+s.Repeated != 0 {
			t.Errorf("%s has %+v", n.Name(), s)
		}
	}
}

// TestReplicaCatchesUpAfterAnOutageOfTheDatabase: what was withdrawn meanwhile is caught up,
// whether the server was down or only the connections were lost, and so are denials.
func TestReplicaCatchesUpAfterAnOutageOfTheDatabase(t *testing.T) {
	server := harness.StartPostgres(t)
	dsn := server.Database("fleet")
	a := inDatabase(t, "a", dsn)
	b := inDatabase(t, "b", dsn)
	awaitPeers(t, 1, a, b)
	for i, away := range []func(while func()){
		func(while func()) {
			server.Stop()
			harness.Eventually(t, "the loss", func() bool { return !a.connected() && !b.connected() })
			while()
			server.Start()
		},
		func(while func()) {
			server.SQL("postgres", "ALTER ROLE "+harness.Role+" NOLOGIN")
			server.CutConnections()
			harness.Eventually(t, "the loss", func() bool { return !a.connected() && !b.connected() })
			while()
			server.SQL("postgres", "ALTER ROLE "+harness.Role+" LOGIN")
		},
	} {
		name := fmt.Sprint("pump-", i)
		away(func() { a.Withdraw(subject(name)) })
		harness.Eventually(t, "the next connections", func() bool { return a.connected() && b.connected() })
		harness.Eventually(t, "what was missed", func() bool {
			applied, _, _, _ := b.see()
			return slices.ContainsFunc(applied, func(w Withdrawal) bool { return w.Subject == name && w.Missed })
		})
		if _, _, _, recoveries := b.see(); recoveries < 2+i {
			t.Errorf("b recovered %d times", recoveries)
		}
	}
	for _, s := range slices.Concat(a.Servers(), b.Servers()) {
		if s.Name != "postgres" || !s.Connected || s.Err != nil {
			t.Errorf("server %+v", s)
		}
	}
}

// TestDeadConnectionIsNoticed: one on which nothing arrives any more, although it is not closed.
// What was missed is caught up on the next one.
func TestDeadConnectionIsNoticed(t *testing.T) {
	server := harness.StartPostgres(t)
	dsn := server.Database("fleet")
	way := startLeaky(t, server.Addr)
	a := inDatabase(t, "a", dsn)
	b := inDatabase(t, "b", strings.Replace(dsn, server.Addr, way.addr, 1))
	awaitPeers(t, 1, a, b)
	way.dead.Store(true)
	a.Withdraw(subject("pump"))
	harness.Eventually(t, "the loss", func() bool { return !b.connected() })
	way.dead.Store(false)
	harness.Eventually(t, "the next connection", b.connected)
	harness.Eventually(t, "what was missed", func() bool {
		applied, _, _, _ := b.see()
		return len(applied) == 1 && applied[0].Subject == "pump" && applied[0].Missed
	})
}

// leaky leads to a server. While it is dead, it loses all bytes.
type leaky struct {
	addr string
	dead atomic.Bool
}

func startLeaky(t *testing.T, server string) *leaky {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	l := &leaky{addr: ln.Addr().String()}
	var running sync.WaitGroup
	t.Cleanup(func() {
		ln.Close()
		running.Wait() // each connection ends with the replica or with the server
	})
	running.Go(func() {
		for {
			conn, err := ln.Accept()
			if err != nil {
				return
			}
			up, err := net.Dial("tcp", server)
			if err != nil {
				conn.Close()
				return
			}
			running.Go(func() { l.pass(conn, up) })
			running.Go(func() { l.pass(up, conn) })
		}
	})
	return l
}

// pass moves bytes until one side ends.
func (l *leaky) pass(to, from net.Conn) {
	defer to.Close()
	defer from.Close()
	buffer := make([]byte, 32<<10)
	for {
		n, err := from.Read(buffer)
		if err != nil {
			return
		}
		if l.dead.Load() {
			continue
		}
		if _, err := to.Write(buffer[:n]); err != nil {
			return
		}
	}
}

// TestPoolerInBetweenIsNoticed: a pooler in transaction mode delivers no notifications, and what
// the replica says about it has nothing of the connection string.
func TestPoolerInBetweenIsNoticed(t *testing.T) {
	server := harness.StartPostgres(t)
	server.Database("fleet")
	n := inDatabase(t, "a", server.StartPgBouncer(t, "fleet"))
	harness.Eventually(t, "the fault", func() bool {
		s := n.Servers()[0]
		return !s.Connected && s.Err != nil && strings.Contains(s.Err.Error(), "pooler") && !strings.Contains(s.Err.Error(), server.Password)
	})
}

// TestForeignRoleInTheDatabase: a role that may connect to the database sees nothing on the channel,
// and what it sends there or repeats has no effect.
func TestForeignRoleInTheDatabase(t *testing.T) {
	server := harness.StartPostgres(t)
	dsn := server.Database("fleet")
	server.SQL("fleet", "CREATE ROLE stranger LOGIN PASSWORD 'stranger'")
	a := inDatabase(t, "a", dsn)
	b := inDatabase(t, "b", dsn)
	awaitPeers(t, 1, a, b)
	ctx, cancel := context.WithTimeout(t.Context(), harness.Patience)
	defer cancel()
	stranger, err := pgx.Connect(ctx, fmt.Sprintf("host=127.0.0.1 port=%s dbname=fleet user=stranger password=stranger sslmode=disable", harness.Port(server.Addr)))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = stranger.Close(context.Background()) }()
	send := func(payload string) {
		if _, err := stranger.Exec(ctx, "SELECT pg_notify('bus', $1)", payload); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := stranger.Exec(ctx, "LISTEN bus"); err != nil {
		t.Fatal(err)
	}
	a.Kick("pump-with-a-long-name")
	for range 3 {
		heard, err := stranger.WaitForNotification(ctx)
		if err != nil {
			t.Fatal(err)
		}
		if strings.Contains(heard.Payload, "pump") {
			t.Error("a notification shows a name")
		}
		send(heard.Payload)
	}
	for range 500 {
		send(rand.Text() + rand.Text())
	}
	for _, payload := range []string{"", "{}", "=", strings.Repeat("A", 7999)} {
		send(payload)
	}
	harness.Eventually(t, "the unreadable messages", func() bool { return b.Stats().Unreadable > 0 && b.Stats().Repeated > 0 })
	a.Kick("last")
	harness.Eventually(t, "the last kick", func() bool {
		_, kicked, _, _ := b.see()
		return slices.Contains(kicked, "last")
	})
	if _, kicked, purges, _ := b.see(); !slices.Equal(kicked, []string{"pump-with-a-long-name", "last"}) || purges != 0 {
		t.Errorf("b kicked %v and purged %d times", kicked, purges)
	}
}

// TestConnectionStringThatChanges: the replica follows it to another database.
func TestConnectionStringThatChanges(t *testing.T) {
	server := harness.StartPostgres(t)
	before, after := server.Database("fleet"), server.Database("other")
	a := inDatabase(t, "a", before)
	b := inDatabase(t, "b", after)
	harness.Eventually(t, "the connections", func() bool { return a.connected() && b.connected() })
	harness.WriteFile(t, a.file, after+"\n")
	awaitPeers(t, 1, a, b)
}
