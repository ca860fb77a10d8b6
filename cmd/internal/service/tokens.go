package service

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"strconv"
	"time"

	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/authz/tokenfile"
	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/authz/tokenpostgres"
	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/cmd/internal/admin"
	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/cmd/internal/config"
)

// TokenStore keeps tokens that commands can change: a token file, or the proxy's own tables in
// PostgreSQL.
type TokenStore interface {
	admin.TokenStore
	// Each calls do with the entries in the scope, in the order in which they were added, each with
	// its line in the form of a token file.
	Each(ctx context.Context, s tokenfile.Scope, do func(e tokenfile.Entry, line []byte) error) error
	// Lint returns what should be corrected although it is no error.
	Lint(ctx context.Context) ([]string, error)
	// String returns the path of a file, and otherwise the name of the source.
	String() string
}

// NamedStore is the TokenStore of a source, with the name of the source in metrics and logs, such
// as file0 or postgres0.
type NamedStore struct {
	Name string
	TokenStore
}

// TokenStores returns the stores that belong to the sources of c, in their order.
func TokenStores(c *config.Config) (all []NamedStore, err error) {
	files, databases := 0, 0
	for i, source := range c.Auth.Sources {
		switch {
		case source.File != nil:
			all = append(all, NamedStore{"file" + strconv.Itoa(files), TokenFile(source.File.Path)})
			files++
		case source.Postgres != nil:
			name := "postgres" + strconv.Itoa(databases)
			databases++
			if source.Postgres.Query != "" {
				continue
			}
			table, err := tokenpostgres.OpenTable(source.Postgres.DSNFile)
			if err != nil {
				return nil, faultAt(c, fmt.Sprintf("auth.sources[%d].postgres", i), fmt.Errorf("dsn_file: %w", err))
			}
			all = append(all, NamedStore{name, &tokenTable{table, name}})
		}
	}
	return all, nil
}

// tokenStores returns the token sources in force that the admin side can change.
func (s *Service) tokenStores() (all []admin.NamedStore, err error) {
	g := s.current.Load()
	stores, err := TokenStores(g.config)
	for _, x := range stores {
		if path, ok := x.TokenStore.(TokenFile); ok {
			x.TokenStore = g.sources.running(path)
		}
		all = append(all, admin.NamedStore{Name: x.Name, TokenStore: confinedStore{x.TokenStore, s.confined}})
	}
	return all, err
}

// confinedStore is a store that a process in the sandbox may not be able to change.
type confinedStore struct {
	TokenStore
	confined bool
}

// Update implements TokenStore.
func (c confinedStore) Update(ctx context.Context, create bool, s tokenfile.Scope, change func(*tokenfile.Edit) error) error {
	err := c.TokenStore.Update(ctx, create, s, change)
	if c.confined && errors.Is(err, fs.ErrPermission) {
		return fmt.Errorf("%w; the sandbox lets the proxy write only below the directory data: use the token commands, or set sandbox: off", err)
	}
	return err
}

// running returns the token file at the path as the source that has read it, if there is one.
func (s *sources) running(path TokenFile) TokenStore {
	for _, x := range s.list {
		if f, ok := find[*fileSource](x.source); ok && f.path == string(path) && f.File != nil {
			return runningFile{path, f.File}
		}
	}
	return path
}

// runningFile is a token file that is in force, so that it need not be parsed to be listed.
type runningFile struct {
	TokenFile
	file *tokenfile.File
}

// Page implements TokenStore.
func (f runningFile) Page(ctx context.Context, q tokenfile.Query) (tokenfile.Page, error) {
	page, err := f.file.Page(ctx, q)
	return page, MissingTokenFile(f.String(), err)
}

// TokenFile is the store that is the token file at that path.
type TokenFile string

// String implements TokenStore.
func (f TokenFile) String() string { return string(f) }

// Update implements TokenStore. It ignores the scope, since the whole file is read.
func (f TokenFile) Update(_ context.Context, create bool, _ tokenfile.Scope, change func(*tokenfile.Edit) error) error {
	return MissingTokenFile(string(f), tokenfile.Update(string(f), create, change))
}

// Each implements TokenStore.
func (f TokenFile) Each(_ context.Context, s tokenfile.Scope, do func(e tokenfile.Entry, line []byte) error) error {
	return MissingTokenFile(string(f), tokenfile.Each(string(f), s, do))
}

// Page implements TokenStore.
func (f TokenFile) Page(ctx context.Context, q tokenfile.Query) (tokenfile.Page, error) {
	page, err := tokenfile.ReadPage(ctx, string(f), q)
	return page, MissingTokenFile(string(f), err)
}

// Lint implements TokenStore.
func (f TokenFile) Lint(context.Context) ([]string, error) {
	warnings, err := tokenfile.Lint(string(f))
	return warnings, MissingTokenFile(string(f), err)
}

// tokenTable is the store that is the proxy's own table of tokens in a database.
type tokenTable struct {
	table *tokenpostgres.Table
	name  string
}

// String implements TokenStore.
func (t *tokenTable) String() string { return t.name }

// Update implements TokenStore. It ignores create, since the table exists.
func (t *tokenTable) Update(ctx context.Context, _ bool, s tokenfile.Scope, change func(*tokenfile.Edit) error) error {
	return adviseMigration(t.table.Update(ctx, s, change))
}

// Each implements TokenStore.
func (t *tokenTable) Each(ctx context.Context, s tokenfile.Scope, do func(e tokenfile.Entry, line []byte) error) error {
	return adviseMigration(t.table.Each(ctx, s, do))
}

// Page implements TokenStore.
func (t *tokenTable) Page(ctx context.Context, q tokenfile.Query) (tokenfile.Page, error) {
	page, err := t.table.Page(ctx, q)
	return page, adviseMigration(err)
}

// Lint implements TokenStore.
func (t *tokenTable) Lint(ctx context.Context) (warnings []string, err error) {
	expired, now := 0, time.Now()
	err = t.Each(ctx, tokenfile.All(), func(e tokenfile.Entry, _ []byte) error {
		if !e.Expires.IsZero() && !e.Expires.After(now) {
			expired++
		}
		return nil
	})
	if expired > 0 {
		warnings = append(warnings, fmt.Sprintf("%s: %d tokens have expired; revoke them", t.name, expired))
	}
	return warnings, err
}
