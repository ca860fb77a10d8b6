package postgres

import (
	"context"
	"errors"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/authz/pgdsn"
)

// CheckDSN returns an error if the file does not hold a connection string. It does not connect.
func CheckDSN(path string) error {
	_, err := pgdsn.Open(path)
	return err
}

// connConfig returns the configuration of the next connection.
func connConfig(f *pgdsn.File) *pgx.ConnConfig {
	c := f.Config()
	// No statement is prepared by name: PgBouncer may use another connection for the next one.
	c.DefaultQueryExecMode = pgx.QueryExecModeCacheDescribe
	c.StatementCacheCapacity = 0
	return c
}

// newPool returns a pool that reads the connection string for each connection.
func newPool(ctx context.Context, f *pgdsn.File, connections int) (*pgxpool.Pool, error) {
	// Its own parser has defaults that depend on the machine.
	c, err := pgxpool.ParseConfig("")
	if err != nil {
		return nil, errors.New("the environment variables of libpq (PGHOST and others) are not valid")
	}
	c.ConnConfig = connConfig(f)
	c.MinConns, c.MaxConns = 0, int32(connections)
	c.BeforeConnect = func(_ context.Context, cc *pgx.ConnConfig) error {
		*cc = *connConfig(f)
		return nil
	}
	return pgxpool.NewWithConfig(ctx, c)
}
