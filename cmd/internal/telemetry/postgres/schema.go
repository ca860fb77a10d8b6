package postgres

import (
	"context"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
)

// schemaVersion is the format of the tables.
const schemaVersion = 1

// lockID is the advisory lock under which tables and partitions are changed, and upkeepID the
// one under which one store deletes what is old. They spell "mqttaupr" and the next number.
const (
	lockID   = 0x6d71747461757072
	upkeepID = lockID + 1
)

// schema creates the tables in an empty schema. Values are JSON in text, because the type jsonb
// would not keep the difference between 1.0 and 1.00, and cannot hold \u0000.
//
// n numbers the messages of a device and a millisecond, in order of arrival. stored is when the
// transaction began that wrote the row, by the clock of the database, in milliseconds like ts.
const schema = `
CREATE TABLE mqtt_auth_proxy.telemetry (
	device text NOT NULL, ts bigint NOT NULL, n integer NOT NULL, data text NOT NULL, stored bigint NOT NULL,
	PRIMARY KEY (device, ts, n)
) PARTITION BY RANGE (ts);
CREATE INDEX telemetry_stored ON mqtt_auth_proxy.telemetry USING brin (stored) WITH (autosummarize = on);
CREATE TABLE mqtt_auth_proxy.telemetry_default PARTITION OF mqtt_auth_proxy.telemetry DEFAULT;
CREATE TABLE mqtt_auth_proxy.latest (
	device text NOT NULL, key text NOT NULL, ts bigint NOT NULL, value text NOT NULL, PRIMARY KEY (device, key)
) WITH (fillfactor = 80);
CREATE TABLE mqtt_auth_proxy.attributes (
	device text NOT NULL, key text NOT NULL, ts bigint NOT NULL, value text NOT NULL, PRIMARY KEY (device, key)
);
` + newerTables + `CREATE TABLE mqtt_auth_proxy.unflushed (
	id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, since bigint NOT NULL
);
CREATE TABLE mqtt_auth_proxy.telemetry_format (version integer NOT NULL);
INSERT INTO mqtt_auth_proxy.telemetry_format VALUES (1);
`

// newerTables are made also among tables that are older than they are. Versions that do not know
// them leave them alone. The data of a child is in the other tables, under telemetry.ChildName.
const newerTables = `
CREATE TABLE IF NOT EXISTS mqtt_auth_proxy.shared_attributes (
	device text NOT NULL, key text NOT NULL, ts bigint NOT NULL, value text NOT NULL, PRIMARY KEY (device, key)
);
CREATE TABLE IF NOT EXISTS mqtt_auth_proxy.children (
	gateway text NOT NULL, child text NOT NULL, number bigint NOT NULL,
	device text GENERATED ALWAYS AS ('/' || gateway || '/' || number::text) STORED,
	PRIMARY KEY (gateway, child), UNIQUE (gateway, number)
);
CREATE TABLE IF NOT EXISTS mqtt_auth_proxy.usage (
	account text NOT NULL, until bigint NOT NULL, bytes bigint NOT NULL, PRIMARY KEY (account, until)
) WITH (fillfactor = 80);
`

// clock is an expression: the start of the transaction in milliseconds since 1970.
const clock = `(extract(epoch FROM now()) * 1000)::bigint`

// migrate creates the tables if they are missing, and refuses those of a newer version. It
// also notes the clock of the database.
func (s *Store) migrate(ctx context.Context, c *pgx.Conn) error {
	before := time.Now()
	var (
		made, newer bool
		now         time.Time
	)
	err := c.QueryRow(ctx, `SELECT to_regclass('mqtt_auth_proxy.telemetry_format') IS NOT NULL,
		to_regclass('mqtt_auth_proxy.shared_attributes') IS NOT NULL AND to_regclass('mqtt_auth_proxy.children') IS NOT NULL
			AND to_regclass('mqtt_auth_proxy.usage') IS NOT NULL,
		now()`).Scan(&made, &newer, &now)
	if err != nil {
		return err
	}
	s.ahead.Store(int64(now.Sub(before)))
	if !made {
		if err := create(ctx, c); err != nil {
			return fmt.Errorf("create the tables: %w", err)
		}
	}
	var version int
	if err := c.QueryRow(ctx, `SELECT version FROM mqtt_auth_proxy.telemetry_format`).Scan(&version); err != nil {
		return err
	}
	if version != schemaVersion {
		return fmt.Errorf("the tables have format %d, this version reads %d: run the version that made them, or use another database",
			version, schemaVersion)
	}
	if made && !newer {
		err := exclusively(ctx, c, func(tx pgx.Tx) error {
			_, err := tx.Exec(ctx, newerTables)
			return err
		})
		if err != nil {
			return fmt.Errorf("create the tables of this version: %w", err)
		}
	}
	return nil
}

// create makes the tables, unless another process was faster.
func create(ctx context.Context, c *pgx.Conn) error {
	return exclusively(ctx, c, func(tx pgx.Tx) error {
		var schemas, tables int
		err := tx.QueryRow(ctx, `SELECT (SELECT count(*) FROM pg_namespace WHERE nspname = 'mqtt_auth_proxy'),
			(SELECT count(*) FROM pg_class WHERE oid = to_regclass('mqtt_auth_proxy.telemetry_format'))`).Scan(&schemas, &tables)
		if err != nil || tables > 0 {
			return err
		}
		statements := schema
		if schemas == 0 {
			statements = "CREATE SCHEMA mqtt_auth_proxy;" + schema
		}
		_, err = tx.Exec(ctx, statements)
		return err
	})
}

// beginExclusive begins a transaction that changes tables. It does not wait long for locks,
// because everything that comes later waits behind it.
var beginExclusive = pgx.TxOptions{BeginQuery: "BEGIN; SET LOCAL statement_timeout = 8000; SET LOCAL lock_timeout = 2000"}

// exclusively runs f in a transaction while no other store changes tables.
func exclusively(ctx context.Context, c beginner, f func(pgx.Tx) error) error {
	return transact(ctx, c, beginExclusive, func(tx pgx.Tx) error {
		if _, err := tx.Exec(ctx, `SELECT pg_advisory_xact_lock($1)`, int64(lockID)); err != nil {
			return err
		}
		return f(tx)
	})
}

// beginner is a connection or a pool.
type beginner interface {
	BeginTx(ctx context.Context, options pgx.TxOptions) (pgx.Tx, error)
}

// transact runs f in a transaction and commits it, or rolls it back.
func transact(ctx context.Context, c beginner, options pgx.TxOptions, f func(pgx.Tx) error) error {
	tx, err := c.BeginTx(ctx, options)
	if err != nil {
		return err
	}
	if err := f(tx); err != nil {
		_ = tx.Rollback(context.WithoutCancel(ctx)) // the connection may be gone
		return err
	}
	return tx.Commit(ctx)
}
