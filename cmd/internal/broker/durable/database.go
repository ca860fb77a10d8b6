package durable

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/cmd/internal/sqlitefile"
)

const (
	applicationID = 0x4d415042 // "MAPB" in the file's header
	schemaVersion = 2

	// maxReaders is how many reads run at once.
	maxReaders = 4
	// lockWait is how long a statement waits for other connections.
	lockWait = 5 * time.Second
)

// schema has the queues of all sessions in one table, in which the messages of a session lie
// together and in order. A session that has ended may leave messages behind for a while. Version 1
// had the same tables, but every message of a queue had a packet identifier.
const schema = `
CREATE TABLE sessions (
	key INTEGER PRIMARY KEY, client_id TEXT NOT NULL UNIQUE, device TEXT NOT NULL, version INTEGER NOT NULL,
	expiry INTEGER NOT NULL, away INTEGER NOT NULL, reader INTEGER NOT NULL
) STRICT;
CREATE TABLE subscriptions (
	session INTEGER NOT NULL, filter TEXT NOT NULL, qos INTEGER NOT NULL, no_local INTEGER NOT NULL,
	retain_as_published INTEGER NOT NULL, identifier INTEGER NOT NULL, PRIMARY KEY (session, filter)
) STRICT, WITHOUT ROWID;
CREATE TABLE queue (
	session INTEGER NOT NULL, seq INTEGER NOT NULL, packet_id INTEGER NOT NULL, released INTEGER NOT NULL,
	expires INTEGER NOT NULL, version INTEGER NOT NULL, message BLOB NOT NULL, PRIMARY KEY (session, seq)
) STRICT, WITHOUT ROWID;
CREATE TABLE received (
	session INTEGER NOT NULL, packet_id INTEGER NOT NULL, PRIMARY KEY (session, packet_id)
) STRICT, WITHOUT ROWID;
CREATE TABLE retained (
	topic TEXT PRIMARY KEY, device TEXT NOT NULL, origin TEXT NOT NULL, expires INTEGER NOT NULL,
	version INTEGER NOT NULL, message BLOB NOT NULL
) STRICT;
`

// statements are the prepared statements of the writing goroutine, by the kind of their step.
type statements struct {
	byKind    [forget + 1]*sql.Stmt
	ended     []*sql.Stmt // delete the small tables' rows of a session
	trim      *sql.Stmt   // deletes some messages of a session
	freePages *sql.Stmt
	vacuum    *sql.Stmt
}

func (f *File) open(ctx context.Context) error {
	synchronous, err := sqlitefile.Synchronous(f.opts.Durability)
	if err != nil {
		return fmt.Errorf("sessions: %w", err)
	}
	if err := os.MkdirAll(f.dir, 0o700); err != nil {
		return f.explain(err)
	}
	if f.lock, err = sqlitefile.Lock(f.opts.Path); err != nil {
		return f.explain(err)
	}
	if err := sqlitefile.Create(f.opts.Path); err != nil {
		return f.explain(err)
	}
	if err := sqlitefile.UseFdatasync(); err != nil {
		return f.explain(err)
	}
	if f.readers, err = sqlitefile.Connect(f.opts.Path, "ro", maxReaders, lockWait); err != nil {
		return f.explain(err)
	}
	f.db, err = sqlitefile.Connect(f.opts.Path, "rw", 1, lockWait, "auto_vacuum(incremental)", "journal_mode(wal)",
		synchronous, "wal_autocheckpoint(4000)", "journal_size_limit(33554432)", "cache_size(-8192)")
	if err != nil {
		return f.explain(err)
	}
	for _, step := range []func(context.Context) error{f.inspect, f.prepare, f.lastKey} {
		if err := step(ctx); err != nil {
			return f.explain(err)
		}
	}
	return nil
}

// inspect refuses the database of another program or of a newer version, and makes the tables of a
// new one. It looks with a reading connection, because the writing one changes the journal mode as
// soon as it connects.
func (f *File) inspect(ctx context.Context) error {
	var id, version, tables int
	err := f.readers.QueryRowContext(ctx, `SELECT (SELECT application_id FROM pragma_application_id),
		(SELECT user_version FROM pragma_user_version), (SELECT count(*) FROM sqlite_schema)`).Scan(&id, &version, &tables)
	switch {
	case err != nil:
		return err
	case id == 0 && version == 0 && tables == 0:
		return f.transact(ctx, func(tx *sql.Tx) error {
			_, err := tx.ExecContext(ctx, fmt.Sprintf("%s PRAGMA application_id = %d; PRAGMA user_version = %d", schema, applicationID, schemaVersion))
			return err
		})
	case id != applicationID:
		return errors.New("it belongs to another program: move it away")
	case version == 1:
		_, err := f.db.ExecContext(ctx, fmt.Sprintf("PRAGMA user_version = %d", schemaVersion))
		return err
	case version != schemaVersion:
		return fmt.Errorf("it has format %d, this version reads %d: run the version that made it, or move it away, which ends the sessions of devices and their retained messages",
			version, schemaVersion)
	}
	return nil
}

func (f *File) prepare(ctx context.Context) error {
	prepare := func(stmt **sql.Stmt, query string) (err error) {
		*stmt, err = f.db.PrepareContext(ctx, query)
		return err
	}
	for kind, query := range map[kind]string{
		putSession: `INSERT OR REPLACE INTO sessions VALUES (?, ?, ?, ?, ?, ?, ?) ON CONFLICT (key) DO UPDATE SET
			version = excluded.version, expiry = excluded.expiry, away = excluded.away, reader = excluded.reader`,
		deleteSession: `DELETE FROM sessions WHERE key = ?`,
		putSubscription: `INSERT INTO subscriptions VALUES (?, ?, ?, ?, ?, ?) ON CONFLICT DO UPDATE SET qos = excluded.qos,
			no_local = excluded.no_local, retain_as_published = excluded.retain_as_published, identifier = excluded.identifier`,
		deleteSubscription: `DELETE FROM subscriptions WHERE session = ? AND filter = ?`,
		enqueue:            `INSERT OR REPLACE INTO queue VALUES (?, ?, ?, 0, ?, ?, ?)`,
		setPacketID:        `UPDATE queue SET packet_id = ? WHERE session = ? AND seq = ?`,
		release:            `UPDATE queue SET released = 1, message = x'' WHERE session = ? AND seq = ?`,
		dequeue:            `DELETE FROM queue WHERE session = ? AND seq BETWEEN ? AND ?`,
		receive:            `INSERT INTO received VALUES (?, ?) ON CONFLICT DO NOTHING`,
		complete:           `DELETE FROM received WHERE session = ? AND packet_id = ?`,
		retain: `INSERT INTO retained VALUES (?, ?, ?, ?, ?, ?) ON CONFLICT DO UPDATE SET device = excluded.device,
			origin = excluded.origin, expires = excluded.expires, version = excluded.version, message = excluded.message`,
		forget: `DELETE FROM retained WHERE topic = ?`,
	} {
		if err := prepare(&f.write.byKind[kind], query); err != nil {
			return err
		}
	}
	f.write.ended = make([]*sql.Stmt, 2)
	for _, p := range []struct {
		stmt  **sql.Stmt
		query string
	}{
		{&f.write.ended[0], `DELETE FROM subscriptions WHERE session = ?`},
		{&f.write.ended[1], `DELETE FROM received WHERE session = ?`},
		{&f.write.trim, `DELETE FROM queue WHERE session = ?1 AND seq <=
			(SELECT max(seq) FROM (SELECT seq FROM queue WHERE session = ?1 ORDER BY seq LIMIT ?2))`},
		{&f.write.freePages, `PRAGMA freelist_count`},
		{&f.write.vacuum, fmt.Sprintf(`PRAGMA incremental_vacuum(%d)`, vacuumPages)},
	} {
		if err := prepare(p.stmt, p.query); err != nil {
			return err
		}
	}
	return nil
}

// lastKey finds the largest key in use.
func (f *File) lastKey(ctx context.Context) error {
	var last int64
	err := f.readers.QueryRowContext(ctx, `SELECT max(coalesce((SELECT max(key) FROM sessions), 0), coalesce((SELECT max(session) FROM queue), 0))`).Scan(&last)
	f.nextKey.Store(last)
	return err
}

// transact runs do in a transaction and commits it, or rolls it back.
func (f *File) transact(ctx context.Context, do func(*sql.Tx) error) error {
	tx, err := f.db.BeginTx(ctx, nil)
	if err != nil {
		return err
	}
	// This also ends the transaction after a panic. It fails after Commit, and on a full disk, where
	// SQLite has already rolled back.
	defer func() { _ = tx.Rollback() }()
	if err := do(tx); err != nil {
		return err
	}
	return tx.Commit()
}

func (f *File) checkSpace() error {
	return sqlitefile.CheckSpace(f.dir, f.opts.MinFree, f.opts.Free)
}

// Scarce reports whether the file system has so little space left, less than twice
// [Options.MinFree], that what can be given up should not take more of it.
func (f *File) Scarce() bool {
	return sqlitefile.CheckSpace(f.dir, 2*f.opts.MinFree, f.opts.Free) != nil
}

// explain wraps an error of the database so that the reader knows the file and, if it is damaged,
// what to do. It returns nil for nil.
func (f *File) explain(err error) error {
	if err == nil {
		return nil
	}
	if errors.Is(err, errMalformed) || sqlitefile.Damaged(err) {
		return fmt.Errorf("%s is damaged: stop the proxy, restore a backup, or move the file with its -wal and -shm files away, which ends the sessions of devices and their retained messages, and start again: %w",
			f.opts.Path, err)
	}
	return fmt.Errorf("%s: %w", f.opts.Path, err)
}
