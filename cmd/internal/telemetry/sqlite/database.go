package sqlite

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/cmd/internal/sqlitefile"
	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/cmd/internal/telemetry"
)

const (
	applicationID = 0x4d415054 // "MAPT" in the file's header
	schemaVersion = 2
)

// telemetryTable numbers the messages of one millisecond from 0, in order of arrival.
const telemetryTable = `
CREATE TABLE telemetry (
	device TEXT NOT NULL, ts INTEGER NOT NULL, n INTEGER NOT NULL, data TEXT NOT NULL, PRIMARY KEY (device, ts, n)
) STRICT, WITHOUT ROWID;
`

// schema holds values as JSON text, which distinguishes 1, 1.0, "1" and true. Each message is
// written to telemetry only. latest is updated later; for each commit, unflushed names the
// messages that are not in latest yet. A row of latest with the value null belongs to a key without
// a newest value, of which there may be messages up to ts.
const schema = telemetryTable + `
CREATE TABLE latest (
	device TEXT NOT NULL, key TEXT NOT NULL, ts INTEGER NOT NULL, value TEXT NOT NULL, PRIMARY KEY (device, key)
) STRICT, WITHOUT ROWID;
CREATE TABLE attributes (
	device TEXT NOT NULL, key TEXT NOT NULL, ts INTEGER NOT NULL, value TEXT NOT NULL, PRIMARY KEY (device, key)
) STRICT, WITHOUT ROWID;
CREATE TABLE unflushed (
	id INTEGER PRIMARY KEY, messages TEXT NOT NULL
) STRICT;
`

// numberMessages converts format 1, which had one row for a device and a millisecond, to
// format 2.
const numberMessages = `
ALTER TABLE telemetry RENAME TO unnumbered;
` + telemetryTable + `
INSERT INTO telemetry SELECT device, ts, 0, data FROM unnumbered;
DROP TABLE unnumbered;
`

// newerTables are made also in a database that is older than they are. Versions that do not know
// them leave them alone. The data of a child is in the other tables, under telemetry.ChildName.
const newerTables = `
CREATE TABLE IF NOT EXISTS shared_attributes (
	device TEXT NOT NULL, key TEXT NOT NULL, ts INTEGER NOT NULL, value TEXT NOT NULL, PRIMARY KEY (device, key)
) STRICT, WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS children (
	gateway TEXT NOT NULL, child TEXT NOT NULL, number INTEGER NOT NULL, PRIMARY KEY (gateway, child), UNIQUE (gateway, number)
) STRICT, WITHOUT ROWID;
`

// attributeStatements are those for the attributes of one scope.
type attributeStatements struct{ keys, set, forget *sql.Stmt }

// attributes returns the statements for a scope.
func (s *statements) attributes(scope telemetry.Scope) attributeStatements {
	if scope == telemetry.SharedScope {
		return s.shared
	}
	return s.client
}

// attributeTable returns the table of a scope.
func attributeTable(scope telemetry.Scope) string {
	if scope == telemetry.SharedScope {
		return "shared_attributes"
	}
	return "attributes"
}

// statements are the prepared statements of the writing goroutine.
type statements struct {
	insert, insertNext      *sql.Stmt // telemetry
	get, update             *sql.Stmt // telemetry
	note, latest, flushed   *sql.Stmt // unflushed and latest
	client, shared          attributeStatements
	nextDevice, pruneOld    *sql.Stmt
	pruneLatest             *sql.Stmt
	pruneAhead, latestAhead *sql.Stmt
	forget, newest          *sql.Stmt
	timeOf, setLatest       *sql.Stmt // of a key in latest
	deleteAt                *sql.Stmt // telemetry of one time
	countKeys, hasKey       *sql.Stmt
	countFamily             *sql.Stmt
	usageOf, changeUsage    *sql.Stmt
	endUsage, hasMessages   *sql.Stmt
	attributeBytes          *sql.Stmt
	countChildren, child    *sql.Stmt
	addChild, taken         *sql.Stmt
	freePages, pages, empty *sql.Stmt
}

func (s *Store) open(ctx context.Context) error {
	synchronous, err := sqlitefile.Synchronous(s.opts.Durability)
	if err != nil {
		return fmt.Errorf("telemetry %w", err)
	}
	if err := os.MkdirAll(s.dir, 0o700); err != nil {
		return fmt.Errorf("telemetry database: %w", err)
	}
	if s.lock, err = sqlitefile.Lock(s.opts.Path); err != nil {
		return s.explain(err)
	}
	if err := sqlitefile.Create(s.opts.Path); err != nil {
		return fmt.Errorf("telemetry database: %w", err)
	}
	if err := sqlitefile.UseFdatasync(); err != nil {
		return fmt.Errorf("telemetry database: %w", err)
	}
	pragmas := []string{
		"auto_vacuum(incremental)", "journal_mode(wal)", synchronous,
		"wal_autocheckpoint(4000)", "journal_size_limit(33554432)", "cache_size(-16384)",
	}
	if s.opts.maxPages > 0 {
		pragmas = append(pragmas, fmt.Sprintf("max_page_count(%d)", s.opts.maxPages))
	}
	if s.db, err = sqlitefile.Connect(s.opts.Path, "rw", 1, lockWait, pragmas...); err != nil {
		return s.explain(err)
	}
	if s.readers, err = sqlitefile.Connect(s.opts.Path, "ro", maxReaders, lockWait); err != nil {
		return s.explain(err)
	}
	for _, step := range []func(context.Context) error{s.inspect, s.create, s.createNewer, s.measure, s.prepare, s.replay} {
		if err := step(ctx); err != nil {
			return s.explain(err)
		}
	}
	return nil
}

const (
	// maxReaders is how many reads run at once.
	maxReaders = 4
	// lockWait is how long a statement waits for other connections.
	lockWait = 5 * time.Second
)

// inspect refuses the database of another program or of a newer version. It uses a reading
// connection, because the writing one changes the journal mode as soon as it connects.
func (s *Store) inspect(ctx context.Context) error {
	id, version, tables, err := s.identity(ctx)
	switch {
	case err != nil:
		return err
	case id == 0 && version == 0 && tables == 0:
		return nil // new
	case id != applicationID:
		return errors.New("it belongs to another program: choose another file")
	case version < 1 || version > schemaVersion:
		return fmt.Errorf("it has format %d, this version reads %d: run the version that made it, or choose another file",
			version, schemaVersion)
	}
	return nil
}

func (s *Store) identity(ctx context.Context) (id, version, tables int, err error) {
	err = s.readers.QueryRowContext(ctx, `SELECT (SELECT application_id FROM pragma_application_id),
		(SELECT user_version FROM pragma_user_version), (SELECT count(*) FROM sqlite_schema)`).Scan(&id, &version, &tables)
	return id, version, tables, err
}

// create makes the tables of a new database, or converts an older one to the present format,
// all or nothing.
func (s *Store) create(ctx context.Context) error {
	_, version, _, err := s.identity(ctx)
	if err != nil || version == schemaVersion {
		return err
	}
	statements := schema
	if version == 1 {
		statements = numberMessages
	}
	err = s.transact(ctx, func(tx *sql.Tx) error {
		_, err := tx.ExecContext(ctx, fmt.Sprintf("%s PRAGMA application_id = %d; PRAGMA user_version = %d",
			statements, applicationID, schemaVersion))
		return err
	})
	if err != nil && version > 0 {
		return fmt.Errorf("it has format %d and could not be brought to format %d, which for a while takes as much disk space again as the file has: %w",
			version, schemaVersion, err)
	}
	return err
}

// createNewer makes the newer tables. In a database that has them it writes nothing.
func (s *Store) createNewer(ctx context.Context) error {
	_, err := s.db.ExecContext(ctx, newerTables)
	return err
}

func (s *Store) prepare(ctx context.Context) error {
	for _, p := range []struct {
		stmt  **sql.Stmt
		query string
	}{
		{&s.write.insert, `INSERT INTO telemetry (device, ts, n, data) VALUES (?, ?, 0, ?) ON CONFLICT DO NOTHING`},
		{&s.write.insertNext, `INSERT INTO telemetry (device, ts, n, data)
			SELECT ?1, ?2, max(n) + 1, ?3 FROM telemetry WHERE device = ?1 AND ts = ?2`},
		{&s.write.get, `SELECT n, data FROM telemetry WHERE device = ? AND ts = ? ORDER BY n DESC LIMIT ?`},
		{&s.write.update, `UPDATE telemetry SET data = ?4 WHERE device = ?1 AND ts = ?2 AND n = ?3`},
		{&s.write.note, `INSERT INTO unflushed (messages) VALUES (?)`},
		{&s.write.latest, `INSERT INTO latest (device, key, ts, value) VALUES (?, ?, ?, ?)
			ON CONFLICT DO UPDATE SET ts = excluded.ts, value = excluded.value WHERE excluded.ts >= latest.ts`},
		{&s.write.flushed, `DELETE FROM unflushed`},
		{&s.write.client.keys, `SELECT key, octet_length(value) FROM attributes WHERE device = ?`},
		{&s.write.client.set, `INSERT INTO attributes (device, key, ts, value) VALUES (?, ?, ?, ?)
			ON CONFLICT DO UPDATE SET ts = excluded.ts, value = excluded.value`},
		{&s.write.client.forget, `DELETE FROM attributes WHERE device = ? AND key = ? RETURNING octet_length(value)`},
		{&s.write.shared.keys, `SELECT key, octet_length(value) FROM shared_attributes WHERE device = ?`},
		{&s.write.shared.set, `INSERT INTO shared_attributes (device, key, ts, value) VALUES (?, ?, ?, ?)
			ON CONFLICT DO UPDATE SET ts = excluded.ts, value = excluded.value`},
		{&s.write.shared.forget, `DELETE FROM shared_attributes WHERE device = ? AND key = ? RETURNING octet_length(value)`},
		{&s.write.nextDevice, `SELECT device FROM latest WHERE device > ? ORDER BY device LIMIT 1`},
		{&s.write.pruneOld, `DELETE FROM telemetry WHERE device = ?1 AND ts < ?2 AND ts <=
			(SELECT max(ts) FROM (SELECT ts FROM telemetry WHERE device = ?1 AND ts < ?2 ORDER BY ts LIMIT ?3))
			RETURNING octet_length(data)`},
		{&s.write.pruneLatest, `DELETE FROM latest WHERE device = ? AND ts < ?`},
		{&s.write.pruneAhead, `DELETE FROM telemetry WHERE device = ?1 AND ts > ?2 AND ts >=
			(SELECT min(ts) FROM (SELECT ts FROM telemetry WHERE device = ?1 AND ts > ?2 ORDER BY ts DESC LIMIT ?3))
			RETURNING octet_length(data)`},
		{&s.write.latestAhead, `SELECT key FROM latest WHERE device = ? AND ts > ?`},
		{&s.write.forget, `DELETE FROM latest WHERE device = ? AND key = ?`},
		{&s.write.newest, `SELECT ts, data FROM telemetry WHERE device = ? ORDER BY ts DESC, n DESC LIMIT ?`},
		{&s.write.timeOf, `SELECT ts FROM latest WHERE device = ? AND key = ?`},
		{&s.write.setLatest, `UPDATE latest SET ts = ?3, value = ?4 WHERE device = ?1 AND key = ?2`},
		{&s.write.deleteAt, `DELETE FROM telemetry WHERE device = ? AND ts = ?`},
		{&s.write.countKeys, `SELECT count(*) FROM latest WHERE device = ?`},
		{&s.write.countFamily, `SELECT count(*) FROM latest WHERE device > ? AND device < ?`}, // "0" follows "/"
		{&s.write.hasKey, `SELECT 1 FROM latest WHERE device = ? AND key = ?`},
		{&s.write.usageOf, `SELECT bytes FROM usage WHERE account = ?`},
		{&s.write.changeUsage, `INSERT INTO usage (account, bytes) VALUES (?, ?)
			ON CONFLICT DO UPDATE SET bytes = bytes + excluded.bytes`},
		{&s.write.endUsage, `DELETE FROM usage WHERE account = ? AND bytes = 0`},
		{&s.write.hasMessages, `SELECT EXISTS (SELECT 1 FROM telemetry WHERE device BETWEEN ? AND ?)`},
		{&s.write.attributeBytes, `SELECT coalesce(sum(octet_length(key) + octet_length(value) + ?3), 0) FROM attributes
			WHERE device BETWEEN ?1 AND ?2`},
		{&s.write.countChildren, `SELECT count(*), coalesce(max(number), 0) FROM children WHERE gateway = ?`},
		{&s.write.child, `SELECT number FROM children WHERE gateway = ? AND child = ?`},
		{&s.write.addChild, `INSERT INTO children (gateway, child, number) VALUES (?, ?, ?)`},
		{&s.write.taken, `SELECT EXISTS (SELECT 1 FROM latest WHERE device = ?1) OR EXISTS (SELECT 1 FROM attributes WHERE device = ?1)
			OR EXISTS (SELECT 1 FROM shared_attributes WHERE device = ?1)`},
		{&s.write.freePages, `PRAGMA freelist_count`},
		{&s.write.pages, `PRAGMA page_count`},
		{&s.write.empty, fmt.Sprintf(`PRAGMA incremental_vacuum(%d)`, vacuumPages)},
	} {
		var err error
		if *p.stmt, err = s.db.PrepareContext(ctx, p.query); err != nil {
			return err
		}
	}
	return nil
}

// transact runs f in a transaction and commits it, or rolls it back.
func (s *Store) transact(ctx context.Context, f func(*sql.Tx) error) error {
	tx, err := s.db.BeginTx(ctx, nil)
	if err != nil {
		return err
	}
	// This also ends the transaction after a panic. It fails after Commit, and on a full disk,
	// where SQLite has already rolled back.
	defer func() { _ = tx.Rollback() }()
	if err := f(tx); err != nil {
		return err
	}
	return tx.Commit()
}

// errDamaged is wrapped by errors about rows that this package does not write.
var errDamaged = errors.New("stored data is malformed")

// damaged does not wrap err, which would look like a refused payload.
func damaged(err error) error { return fmt.Errorf("%w: %s", errDamaged, err.Error()) }

// explain wraps an error of the database so that the reader knows the file and, if it is
// damaged, what to do. It returns nil for nil.
func (s *Store) explain(err error) error {
	if err == nil {
		return nil
	}
	if errors.Is(err, errDamaged) || sqlitefile.Damaged(err) {
		return fmt.Errorf("%w: %s is damaged: stop the proxy, move the file with its -wal and -shm files away or restore a backup, start again: %w",
			telemetry.ErrStore, s.opts.Path, err)
	}
	return fmt.Errorf("%w: %s: %w", telemetry.ErrStore, s.opts.Path, err)
}

// eachRow calls f for every row and closes rows.
func eachRow(rows *sql.Rows, f func() error) error {
	defer rows.Close()
	for rows.Next() {
		if err := f(); err != nil {
			return err
		}
	}
	return rows.Err()
}
