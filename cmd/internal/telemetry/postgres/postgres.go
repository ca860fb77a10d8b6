// Package postgres keeps telemetry in a PostgreSQL database, which several proxies may share.
//
//	store, err := postgres.Open(ctx, postgres.Options{DSNFile: "dsn", Retention: 720 * time.Hour})
//	...
//	err = store.Append(ctx, device, messages)
//	...
//	err = store.Close()
//
// [Store] is a telemetry.Store, which describes the meaning of its methods. The rest of this
// comment is specific to PostgreSQL.
//
// # Tables
//
// All tables are in the schema mqtt_auth_proxy, which the store creates and brings up to date
// under an advisory lock. The table telemetry has one row for each message, with the values as
// a JSON object in text, and is partitioned by ts. Partitions are made when the first message
// of their time comes, under the same lock. Messages outside of the time that partitions cover
// are in the default partition.
//
// # Writing
//
// Append and SetAttributes return nil only after the commit that holds the data. A device always
// has the same of the writing connections. Each connection commits, as one group, what was queued
// while it committed the group before. A group is one INSERT of arrays, which takes half the time
// of COPY into a temporary table. If a row of a group exists already, the INSERT fails. The group
// is then stored in a transaction that locks the existing rows, merges the new values into them,
// and inserts the rest with ON CONFLICT DO NOTHING. For some seconds the connection stores all
// groups in that way.
//
// The table latest, the newest values, is written every two seconds. Until then they are in
// memory, where readers of the same store see them; readers of other stores see them later. A
// row of the table unflushed says since when a connection has stored messages that latest may
// not have. If the process is killed, the next process that starts, or another one after some
// seconds, finds the row and brings latest up to date.
//
// # Failures
//
// Open succeeds whether the database can be reached or not. While it cannot, calls wait in the
// queue until their context ends, and the connections try again, at most a few seconds apart. If
// the commit of a group was sent but not answered, the store finds out whether it took effect
// before it stores the group again. Errors that the database reports, such as a full disk, fail the
// calls at once. The queue has only requests that callers wait for; telemetry.Intake bounds it in
// bytes.
//
// # Connections
//
// Statements are neither prepared by name nor dependent on the state of a session, so that the
// DSN may lead to PgBouncer in transaction mode. The DSN is read anew for each connection. It
// is never part of an error.
package postgres

import (
	"context"
	"errors"
	"fmt"
	"hash/maphash"
	"sync"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/authz/pgdsn"
	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/cmd/internal/telemetry"
)

var _ telemetry.Store = (*Store)(nil)

// errClosed is returned by a closed store.
var errClosed = fmt.Errorf("%w: closed", telemetry.ErrStore)

// DefaultConnections is how many connections write if [Options.Connections] is 0.
const DefaultConnections = 4

// Options configure a [Store]. Only DSNFile is required.
type Options struct {
	// DSNFile is the file with the connection string of the database, as a URL or as a list of
	// key=value.
	DSNFile string
	// Connections is how many connections write. As many more are opened for readers when they are
	// needed. 0 means [DefaultConnections].
	Connections int
	// Retention is how long messages are kept by their own time; 0 or less means forever. It should
	// be the same in all stores of a database, because the shortest one applies.
	Retention time.Duration
	// MaxKeys is the most telemetry keys of one device, and of all devices behind a gateway
	// together; 0 means telemetry.MaxKeys.
	MaxKeys int
	// MaxBytes is how many bytes one device, or all devices behind a gateway together, may have
	// stored; 0 means telemetry.MaxBytes. What versions without this bound have stored does not
	// count. Stores that write into one database may exceed it by what they store in seconds.
	MaxBytes int64
	// Now is the clock for retention; nil means the clock of the database.
	Now func() time.Time
	// OnError, if set, receives failures in the background, and every ten seconds at most one
	// of those that also fail callers. A panic is a *task.Panic. Any goroutine of the store may
	// call it.
	OnError func(error)
}

// Store is a telemetry store. Its methods may be called from any number of goroutines.
type Store struct {
	opts    Options
	dsn     *pgdsn.File
	readers *pgxpool.Pool
	workers []*worker
	seed    maphash.Seed

	closing context.Context // ends when Close is called
	stop    context.CancelFunc
	running sync.WaitGroup
	close   func() error

	reported   atomic.Int64 // when OnError last got a fault of a connection, in nanoseconds since 1970
	ahead      atomic.Int64 // how far the clock of the database is ahead of ours
	deleted    atomic.Int64 // how often retention has given back bytes of accounts
	partitions partitions
	counters   counters
}

// Open reads the DSN and starts the goroutines of the store, which [Store.Close] ends. It returns
// once every writing connection has tried to connect and what killed processes have left is brought
// up to date, or ctx has ended. A database that cannot be reached is no error: [Store.Writable]
// reports it until it can be reached.
func Open(ctx context.Context, opts Options) (*Store, error) {
	if opts.Connections == 0 {
		opts.Connections = DefaultConnections
	}
	if opts.MaxKeys == 0 {
		opts.MaxKeys = telemetry.MaxKeys
	}
	if opts.MaxBytes == 0 {
		opts.MaxBytes = telemetry.MaxBytes
	}
	if opts.OnError == nil {
		opts.OnError = func(error) {}
	}
	d, err := pgdsn.Open(opts.DSNFile)
	if err != nil {
		return nil, err
	}
	s := &Store{opts: opts, dsn: d, seed: maphash.MakeSeed()}
	if s.readers, err = newPool(ctx, d, opts.Connections); err != nil {
		return nil, err
	}
	s.closing, s.stop = context.WithCancel(context.Background())
	s.close = sync.OnceValue(s.closeAll)
	var tried sync.WaitGroup
	for range opts.Connections {
		w := newWorker(s)
		s.workers = append(s.workers, w)
		tried.Add(1)
		s.running.Go(func() { w.run(tried.Done) })
	}
	started := make(chan struct{})
	s.running.Go(func() {
		tried.Wait()
		s.tend(0)
		close(started)
		s.upkeep()
	})
	select {
	case <-started:
	case <-ctx.Done():
	}
	return s, nil
}

// Close commits what is queued, waits for the goroutines and closes the connections. What
// cannot be stored within a few seconds fails with telemetry.ErrStore, and so do calls that
// come later. A second Close returns what the first did.
func (s *Store) Close() error { return s.close() }

func (s *Store) closeAll() error {
	s.stop()
	s.running.Wait()
	s.readers.Close()
	var errs []error
	for _, w := range s.workers {
		errs = append(errs, w.unwritten)
	}
	return errors.Join(errs...)
}

// Writable implements [telemetry.Store]. A store cannot store if one of its connections could not
// connect or commit when it last tried. A connection tries again by itself, and an idle one checks
// every five seconds whether it can write.
func (s *Store) Writable() error {
	if s.closing.Err() != nil {
		return errClosed
	}
	for _, w := range s.workers {
		if fault := w.fault.Load(); fault != nil {
			return *fault
		}
	}
	return nil
}

// now returns the time by which messages are old.
func (s *Store) now() time.Time {
	if s.opts.Now != nil {
		return s.opts.Now()
	}
	return time.Now().Add(time.Duration(s.ahead.Load()))
}

// background reports an error that no caller waits for.
func (s *Store) background(err error) {
	if err != nil && s.closing.Err() == nil {
		s.counters.errors.Add(1)
		s.opts.OnError(explain(err))
	}
}

// explain wraps an error of the database. It returns nil for nil.
func explain(err error) error {
	if err == nil || errors.Is(err, telemetry.ErrStore) {
		return err
	}
	return fmt.Errorf("%w: PostgreSQL: %w", telemetry.ErrStore, err)
}
