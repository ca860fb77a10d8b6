// Package sqlitefile opens SQLite databases in files.
//
//	if err := sqlitefile.Create(path); err != nil { ... }
//	writer, err := sqlitefile.Connect(path, "rw", 1, 5*time.Second, "journal_mode(wal)")
//	readers, err := sqlitefile.Connect(path, "ro", 4, 5*time.Second)
//
// Each store has one connection that writes and several that read. [Lock] keeps other processes
// away from its file, and [CheckSpace] finds out whether the disk has room. What is in a database,
// and to which program and version it belongs, is the store's own business.
package sqlitefile

import (
	"database/sql"
	"errors"
	"fmt"
	"net/url"
	"os"
	"time"

	"modernc.org/sqlite"
	sqlite3 "modernc.org/sqlite/lib"
)

// Create creates the file if it does not exist, with mode 0600: SQLite would make it readable by
// all. SQLite gives the files with the endings -wal and -shm the same mode.
func Create(path string) error {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return err
	}
	return f.Close()
}

// Synchronous returns the pragma that makes a commit survive what durability names: "sync", also if
// empty, the loss of power; "os" the end of the process, while a loss of power takes the last commits;
// "none" the end of the process, while a loss of power may damage the file.
func Synchronous(durability string) (pragma string, err error) {
	switch durability {
	case "", "sync":
		return "synchronous(full)", nil
	case "os":
		return "synchronous(normal)", nil
	case "none":
		return "synchronous(off)", nil
	}
	return "", fmt.Errorf("durability %q: use sync, os or none", durability)
}

// UseFdatasync makes all databases of the process sync with fdatasync, as SQLite's own builds do. It
// halves the wait on a journaling file system. A system without it goes on with fsync.
func UseFdatasync() error {
	if _, err := sqlite.Fdatasync(true); !errors.Is(err, sqlite.ErrFdatasyncUnavailable) {
		return err
	}
	return nil
}

// Close closes the readers, the writer and the lock of a store, any of which may be nil. The writer
// comes after the readers, because SQLite empties and removes the write-ahead log when the last
// connection is closed, which must be one that may write. The lock comes last.
func Close(readers, writer *sql.DB, lock *os.File) error {
	var errs []error
	for _, db := range []*sql.DB{readers, writer} {
		if db != nil {
			errs = append(errs, db.Close())
		}
	}
	if lock != nil {
		errs = append(errs, lock.Close())
	}
	return errors.Join(errs...)
}

// Connect returns a pool of at most that many connections, which connects on first use. The mode is
// one of SQLite: ro, rw, or rwc. A statement waits at most for wait, which is rounded down to
// milliseconds, while another connection holds the lock of the database. Transactions take that
// lock when they begin. The pragmas, such as "synchronous(full)", are for each connection.
func Connect(path, mode string, connections int, wait time.Duration, pragmas ...string) (*sql.DB, error) {
	pragmas = append(pragmas, fmt.Sprintf("busy_timeout(%d)", wait.Milliseconds()))
	query := url.Values{"mode": {mode}, "_txlock": {"immediate"}, "_pragma": pragmas}
	name := url.URL{Scheme: "file", Opaque: (&url.URL{Path: path}).EscapedPath(), RawQuery: query.Encode()}
	db, err := sql.Open("sqlite", name.String())
	if err != nil {
		return nil, err
	}
	db.SetMaxOpenConns(connections)
	db.SetMaxIdleConns(connections)
	return db, nil
}

// Damaged reports whether err says that the file is damaged or is no database.
func Damaged(err error) bool {
	e, ok := errors.AsType[*sqlite.Error](err)
	if !ok {
		return false
	}
	code := e.Code() & 0xff // without the extension
	return code == sqlite3.SQLITE_CORRUPT || code == sqlite3.SQLITE_NOTADB
}
