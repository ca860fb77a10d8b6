// Package telemetry stores what devices publish to the bundled broker and
// answers what users ask about it.
//
//	store, err := telemetry.Open(ctx, telemetry.Options{Path: "telemetry.db", Retention: 720 * time.Hour})
//	...
//	err = store.Telemetry(ctx, device, packet.Payload)  // v1/devices/me/telemetry
//	err = store.Attributes(ctx, device, packet.Payload) // v1/devices/me/attributes
//	...
//	mux.Handle("/api/plugins/telemetry/", telemetry.Handler(store))
//	...
//	err = store.Close()
//
// A device is named by any non-empty text. Payloads and their types are those
// of package payload. The package knows neither MQTT nor who may ask: callers
// authenticate devices and readers.
//
// # Durability
//
// Telemetry, Append and Attributes return nil only after the commit that holds
// the data. With durability "sync" it then survives the loss of power, on this
// disk and as far as the disk obeys fsync; there is no replication. One
// goroutine writes. It commits everything that was queued while the previous
// commit ran, so that many devices share a commit and a single device does not
// wait for others. A commit writes about two database pages, 8 KB, a message.
//
// An error is a [*PayloadError], which is permanent, or wraps [ErrStore],
// after which the same call may succeed later: a full disk, an I/O error, less
// free space than Options.MinFree, a closed store. Nothing of a failed call is
// stored, except that one given up by its context may yet be.
//
// # What is kept
//
// A message without a ts gets the time of arrival and never replaces another one,
// however many arrive in a millisecond; they are numbered in order of arrival. A
// message with a ts replaces values of the same ts key by key, so that it may be
// sent again. Besides the messages the newest value of each key is kept, the last
// one to arrive if several have the same time, and the attributes. A device has at
// most 10,000 keys and 1000 attributes; a payload that would add one more is
// refused.
//
// A ts that lies more than a day ahead of the clock is replaced by the time of
// arrival, or with Options.StrictJSON refused; it would otherwise stay the newest
// one for years. A clock that shows a year before 2025 has not been set and
// bounds nothing.
//
// With Options.Retention set, messages and newest values whose own time lies
// further back are deleted in the background, a few at a time, and so are those
// that lie further ahead than that, and than a day. It is the message's time
// that counts: what a device sends with an old ts goes with the next round.
// Attributes stay.
//
// # Failures
//
// A database that is damaged, of another program or of a newer version is
// never touched: Open fails and says what to do. One of an older version is
// brought to the present format by Open, all or nothing. Options.MinFree keeps room on
// the disk for others; below it appends fail and deletions go on. [Store.Writable]
// says whether the store can store, for readiness; what was mended counts by itself.
package telemetry

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/cmd/internal/telemetry/payload"
)

// PayloadError says why a payload was refused. It is permanent, and it never
// quotes the payload.
type PayloadError = payload.Error

// ErrStore is wrapped by every error for which the store and not the payload
// is the cause. Appending again later may succeed.
var ErrStore = errors.New("telemetry store")

// errClosed is what a closed store answers.
var errClosed = fmt.Errorf("%w: closed", ErrStore)

// Options configure a [Store]. Only Path is required.
type Options struct {
	// Path is the database file. It is created with mode 0600 if missing, and
	// its directory with 0700. SQLite keeps a -wal and a -shm file next to it, and
	// the file with .lock at its end holds the id of the process that has it open.
	Path string
	// Retention is how long messages are kept by their own time; 0 or less is for ever.
	Retention time.Duration
	// Durability is what stored data survives. "sync" (also if empty): the loss
	// of power. "os": the end of the process; a loss of power takes the last
	// commits. "none": the end of the process; a loss of power may damage the file.
	Durability string
	// StrictJSON refuses what is not RFC 8259 and casts nothing.
	StrictJSON bool
	// MaxPayload is the longest payload in bytes, and how large a stored message may
	// become by those that add to it; 0 means 1 MiB.
	MaxPayload int
	// MaxValues bounds the JSON values in one payload; 0 means 20,000.
	MaxValues int
	// MinFree is how many bytes the file system must have left for appends to
	// be taken; 0 or less means that only a full disk stops them.
	MinFree int64
	// Now is the clock for messages without a ts and for retention; nil means time.Now.
	Now func() time.Time
	// OnError, if set, is told of failures in the background, which no caller
	// waits for. It is called from the writing goroutine and must not block.
	OnError func(error)

	free     func(dir string) (uint64, error) // bytes left on the file system
	maxPages int                              // of the database; 0 is no limit
	maxKeys  int                              // of one device; 0 is maxKeys
}

const defaultMaxPayload = 1 << 20

func (o Options) withDefaults() Options {
	if o.MaxPayload == 0 {
		o.MaxPayload = defaultMaxPayload
	}
	if o.maxKeys == 0 {
		o.maxKeys = maxKeys
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.OnError == nil {
		o.OnError = func(error) {}
	}
	if o.free == nil {
		o.free = freeSpace
	}
	return o
}

// Store is an open telemetry database. Its methods may be called from any
// number of goroutines.
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
	recent   recent
	keys     keyCounts
	prune    prune
	health   health
	counters counters
}

// Open opens or creates the database at opts.Path and starts the writing
// goroutine, which [Store.Close] ends. ctx bounds Open itself only. A database has
// one store at a time: Open fails at once if another process, which the error
// names, or this one has it open.
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

// Close commits what is queued, waits for the writing goroutine and closes the
// database. Calls that come later, and those that still wait for room in the
// queue, fail with [ErrStore]. A second Close returns what the first did.
func (s *Store) Close() error { return s.close() }

func (s *Store) closeAll() error {
	close(s.closing)
	<-s.done
	return s.closeFiles()
}

// closeFiles closes the readers first: SQLite empties and removes the write-ahead
// log when the last connection goes, which must be one that may write. The lock
// goes last.
func (s *Store) closeFiles() error {
	var errs []error
	for _, db := range []*sql.DB{s.readers, s.db} {
		if db != nil {
			errs = append(errs, db.Close())
		}
	}
	if s.lock != nil {
		errs = append(errs, s.lock.Close())
	}
	return errors.Join(errs...)
}

func (s *Store) parseOptions() payload.Options {
	return payload.Options{Strict: s.opts.StrictJSON, MaxBytes: s.opts.MaxPayload, MaxValues: s.opts.MaxValues}
}
