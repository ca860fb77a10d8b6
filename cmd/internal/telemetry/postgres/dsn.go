package postgres

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"os"
	"regexp"
	"strings"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
)

// connectTimeout is how long a connection may take unless the DSN says connect_timeout.
const connectTimeout = 5 * time.Second

// maxDSN bounds the file with the DSN in bytes.
const maxDSN = 64 << 10

// errDSN does not wrap the error of the parser, which may quote the password.
var errDSN = errors.New("is not the connection string of a PostgreSQL database, such as postgres://USER:PASSWORD@HOST/DATABASE?sslmode=verify-full on one line: look for characters of the password that are not percent-encoded, for parameters that do not exist, and for files of certificates that cannot be read")

// CheckDSN returns an error if the file does not contain a connection string. It does not connect.
func CheckDSN(path string) error {
	_, err := (&dsn{path: path}).config()
	return err
}

// dsn is the connection string in a file.
type dsn struct {
	path string

	mu     sync.Mutex
	text   string          // that was read last
	parsed *pgx.ConnConfig // of text
}

// config returns the configuration that is in the file now.
func (d *dsn) config() (*pgx.ConnConfig, error) {
	text, err := readDSN(d.path)
	if err != nil {
		return nil, err
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.parsed == nil || text != d.text {
		parsed, err := parseDSN(text)
		if err != nil {
			return nil, fmt.Errorf("%s %w", d.path, err)
		}
		d.text, d.parsed = text, parsed
	}
	return d.parsed.Copy(), nil
}

func readDSN(path string) (string, error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return "", err
	}
	text := strings.TrimSpace(string(data))
	switch {
	case text == "":
		return "", fmt.Errorf("%s is empty", path)
	case len(text) > maxDSN || strings.ContainsAny(text, "\r\n\x00"):
		return "", fmt.Errorf("%s %w", path, errDSN)
	}
	return text, nil
}

func parseDSN(text string) (*pgx.ConnConfig, error) {
	c, err := pgx.ParseConfig(text)
	if err != nil {
		return nil, errDSN
	}
	// No statement is prepared by name: PgBouncer may use another connection for the next one.
	c.DefaultQueryExecMode = pgx.QueryExecModeCacheDescribe
	c.StatementCacheCapacity = 0
	if !strings.Contains(text, "connect_timeout") {
		c.ConnectTimeout = connectTimeout
	}
	if c.RuntimeParams["application_name"] == "" {
		c.RuntimeParams["application_name"] = "mqtt-auth-proxy"
	}
	return c, nil
}

// connect opens a connection.
func (d *dsn) connect(ctx context.Context) (*pgx.Conn, error) {
	c, err := d.config()
	if err != nil {
		return nil, err
	}
	return pgx.ConnectConfig(ctx, c)
}

// pool returns the configuration of a pool that reads the DSN for each connection.
func (d *dsn) pool(connections int) (*pgxpool.Config, error) {
	c, err := d.config()
	if err != nil {
		return nil, err
	}
	// Its own parser has defaults that depend on the machine.
	pool, err := pgxpool.ParseConfig("")
	if err != nil {
		return nil, errDSN
	}
	pool.ConnConfig = c
	pool.MinConns, pool.MaxConns = 0, int32(connections)
	pool.BeforeConnect = func(_ context.Context, cc *pgx.ConnConfig) error {
		c, err := d.config()
		if err == nil {
			*cc = *c
		}
		return err
	}
	return pool, nil
}

// fileParameters are the parameters of a DSN that name files, in both of its forms.
var fileParameters = regexp.MustCompile(`\b(?:sslrootcert|sslcert|sslkey|passfile|servicefile)\s*=\s*(?:'([^']*)'|([^\s&']+))`)

// Files returns the files that the DSN in a file names, such as certificates, so that a sandbox can
// allow reading them. It returns none for a file that cannot be read.
func Files(path string) (files []string) {
	text, err := readDSN(path)
	if err != nil {
		return nil
	}
	for _, m := range fileParameters.FindAllStringSubmatch(text, -1) {
		name := m[1] + m[2]
		if strings.Contains(text, "://") {
			name = unescape(name)
		}
		files = append(files, name)
	}
	return files
}

// unescape decodes a value of a URL, or returns it as it is.
func unescape(s string) string {
	if u, err := url.QueryUnescape(s); err == nil {
		return u
	}
	return s
}
