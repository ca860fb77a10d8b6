package presence

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/authz/pgdsn"
)

// postgresStore is a store in tables of the schema of package tokenpostgres, which several proxies
// share. A row has the name of the proxy that the device is connected to, or NULL.
type postgresStore struct {
	pool  *pgxpool.Pool
	proxy string
}

// connections is how many connections a store has open at most: one writes.
const connections = 2

// openPostgres opens the database. The tables must exist.
func openPostgres(ctx context.Context, t Target) (store, error) {
	s, err := connectPostgres(ctx, t)
	if err != nil {
		return nil, err
	}
	// A process with this name that was killed may have left rows of devices that say connected.
	if _, err := s.pool.Exec(ctx, "UPDATE mqtt_auth_proxy.devices SET proxy = NULL WHERE proxy = $1", s.proxy); err != nil {
		s.pool.Close()
		return nil, databaseError(err)
	}
	return s, nil
}

// connectPostgres returns a store that connects on first use.
func connectPostgres(ctx context.Context, t Target) (*postgresStore, error) {
	dsn, err := pgdsn.Open(t.DSNFile)
	if err != nil {
		return nil, err
	}
	c, err := pgxpool.ParseConfig("") // its own parser has defaults that depend on the machine
	if err != nil {
		return nil, errors.New("the environment variables of libpq (PGHOST and others) are not valid")
	}
	configure := func() *pgx.ConnConfig {
		cc := dsn.Config()
		// No statement is prepared by name: PgBouncer may use another connection for the next.
		cc.DefaultQueryExecMode, cc.StatementCacheCapacity = pgx.QueryExecModeCacheDescribe, 0
		return cc
	}
	c.ConnConfig, c.MinConns, c.MaxConns = configure(), 0, connections
	c.BeforeConnect = func(_ context.Context, cc *pgx.ConnConfig) error {
		*cc = *configure()
		return nil
	}
	pool, err := pgxpool.NewWithConfig(context.WithoutCancel(ctx), c)
	if err != nil {
		return nil, databaseError(err)
	}
	return &postgresStore{pool: pool, proxy: t.Proxy}, nil
}

// databaseError returns err without the values and the connection string that it may contain.
func databaseError(err error) error {
	if refused, ok := errors.AsType[*pgconn.PgError](err); ok {
		switch refused.Code {
		case "42P01", "3F000":
			return errors.New("database: the tables for it are missing; mqtt-auth-proxy store migrate makes them")
		case "42501":
			return errors.New("database: the role has no right to it; it needs SELECT, INSERT, UPDATE and DELETE on mqtt_auth_proxy.devices and mqtt_auth_proxy.token_uses")
		}
		return fmt.Errorf("database: the server refuses (SQLSTATE %s)", refused.Code)
	}
	if _, ok := errors.AsType[*pgconn.ConnectError](err); ok {
		return errors.New("database: cannot connect")
	}
	return fmt.Errorf("database: %w", err)
}

// The later sighting decides about address and connection, because another proxy may have written
// it. The end of a session here says nothing about a session at another proxy. The order of the
// rows is the same for all proxies, so that they do not wait for one another in a circle.
const (
	upsertDevices = `INSERT INTO mqtt_auth_proxy.devices AS d (subject, first_seen, last_seen, address, proxy)
	SELECT subject, first, last, nullif(address, '')::inet, CASE WHEN connected THEN $6 END
		FROM unnest($1::text[], $2::timestamptz[], $3::timestamptz[], $4::text[], $5::boolean[]) AS r (subject, first, last, address, connected)
		ORDER BY subject COLLATE "C"
	ON CONFLICT (subject) DO UPDATE SET
		address = CASE WHEN excluded.last_seen >= d.last_seen THEN coalesce(excluded.address, d.address) ELSE d.address END,
		proxy = CASE WHEN excluded.last_seen < d.last_seen THEN d.proxy
			WHEN excluded.proxy IS NOT NULL THEN excluded.proxy WHEN d.proxy = $6 THEN NULL ELSE d.proxy END,
		first_seen = least(excluded.first_seen, d.first_seen), last_seen = greatest(excluded.last_seen, d.last_seen)`
	upsertTokens = `INSERT INTO mqtt_auth_proxy.token_uses AS t (token_id, last_seen)
	SELECT * FROM unnest($1::text[], $2::timestamptz[]) AS r (token_id, last_seen) ORDER BY token_id COLLATE "C"
	ON CONFLICT (token_id) DO UPDATE SET last_seen = greatest(excluded.last_seen, t.last_seen)`
)

// write implements store.
func (s *postgresStore) write(ctx context.Context, b *batch) error {
	var (
		subjects, addresses []string
		ids                 []string
		first, last, used   []time.Time
		connected           []bool
	)
	for _, d := range b.sortedDevices() {
		if !storable(d.subject) {
			continue
		}
		subjects, connected = append(subjects, d.subject), append(connected, d.connected)
		first, last = append(first, fromMillis(d.first)), append(last, fromMillis(d.last))
		addresses = append(addresses, d.address())
	}
	for _, id := range b.sortedTokens() {
		if storable(id) {
			ids, used = append(ids, id), append(used, fromMillis(b.tokens[id]))
		}
	}
	err := pgx.BeginFunc(ctx, s.pool, func(tx pgx.Tx) error {
		if _, err := tx.Exec(ctx, upsertDevices, subjects, first, last, addresses, connected, s.proxy); err != nil {
			return err
		}
		_, err := tx.Exec(ctx, upsertTokens, ids, used)
		return err
	})
	if err != nil {
		return databaseError(err)
	}
	return nil
}

// storable reports whether PostgreSQL can store the text.
func storable(text string) bool { return utf8.ValidString(text) && strings.IndexByte(text, 0) < 0 }

// forgotten is the time after which a device that is not seen is no longer connected: its proxy
// was killed.
const forgotten = 2 * touchInterval

// prune implements store.
func (s *postgresStore) prune(ctx context.Context, most int) error {
	_, err := s.pool.Exec(ctx, "UPDATE mqtt_auth_proxy.devices SET proxy = NULL WHERE proxy IS NOT NULL AND last_seen < $1", time.Now().Add(-forgotten))
	for _, table := range []struct{ name, key string }{{"devices", "subject"}, {"token_uses", "token_id"}} {
		if err != nil {
			break
		}
		_, err = s.pool.Exec(ctx, fmt.Sprintf(`DELETE FROM mqtt_auth_proxy.%[1]s WHERE %[2]s IN
			(SELECT %[2]s FROM mqtt_auth_proxy.%[1]s ORDER BY last_seen DESC OFFSET $1)`, table.name, table.key), most)
	}
	if err != nil {
		return databaseError(err)
	}
	return nil
}

const selectRows = "SELECT subject, first_seen, last_seen, coalesce(host(address), ''), proxy IS NOT NULL FROM mqtt_auth_proxy.devices "

// page implements store.
func (s *postgresStore) page(ctx context.Context, k kind, after string, limit int) ([]Device, error) {
	if !storable(after) {
		return nil, nil
	}
	only := [...]string{everyDevice: "", connectedDevices: "AND proxy IS NOT NULL ", awayDevices: "AND proxy IS NULL "}[k]
	return s.devices(ctx, selectRows+"WHERE subject > $1 "+only+"ORDER BY subject LIMIT $2", after, limit)
}

// lookup implements store.
func (s *postgresStore) lookup(ctx context.Context, subjects []string) ([]Device, error) {
	known := make([]string, 0, len(subjects))
	for _, subject := range subjects {
		if storable(subject) {
			known = append(known, subject)
		}
	}
	return s.devices(ctx, selectRows+"WHERE subject = ANY ($1)", known)
}

func (s *postgresStore) devices(ctx context.Context, query string, args ...any) ([]Device, error) {
	rows, err := s.pool.Query(ctx, query, args...)
	if err != nil {
		return nil, databaseError(err)
	}
	list, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (d Device, err error) {
		err = row.Scan(&d.Subject, &d.FirstSeen, &d.LastSeen, &d.Address, &d.Connected)
		d.FirstSeen, d.LastSeen = d.FirstSeen.UTC(), d.LastSeen.UTC()
		return d, err
	})
	if err != nil {
		return nil, databaseError(err)
	}
	return list, nil
}

// tokens implements store.
func (s *postgresStore) tokens(ctx context.Context, ids []string) (map[string]time.Time, error) {
	rows, err := s.pool.Query(ctx, "SELECT token_id, last_seen FROM mqtt_auth_proxy.token_uses WHERE token_id = ANY ($1)", ids)
	if err != nil {
		return nil, databaseError(err)
	}
	seen := make(map[string]time.Time)
	var (
		id string
		at time.Time
	)
	_, err = pgx.ForEachRow(rows, []any{&id, &at}, func() error {
		seen[id] = at.UTC()
		return nil
	})
	if err != nil {
		return nil, databaseError(err)
	}
	return seen, nil
}

// close implements store.
func (s *postgresStore) close() error {
	s.pool.Close()
	return nil
}
