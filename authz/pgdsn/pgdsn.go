// Package pgdsn reads the connection string of a PostgreSQL database from a file.
//
//	file, err := pgdsn.Open("/run/secrets/dsn")
//	...
//	conn, err := pgx.ConnectConfig(ctx, file.Config())
//
// The file has one line, either a URL or a list of KEY=VALUE, in the forms that libpq knows:
//
//	postgres://proxy:p%40ss@db.example/fleet?sslmode=verify-full
//	host=/run/postgresql dbname=fleet user=proxy
//
// What the string does not say comes from the environment variables of libpq, such as
// PGPASSWORD, and from a password file. TLS is as sslmode says; without it, the connection is
// encrypted if the server can do that, and the certificate is not checked.
//
// The file is read again within a second after it has changed. If it is invalid then, the last
// valid string stays in effect. Errors never contain any of it.
package pgdsn

import (
	"errors"
	"fmt"
	"net/url"
	"regexp"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/authz/files"
)

const (
	// connectTimeout limits connecting if the string has no connect_timeout.
	connectTimeout = 5 * time.Second
	// reread is how often the file is read again at most.
	reread = time.Second
	// maxSize limits the file in bytes.
	maxSize = 64 << 10
)

// errDSN does not wrap the error of the parser, which may contain the password.
var errDSN = errors.New("not the connection string of a PostgreSQL database, such as postgres://USER:PASSWORD@HOST/DATABASE?sslmode=verify-full on one line: look for characters of the password that are not percent-encoded, for unknown parameters, and for certificate files that cannot be read")

// File is a file with a connection string. It is made by [Open] and safe for concurrent use.
type File struct {
	watched *files.Watched[*pgx.ConnConfig]
}

// Open reads the file at path. It does not connect.
func Open(path string) (*File, error) {
	w, err := files.Watch(files.Parsed[*pgx.ConnConfig]{
		Paths: []string{path}, Limit: maxSize,
		Parse: func(contents [][]byte) (*pgx.ConnConfig, error) {
			c, err := parse(string(contents[0]))
			if err != nil {
				return nil, fmt.Errorf("%s: %w", path, err)
			}
			return c, nil
		},
	}, reread)
	if err != nil {
		return nil, err
	}
	return &File{watched: w}, nil
}

// Config returns a copy of the configuration that is in effect, for one connection.
func (f *File) Config() *pgx.ConnConfig {
	c, _ := f.watched.Get()
	return c.Copy()
}

// Version returns a value that differs from an earlier one if the file has changed since.
func (f *File) Version() any {
	c, _ := f.watched.Get()
	return c
}

// Refresh reads the file now.
func (f *File) Refresh() { f.watched.Refresh() }

// Fault returns why the content of the file is not in effect, or nil.
func (f *File) Fault() error {
	_, err := f.watched.Get()
	return err
}

func parse(content string) (*pgx.ConnConfig, error) {
	text := strings.TrimSpace(content)
	switch {
	case text == "":
		return nil, errors.New("the file is empty; write the connection string into it")
	case strings.ContainsAny(text, "\r\n\x00"):
		return nil, errDSN
	}
	c, err := pgx.ParseConfig(text)
	if err != nil {
		return nil, errDSN
	}
	if !strings.Contains(text, "connect_timeout") {
		c.ConnectTimeout = connectTimeout
	}
	if c.RuntimeParams["application_name"] == "" {
		c.RuntimeParams["application_name"] = "mqtt-auth-proxy"
	}
	return c, nil
}

// fileParameters are the parameters that name files, in both forms of a connection string.
var fileParameters = regexp.MustCompile(`\b(?:sslrootcert|sslcert|sslkey|passfile|servicefile)\s*=\s*(?:'([^']*)'|([^\s&']+))`)

// Files returns the files that the connection string in the file at path names, such as
// certificates, for a sandbox that must not close them. It returns none if the file cannot be
// read.
func Files(path string) (names []string) {
	content, _, err := files.Read(path, maxSize)
	if err != nil {
		return nil
	}
	for _, m := range fileParameters.FindAllStringSubmatch(string(content), -1) {
		name := m[1] + m[2]
		if decoded, err := url.QueryUnescape(name); err == nil && strings.Contains(string(content), "://") {
			name = decoded
		}
		names = append(names, name)
	}
	return names
}
