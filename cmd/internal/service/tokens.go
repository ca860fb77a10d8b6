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
	stores, err := TokenStores(s.current.Load().config)
	for _, x := range stores {
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
