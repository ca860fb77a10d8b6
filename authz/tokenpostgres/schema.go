package tokenpostgres

import (
	"context"
	_ "embed"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/authz/pgdsn"
)

// SchemaVersion is the version of the schema that [Migrate] makes. A [Source] without a query and a
// [Table] need this version, or a newer one whose tables say that programs of this version can use
// them.
const SchemaVersion = 4

// SchemaChannel is the channel on which the triggers of the schema notify.
const SchemaChannel = "mqtt_auth_proxy"

// ErrSchema means that a database does not have the schema in the version that is needed.
var ErrSchema = errors.New("the schema in the database")

// schemaRows returns what a grant is made from.
const schemaRows = `SELECT token_sha256 IS NOT NULL AS by_token, token_id, subject, password_hash, disabled, expires_at, not_before,
	client_ids, usernames, certificates, cidrs, acl, acl_no_match, is_superuser, role, gateway, limits, attrs,
	upstream_username, upstream_password, upstream_client_id
	FROM mqtt_auth_proxy.tokens`

// schemaQuery finds a token by its digest or else a user by the name. A row is one or the other.
const schemaQuery = schemaRows + ` WHERE token_sha256 = @token_sha256 OR username = @username
	ORDER BY token_sha256 IS NULL LIMIT 1`

var (
	//go:embed schema-1.sql
	schema1 string
	//go:embed schema-2.sql
	schema2 string
	//go:embed schema-3.sql
	schema3 string
	//go:embed schema-4.sql
	schema4 string
)

// migrations returns the statements that lead from each version to the next, from version 0, which
// is no schema.
func migrations() []string { return []string{schema1, schema2, schema3, schema4} }

// schemaLock is the number of the advisory lock under which the schema is changed.
const schemaLock = 0x6d717474

// Migrate brings the schema in the database of the connection string to [SchemaVersion]. It
// returns the version before, 0 for none. It changes everything or nothing, and does nothing if
// the version is right. A newer version is an error that is [ErrSchema].
func Migrate(ctx context.Context, dsnFile string) (before int, err error) {
	dsn, err := pgdsn.Open(dsnFile)
	if err != nil {
		return 0, err
	}
	conn, err := pgx.ConnectConfig(ctx, dsn.Config())
	if err != nil {
		return 0, fmt.Errorf("database: %w", connectFault(err))
	}
	defer func() { _ = conn.Close(context.WithoutCancel(ctx)) }()
	statements := func(sql string) error {
		_, err := conn.PgConn().Exec(ctx, sql).ReadAll()
		if refused, ok := errors.AsType[*pgconn.PgError](err); ok { // no statement has a value
			return fmt.Errorf("database: the server says: %s (SQLSTATE %s)", refused.Message, refused.Code)
		} else if err != nil {
			return fmt.Errorf("database: %w", queryError(ctx, err))
		}
		return nil
	}
	if err := statements("BEGIN; SELECT pg_advisory_xact_lock(" + strconv.Itoa(schemaLock) + ")"); err != nil {
		return 0, err
	}
	found, err := readVersion(ctx, conn)
	if err != nil {
		return 0, fmt.Errorf("database: %w", err)
	}
	if before = found.Version; before > SchemaVersion {
		return before, newerVersion(before)
	}
	for _, migration := range migrations()[before:] {
		if err := statements(migration); err != nil {
			return before, err
		}
	}
	return before, statements("COMMIT")
}

// version is what the schema says about itself. A version 1 has no usable_from.
type version struct {
	Version    int `json:"version"`
	UsableFrom int `json:"usable_from"`
}

// readVersion returns the version of the schema, zero if there is none.
func readVersion(ctx context.Context, conn *pgx.Conn) (v version, err error) {
	read := func(sql string) (string, error) {
		results, err := conn.PgConn().Exec(ctx, sql).ReadAll()
		if err != nil {
			return "", queryError(ctx, err)
		}
		if len(results) != 1 || len(results[0].Rows) != 1 {
			return "", fmt.Errorf("%w has not exactly one version", ErrSchema)
		}
		return string(results[0].Rows[0][0]), nil
	}
	if there, err := read("SELECT to_regclass('mqtt_auth_proxy.version') IS NOT NULL"); err != nil || there != "t" {
		return v, err
	}
	text, err := read("SELECT to_json(v) FROM mqtt_auth_proxy.version v")
	if err != nil {
		return v, err
	}
	if err := json.Unmarshal([]byte(text), &v); err != nil {
		return v, fmt.Errorf("%w has no version that could be read", ErrSchema)
	}
	return v, nil
}

// checkVersion returns an error if the database has no schema that this program can use.
func checkVersion(ctx context.Context, conn *pgx.Conn) error {
	v, err := readVersion(ctx, conn)
	switch {
	case err != nil:
		return err
	case v.Version == 0:
		return fmt.Errorf("%w is missing", ErrSchema)
	case v.Version < SchemaVersion:
		return fmt.Errorf("%w has version %d, which is older than %d", ErrSchema, v.Version, SchemaVersion)
	case v.UsableFrom > SchemaVersion:
		return newerVersion(v.Version)
	}
	return nil
}

// newerVersion returns the error for a version that this program does not know.
func newerVersion(version int) error {
	return fmt.Errorf("%w has version %d, which is newer than %d: a newer version of the program has made it", ErrSchema, version, SchemaVersion)
}
