package harness

import (
	"crypto/rand"
	"fmt"
	"net/url"
	"os"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
)

// Postgres is a PostgreSQL server with files of its own. It listens on a loopback address, with
// and without TLS, and on a Unix socket. The role of its users owns the databases that are made
// with Database, and has no other rights.
type Postgres struct {
	*Process
	t        testing.TB
	Dir      string // holds the files of the server and its socket
	Addr     string // host:port
	Password string // of Role
	settings []string
}

// Role is the name of the role with which programs connect to PostgreSQL.
const Role = "proxy"

// StartPostgres runs a PostgreSQL server until the test ends. settings, each NAME=VALUE, are
// added to those of the server.
func StartPostgres(t testing.TB, settings ...string) *Postgres {
	t.Helper()
	// The path of a socket must be short, and the server's user must be able to reach it.
	dir, err := os.MkdirTemp("", "pg")
	if err != nil {
		t.Fatal(err)
	}
	p := &Postgres{t: t, Dir: dir, Addr: FreeAddress(t), Password: rand.Text(), settings: settings}
	t.Cleanup(func() {
		// What is left of a server that was killed may still write for a moment.
		Eventually(t, "the end of PostgreSQL's files", func() bool { return os.RemoveAll(dir) == nil })
	})
	p.initialize()
	// The server ends after all that was started later, also if it was started again since.
	t.Cleanup(func() {
		if p.Process != nil {
			p.Signal(syscall.SIGQUIT)
			p.Wait(t, Patience)
		}
	})
	p.Start()
	p.SQL("postgres", fmt.Sprintf("CREATE ROLE %s LOGIN PASSWORD '%s'", Role, p.Password))
	return p
}

// initialize makes the files of the server.
func (p *Postgres) initialize() {
	p.t.Helper()
	certificate, key := ServerCertificate(1)
	WriteFile(p.t, p.CAFile(), certificate)
	WriteFile(p.t, filepath.Join(p.Dir, "key.pem"), key)
	if os.Geteuid() == 0 {
		p.giveAway(p.Dir, p.CAFile(), filepath.Join(p.Dir, "key.pem"))
	}
	r := Run(p.t, p.asUser(p.tool("initdb"), "-D", p.data(), "-U", "postgres", "-A", "trust", "-E", "UTF8", "--no-locale", "--no-sync")...)
	if r.Status != 0 {
		p.t.Fatalf("initdb: %s", r.Output())
	}
	WriteFile(p.t, filepath.Join(p.data(), "pg_hba.conf"), "local all postgres trust\nlocal all all scram-sha-256\nhost all all 127.0.0.1/32 scram-sha-256\n")
}

// giveAway makes the server's user the owner of files.
func (p *Postgres) giveAway(paths ...string) {
	p.t.Helper()
	u, err := user.Lookup("postgres")
	if err != nil {
		Skip(p.t, "the user postgres is missing: ./integration/install brings it")
	}
	uid, _ := strconv.Atoi(u.Uid)
	gid, _ := strconv.Atoi(u.Gid)
	for _, path := range paths {
		if err := os.Chown(path, uid, gid); err != nil {
			p.t.Fatal(err)
		}
	}
}

// asUser returns a command that runs as the user postgres, because the programs of PostgreSQL
// refuse to run as root.
func (p *Postgres) asUser(argv ...string) []string {
	if os.Geteuid() != 0 {
		return argv
	}
	return append([]string{Need(p.t, "setpriv"), "--reuid=postgres", "--regid=postgres", "--clear-groups"}, argv...)
}

func (p *Postgres) tool(name string) string {
	return NeedFile(p.t, "/usr/lib/postgresql/*/bin/"+name)
}

func (p *Postgres) data() string { return filepath.Join(p.Dir, "data") }

// CAFile returns the path of the certificate that the server shows under the name localhost.
func (p *Postgres) CAFile() string { return filepath.Join(p.Dir, "certificate.pem") }

// Start runs the server and returns when it answers. It may be called again after Stop or Kill.
func (p *Postgres) Start() {
	p.t.Helper()
	argv := p.asUser(p.tool("postgres"), "-D", p.data())
	for _, setting := range append([]string{
		"listen_addresses=127.0.0.1", "port=" + Port(p.Addr), "unix_socket_directories=" + p.Dir, "shared_buffers=32MB",
		"ssl=on", "ssl_cert_file=" + p.CAFile(), "ssl_key_file=" + filepath.Join(p.Dir, "key.pem"),
	}, p.settings...) {
		argv = append(argv, "-c", setting)
	}
	// After a kill the server does not start until the last of its processes has ended.
	Eventually(p.t, "PostgreSQL", func() bool {
		if p.Process == nil || p.ended() {
			p.Process = start(p.t, nil, nil, argv...)
		}
		return Run(p.t, p.tool("pg_isready"), "-q", "-h", p.Dir, "-p", Port(p.Addr)).Status == 0
	})
}

func (p *Postgres) ended() bool {
	select {
	case <-p.Exited:
		return true
	default:
		return false
	}
}

// Stop ends the server in order and cuts its connections.
func (p *Postgres) Stop() {
	p.t.Helper()
	p.Signal(syscall.SIGINT)
	p.Wait(p.t, Patience)
}

// Database makes an empty database and returns its DSN over TCP without TLS.
func (p *Postgres) Database(name string) string {
	p.t.Helper()
	p.SQL("postgres", fmt.Sprintf("CREATE DATABASE %s OWNER %s", name, Role))
	return p.DSN(name)
}

// DSN returns the connection string of a database over TCP without TLS.
func (p *Postgres) DSN(database string) string {
	return p.dsn(p.Addr, database, "sslmode=disable")
}

// TLSDSN returns the connection string of a database over TLS.
func (p *Postgres) TLSDSN(database string) string {
	return p.dsn("localhost:"+Port(p.Addr), database, "sslmode=verify-full&sslrootcert="+url.QueryEscape(p.CAFile()))
}

// SocketDSN returns the connection string of a database over the Unix socket.
func (p *Postgres) SocketDSN(database string) string {
	return p.dsn("", database, "port="+Port(p.Addr)+"&host="+url.QueryEscape(p.Dir))
}

func (p *Postgres) dsn(host, database, query string) string {
	u := url.URL{Scheme: "postgres", User: url.UserPassword(Role, p.Password), Host: host, Path: "/" + database, RawQuery: query}
	return u.String()
}

// SQL runs statements as the superuser and returns what they print, one row a line.
func (p *Postgres) SQL(database, statements string) string {
	p.t.Helper()
	r := Run(p.t, Need(p.t, "psql"), "-X", "-A", "-t", "-q", "-v", "ON_ERROR_STOP=1",
		"-h", p.Dir, "-p", Port(p.Addr), "-U", "postgres", "-d", database, "-c", statements)
	if r.Status != 0 {
		p.t.Fatalf("psql: %s", r.Output())
	}
	return strings.TrimSuffix(r.Stdout, "\n")
}

// CopyTo copies what is in a database to the empty database of that name on another server.
func (p *Postgres) CopyTo(other *Postgres, database string) {
	p.t.Helper()
	file := filepath.Join(p.Dir, database+".sql")
	WriteFile(p.t, file, "")
	for _, argv := range [][]string{
		{Need(p.t, "pg_dump"), "-h", p.Dir, "-p", Port(p.Addr), "-U", "postgres", "-f", file, database},
		{Need(p.t, "psql"), "-X", "-q", "-v", "ON_ERROR_STOP=1", "-h", other.Dir, "-p", Port(other.Addr), "-U", "postgres", "-d", database, "-f", file},
	} {
		if r := Run(p.t, argv...); r.Status != 0 {
			p.t.Fatalf("%s: %s", argv[0], r.Output())
		}
	}
}

// CutConnections ends all connections of Role.
func (p *Postgres) CutConnections() {
	p.t.Helper()
	p.SQL("postgres", "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = '"+Role+"'")
}

// StartPgBouncer runs a PgBouncer in transaction mode in front of the server until the test
// ends. It returns the DSN of a database through it.
func (p *Postgres) StartPgBouncer(t testing.TB, database string) string {
	t.Helper()
	addr := FreeAddress(t)
	users, config := filepath.Join(p.Dir, "users-"+Port(addr)), filepath.Join(p.Dir, "pgbouncer-"+Port(addr))
	WriteFile(t, users, fmt.Sprintf("%q %q\n", Role, p.Password))
	WriteFile(t, config, fmt.Sprintf(`[databases]
* = host=127.0.0.1 port=%s
[pgbouncer]
listen_addr = 127.0.0.1
listen_port = %s
unix_socket_dir =
auth_type = scram-sha-256
auth_file = %s
pool_mode = transaction
default_pool_size = 3
`, Port(p.Addr), Port(addr), users))
	if os.Geteuid() == 0 {
		p.giveAway(users, config)
	}
	b := Launch(t, nil, p.asUser(Need(t, "pgbouncer"), config)...)
	b.Await(t, b.Stderr, "running PgBouncer", func(text string) bool { return strings.Contains(text, "process up") })
	return p.dsn(addr, database, "sslmode=disable")
}
