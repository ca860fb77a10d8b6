// Package sqlite keeps telemetry in one SQLite file.
//
//	store, err := sqlite.Open(ctx, sqlite.Options{Path: "telemetry.db", Retention: 720 * time.Hour})
//	...
//	err = store.Append(ctx, device, messages)
//	...
//	err = store.Close()
//
// [Store] is a telemetry.Store, which describes the meaning of its methods. The rest of this
// comment is specific to SQLite.
//
// # Durability
//
// Append and SetAttributes return nil only after the commit that holds the data. With
// durability "sync" the data then survives the loss of power, on this disk and as far as
// the disk obeys fsync; there is no replication. One goroutine writes. It commits everything
// that was queued while the previous commit ran, so that many devices share a commit and a
// single device does not wait for others. A commit writes about two database pages, 8 KB,
// a message.
//
// # Reads
//
// Reads use connections of their own and are cut into pages of 512 messages. While messages
// wait for a commit, the pages of all readers together take turns and pause between, so
// that many readers do not keep devices from being acknowledged. On two busy cores 200 devices
// without pause had 7,900 to 17,900 messages a second acknowledged, and 8,100 to 12,800 next to
// eight readers of 1,000 points; without the turns these left them 1,100 to 1,900
// (BenchmarkTelemetryWithReaders).
//
// # Failures
//
// A database that is damaged, of another program or of a newer version is never changed: Open
// fails and says what to do. Open brings a database of an older version to the present format,
// all or nothing. A full disk, an I/O error, or less free space than [Options.MinFree] fails
// appends with telemetry.ErrStore; deletions go on. [Store.Writable] reports whether the store
// can store.
package sqlite

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/cmd/internal/sqlitefile"
	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/cmd/internal/telemetry"
	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/cmd/internal/telemetry/recent"
)

var _ telemetry.Store = (*Store)(nil)

// errClosed is returned by a closed store.
var errClosed = fmt.Errorf("%w: closed", telemetry.ErrStore)

// Options configure a [Store]. Only Path is required.
type Options struct {
	// Path is the database file. It is created with mode 0600 if missing, and its directory
	// with 0700. SQLite keeps a -wal and a -shm file next to it, and the file with .lock at
	// its end holds the id of the process that has it open.
	Path string
	// Retention is how long messages are kept by their own time; 0 or less means forever.
	Retention time.Duration
	// Durability says which failures stored data survives. "sync" (also if empty): the loss of
	// power. "os": the end of the process; a loss of power takes the last commits. "none": the
	// end of the process; a loss of power may damage the file.
	Durability string
	// MinFree is how many bytes the file system must have left for appends to be accepted;
	// 0 or less means that only a full disk stops them.
	MinFree int64
	// MaxKeys is the most telemetry keys of one device, and of all devices behind a gateway
	// together; 0 means telemetry.MaxKeys.
	MaxKeys int
	// MaxBytes is how many bytes one device, or all devices behind a gateway together, may have
	// stored; 0 means telemetry.MaxBytes.
	MaxBytes int64
	// Now is the clock for retention; nil means time.Now.
	Now func() time.Time
	// OnError, if set, receives failures in the background, for which no caller waits, and
	// every panic of the writing goroutine, as a *task.Panic. The requests that the panic
	// concerns fail with telemetry.ErrStore, and the goroutine goes on. It calls OnError
	// itself, so that OnError must not block.
	OnError func(error)

	free     func(dir string) (uint64, error) // bytes left on the file system; nil asks it
	maxPages int                              // of the database; 0 is no limit
}

func (o Options) withDefaults() Options {
	if o.MaxKeys == 0 {
		o.MaxKeys = telemetry.MaxKeys
	}
	if o.MaxBytes == 0 {
		o.MaxBytes = telemetry.MaxBytes
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.OnError == nil {
		o.OnError = func(error) {}
	}
	return o
}

// Store is an open telemetry database. Its methods may be called from any number of
// goroutines.
type Store struct {
	opts    Options
	dir     string
	lock    *os.File
	db      *sql.DB // one connection, of the writing goroutine alone
	readers *sql.DB

	queue   chan *request
	closing chan struct{} // closed by Close
	done    chan struct{} // closed when the writing goroutine has ended
	close   func() error

	write    statements
	recent   recent.Values
	turns    turns
	keys     keyCounts
	usage    usage
	prune    prune
	health   health
	counters counters
}

// Open opens or creates the database at opts.Path and starts the writing goroutine, which
// [Store.Close] ends. ctx bounds Open itself only. A database has one store at a time: Open
// fails at once if another process, which the error names, or this one has it open.
func Open(ctx context.Context, opts Options) (*Store, error) {
	opts = opts.withDefaults()
	path, err := filepath.Abs(opts.Path)
	if err != nil || opts.Path == "" {
		return nil, fmt.Errorf("telemetry path %q: not a file name", opts.Path)
	}
	opts.Path = path
	s := &Store{
		opts:    opts,
		dir:     filepath.Dir(path),
		queue:   make(chan *request, queueLength),
		turns:   turns{turn: make(chan struct{}, 1)},
		closing: make(chan struct{}),
		done:    make(chan struct{}),
	}
	s.close = sync.OnceValue(s.closeAll)
	if err := s.open(ctx); err != nil {
		return nil, errors.Join(err, s.closeFiles())
	}
	go s.run()
	return s, nil
}

// Close commits what is queued, waits for the writing goroutine and closes the database.
// Calls that come later, and those that still wait for room in the queue, fail with
// telemetry.ErrStore. A second Close returns what the first did.
func (s *Store) Close() error { return s.close() }

func (s *Store) closeAll() error {
	close(s.closing)
	<-s.done
	return s.closeFiles()
}

func (s *Store) closeFiles() error { return sqlitefile.Close(s.readers, s.db, s.lock) }
