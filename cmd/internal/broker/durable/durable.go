// Package durable keeps the sessions and the retained messages of the bundled broker in an SQLite
// file, so that they survive the end of the process.
//
//	file, err := durable.Open(ctx, durable.Options{Path: "sessions.db"})
//	...
//	sessions, err := file.Sessions(ctx) // what the process before has left
//	...
//	var (
//		c durable.Change
//		r durable.Receipt
//	)
//	c.Enqueue(key, durable.Queued{Seq: 1, Message: m})
//	file.Submit(&c, &r)
//	err = r.Wait(ctx) // the message is durable
//	...
//	err = file.Close()
//
// The package knows no MQTT: a message is a sequence of bytes with a few facts about it. What is in
// memory is authoritative while the process runs, and changes keep the file up to date. The end of a
// queue, messages without packet identifiers, may be in the file alone: then [File.Queue] reads it
// piece by piece, after [File.Sync].
//
// # Changes
//
// A [Change] is a list of steps that become durable together, or not at all. One goroutine writes.
// It commits all changes that were submitted while the previous commit ran, in their order, so that
// many connections share a commit. A change without a receipt, such as the removal of a message
// that was acknowledged, is committed with the next one, or after [lazyWait]. A commit with
// durability "sync" costs one fdatasync. With 100 goroutines that each wait for a message to be added
// and then remove it, two processors do that 22,000 times a second, and 45,000 times with "os"
// (BenchmarkEnqueue).
//
// # Failures
//
// If a commit fails, the messages and handshakes that it adds are forgotten, because their senders
// get an error and send them again. Its other steps repeat what is already true in memory, so they
// are kept for the next commit, which is tried every second. While less space than
// [Options.MinFree] is free, a change that adds something fails, and others are committed.
// [File.Writable] says whether changes can be committed, and [File.Scarce] whether space runs low.
//
// A file that is damaged, of another program or of a newer version is never changed: Open fails and
// says what to do.
package durable

import (
	"cmp"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/cmd/internal/sqlitefile"
)

// errClosed is returned by a closed file.
var errClosed = errors.New("the file of the sessions is closed")

// Options configure a [File]. Only Path is required.
type Options struct {
	// Path is the database file. It is created with mode 0600 if missing, and its directory with
	// 0700. SQLite keeps a -wal and a -shm file next to it, and the file with .lock at its end holds
	// the id of the process that has it open.
	Path string
	// Durability says which failures a committed change survives. "sync" (also if empty): the loss of
	// power. "os": the end of the process; a loss of power takes the last commits. "none": the end
	// of the process; a loss of power may damage the file.
	Durability string
	// MinFree is how many bytes the file system must have left for something to be added; 0 or
	// less means that only a full disk stops it.
	MinFree int64
	// Free returns how many bytes the file system of a directory has left; nil asks the system.
	Free func(dir string) (uint64, error)
	// OnError, if set, receives the first of several commits in a row that failed, and every panic of
	// the writing goroutine, as a *task.Panic. That goroutine calls it, so it must not block.
	OnError func(error)

	upkeep time.Duration // retryEvery if 0
}

// File is an open file. Its methods may be called from any number of goroutines.
type File struct {
	opts    Options
	dir     string
	lock    *os.File
	db      *sql.DB // one connection, of the writing goroutine alone
	readers *sql.DB
	write   statements

	wake    chan struct{}
	closing chan struct{}
	done    chan struct{} // closed when the writing goroutine has ended
	close   func() error

	mu      sync.Mutex
	pending []*Change
	closed  bool

	nextKey atomic.Int64
	kept    []*Change // of failed commits; the writing goroutine owns it
	orphans []int64   // keys of ended sessions whose queues are not deleted yet; likewise
	shrinks bool      // pages have been given back that are still in the log; likewise
	failed  bool      // the last commit failed and was reported; likewise
	health  health
	commits atomic.Int64
}

// Open opens or creates the file at opts.Path and starts the writing goroutine, which [File.Close]
// ends. ctx bounds Open itself only. It fails at once if another process, which the error names, or
// this one has the file open.
func Open(ctx context.Context, opts Options) (*File, error) {
	path, err := filepath.Abs(opts.Path)
	if err != nil || opts.Path == "" {
		return nil, fmt.Errorf("path of the sessions %q: not a file name", opts.Path)
	}
	opts.Path = path
	if opts.OnError == nil {
		opts.OnError = func(error) {}
	}
	opts.upkeep = cmp.Or(opts.upkeep, retryEvery)
	f := &File{
		opts: opts, dir: filepath.Dir(path),
		wake: make(chan struct{}, 1), closing: make(chan struct{}), done: make(chan struct{}),
	}
	f.close = sync.OnceValue(f.closeAll)
	if err := f.open(ctx); err != nil {
		return nil, errors.Join(err, f.closeFiles())
	}
	go f.run()
	return f, nil
}

// Close commits what was submitted, waits for the writing goroutine and closes the file. Changes
// that come later fail. A second Close returns what the first did.
func (f *File) Close() error { return f.close() }

func (f *File) closeAll() error {
	f.mu.Lock()
	f.closed = true
	f.mu.Unlock()
	close(f.closing)
	<-f.done
	return f.closeFiles()
}

func (f *File) closeFiles() error { return sqlitefile.Close(f.readers, f.db, f.lock) }

// NewKey returns a key for a new session, which no session of this file has had.
func (f *File) NewKey() int64 { return f.nextKey.Add(1) }

// Stats are totals since the file was opened, except where noted.
type Stats struct {
	Commits int64 // that succeeded
	Bytes   int64 // size of the file and its log now
}

// Stats returns the current figures, without waiting for the database.
func (f *File) Stats() Stats {
	s := Stats{Commits: f.commits.Load()}
	for _, end := range []string{"", "-wal"} {
		if info, err := os.Stat(f.opts.Path + end); err == nil {
			s.Bytes += info.Size()
		}
	}
	return s
}

// slowCommit is how long a commit may take before the file counts as not writable.
const slowCommit = 10 * time.Second

// health says how the last commit ended, and since when another one has been running.
type health struct {
	started atomic.Int64 // nanoseconds since 1970 when a commit began, 0 if none runs
	fault   atomic.Pointer[error]
}

// Writable returns nil while changes can be committed, and otherwise why they cannot: too little
// disk space is left, the last commit failed, or one has been running for more than ten seconds. It
// does not wait for the database.
func (f *File) Writable() error {
	select {
	case <-f.closing:
		return errClosed
	default:
	}
	if began := f.health.started.Load(); began != 0 {
		if d := time.Since(time.Unix(0, began)); d > slowCommit {
			return f.explain(fmt.Errorf("a commit has been waiting for the disk for %v", d.Round(time.Second)))
		}
	}
	if err := f.checkSpace(); err != nil {
		return f.explain(err)
	}
	if err := f.health.fault.Load(); err != nil {
		return *err
	}
	return nil
}
