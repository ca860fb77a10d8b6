package sqlite

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"sync/atomic"
	"time"

	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/cmd/internal/sqlitefile"
	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/cmd/internal/telemetry"
)

// CheckSpace returns an error if the file system of a database at path has fewer than minFree
// bytes left, so that a store there could not store. The database and its directory need not
// exist yet.
func CheckSpace(path string, minFree int64) error {
	return sqlitefile.CheckSpace(existingDirectory(path), minFree, nil)
}

// existingDirectory returns the directory of path, or the closest one above it that exists.
func existingDirectory(path string) string {
	dir := filepath.Dir(path)
	for {
		_, err := os.Stat(dir)
		above := filepath.Dir(dir)
		if !errors.Is(err, fs.ErrNotExist) || above == dir {
			return dir
		}
		dir = above
	}
}

func (s *Store) checkSpace() error {
	return sqlitefile.CheckSpace(s.dir, s.opts.MinFree, s.opts.free)
}

// slowCommit is how long a commit may take before the store counts as unable to write.
const slowCommit = 10 * time.Second

// health says how the last commit ended, and since when another one has been running.
type health struct {
	started atomic.Int64 // nanoseconds since 1970 when a commit began, 0 if none runs
	fault   atomic.Pointer[error]
}

func (h *health) begin() { h.started.Store(time.Now().UnixNano()) }

func (h *health) end(err error) {
	h.started.Store(0)
	if err == nil {
		h.fault.Store(nil)
	} else {
		h.fault.Store(&err)
	}
}

// Writable implements [telemetry.Store]. A store cannot store if too little disk space is left,
// if the last commit failed, or if a commit has been running for more than ten seconds.
// Writable does not wait for the database. After a failed commit the store tries again every
// five seconds, and at every append.
func (s *Store) Writable() error {
	select {
	case <-s.closing:
		return errClosed
	default:
	}
	if began := s.health.started.Load(); began != 0 {
		if d := time.Since(time.Unix(0, began)); d > slowCommit {
			return fmt.Errorf("%w: a commit has been waiting for the disk for %v", telemetry.ErrStore, d.Round(time.Second))
		}
	}
	if err := s.checkSpace(); err != nil {
		return s.explain(err)
	}
	if err := s.health.fault.Load(); err != nil {
		return s.explain(*err)
	}
	return nil
}

// probe checks whether commits work again after one has failed. It does not wait for the next
// message, because devices may be sent elsewhere in the meantime.
func (s *Store) probe() error {
	if s.health.fault.Load() == nil || s.checkSpace() != nil {
		return nil
	}
	ctx := context.Background()
	s.health.begin()
	s.health.end(s.transact(ctx, func(tx *sql.Tx) error {
		_, err := tx.ExecContext(ctx, `INSERT INTO unflushed (messages) VALUES ('[]'); DELETE FROM unflushed WHERE messages = '[]'`)
		return err
	}))
	return nil // Writable reports the outcome
}
