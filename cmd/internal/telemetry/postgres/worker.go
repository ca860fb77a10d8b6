package postgres

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/cmd/internal/task"
	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/cmd/internal/telemetry/recent"
)

const (
	queueLength = 1024 // requests of one connection
	// groupRows is how many rows a group has at most, unless one request has more.
	groupRows = 2000
	// flushEvery is how long the table latest may lag behind.
	flushEvery = 2 * time.Second
	// probeEvery is how often a connection that has nothing to do tries whether it could store.
	probeEvery = 5 * time.Second
	// patience is how long the network and the server may take for one transaction. It is less
	// than callers wait, so that they get the reason.
	patience = 9 * time.Second

	// reportEvery is how often the fault of a connection is reported.
	reportEvery = 10 * time.Second

	firstPause, longestPause = 50 * time.Millisecond, 3 * time.Second
	// closeTime is how long a store may take to commit what is queued when it is closed.
	closeTime = 5 * time.Second
)

var errConnecting = errors.New("not connected yet")

// worker owns one writing connection. Its goroutine alone uses what is not atomic.
type worker struct {
	*Store
	queue chan *request
	ended chan struct{}         // closed when the goroutine has ended
	held  atomic.Int64          // requests of the group that is being stored
	fault atomic.Pointer[error] // why the last attempt to connect or to commit failed

	conn      *pgx.Conn // nil while there is none
	recent    recent.Values
	note      int64 // id of the row in the table unflushed, 0 if there is none
	keys      keyCounts
	usage     usage
	careful   time.Time     // until when groups look for the rows that are there
	unsure    bool          // whether the group may be stored already
	pause     time.Duration // until the next attempt to connect
	unwritten error         // of the last flush, once the goroutine has ended
}

func newWorker(s *Store) *worker {
	w := &worker{Store: s, queue: make(chan *request, queueLength), ended: make(chan struct{})}
	err := explain(errConnecting)
	w.fault.Store(&err)
	return w
}

// run is the goroutine of the worker. It calls tried after its first attempt to connect.
func (w *worker) run(tried func()) {
	defer close(w.ended)
	defer w.disconnect()
	w.probe()
	tried()
	flush := time.NewTicker(flushEvery)
	defer flush.Stop()
	probe := time.NewTimer(w.untilProbe())
	defer probe.Stop()
	for {
		select {
		case r := <-w.queue:
			w.handle(w.closing, w.gather(r))
			probe.Reset(w.untilProbe())
		case <-flush.C:
			if w.conn != nil {
				_ = w.flushInTime(w.closing) // is counted, and tried again at the next tick
			}
		case <-probe.C:
			w.probe()
			probe.Reset(w.untilProbe())
		case <-w.closing.Done():
			w.drain()
			return
		}
	}
}

// drain commits what was queued when Close was called.
func (w *worker) drain() {
	ctx, cancel := context.WithTimeout(context.Background(), closeTime)
	defer cancel()
	for {
		select {
		case r := <-w.queue:
			w.handle(ctx, w.gather(r))
		default:
			if err := w.flushInTime(ctx); err != nil {
				w.unwritten = fmt.Errorf("the next start brings them up to date: %w", explain(err))
			}
			return
		}
	}
}

// flushInTime brings the tables latest and usage up to date, if there is anything to write.
func (w *worker) flushInTime(ctx context.Context) error {
	if w.recent.Len() == 0 && w.note == 0 && len(w.usage.pending) == 0 {
		return nil
	}
	err := w.inTime(ctx, w.flush)
	if err != nil {
		w.counters.errors.Add(1)
	}
	return err
}

// gather returns first and what is queued behind it.
func (w *worker) gather(first *request) []*request {
	group := []*request{first}
	for rows := first.size(); rows < groupRows && len(group) < queueLength; {
		select {
		case r := <-w.queue:
			group = append(group, r)
			rows += r.size()
		default:
			return group
		}
	}
	return group
}

// handle stores a group and gives each request its outcome. While the database cannot be
// reached it tries again, until ctx ends or no caller waits any more.
func (w *worker) handle(ctx context.Context, group []*request) {
	for {
		group = waiting(group)
		if w.held.Store(int64(len(group))); len(group) == 0 {
			w.unsure = false
			return
		}
		start := time.Now()
		err := w.inTime(ctx, func(ctx context.Context) error { return w.store(ctx, group) })
		w.counters.commitTime.Add(int64(time.Since(start)))
		if err == nil || !w.passes(err) || ctx.Err() != nil {
			w.finish(group, err)
			return
		}
		w.counters.errors.Add(1)
		select {
		case <-time.After(w.nextPause()):
		case <-ctx.Done():
		}
	}
}

// waiting returns the requests for which a caller still waits.
func waiting(group []*request) []*request {
	kept := group[:0]
	for _, r := range group {
		select {
		case <-r.canceled:
		default:
			for _, p := range r.each() {
				p.refused = nil
			}
			r.refused = nil
			kept = append(kept, r)
		}
	}
	return kept
}

// finish gives each request of a group its outcome.
func (w *worker) finish(group []*request, err error) {
	w.unsure = false
	w.held.Store(0)
	if err != nil {
		w.counters.errors.Add(1)
		w.keys, w.usage.known = nil, nil // because they count what is not stored
	}
	for _, r := range group {
		switch {
		case err != nil:
			r.done <- explain(err)
		case r.refused != nil:
			r.done <- r.refused
		default:
			w.counters.stored(r)
			r.done <- nil
		}
	}
}

// inTime connects if need be, runs f, and notes whether both worked. A connection that an error
// leaves in an unknown state is given up.
func (w *worker) inTime(ctx context.Context, f func(context.Context) error) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), patience)
	defer cancel()
	err := w.connect(ctx)
	if err == nil {
		err = task.Do(func() error { return f(ctx) })
	}
	if err == nil {
		w.fault.Store(nil)
		w.pause = 0
		return nil
	}
	w.failed(err)
	if w.passes(err) || task.StackOf(err) != nil {
		w.disconnect()
	}
	return err
}

// failed notes a fault, and reports it unless another one was reported just now. Panics are
// always reported.
func (w *worker) failed(err error) {
	err = explain(err)
	w.fault.Store(&err)
	now, last := time.Now().UnixNano(), w.reported.Load()
	if task.StackOf(err) != nil || now-last >= int64(reportEvery) && w.reported.CompareAndSwap(last, now) {
		w.opts.OnError(err)
	}
}

// passes reports whether an error is one of the connection and not of what was stored.
func (w *worker) passes(err error) bool {
	if task.StackOf(err) != nil {
		return false
	}
	if w.conn == nil || w.conn.IsClosed() {
		return true
	}
	var e *pgconn.PgError
	if !errors.As(err, &e) {
		return true
	}
	switch e.Code {
	case "40001", "40P01": // serialization failure, deadlock
		return true
	case "25006": // read-only: this server is not the first one any more
		return true
	}
	return false
}

// untilProbe returns the time until the next probe. After a fault it does not wait for messages,
// because devices may be sent elsewhere meanwhile.
func (w *worker) untilProbe() time.Duration {
	if w.fault.Load() != nil {
		return w.nextPause()
	}
	return probeEvery
}

func (w *worker) nextPause() time.Duration {
	w.pause = min(max(2*w.pause, firstPause), longestPause)
	return w.pause
}

func (w *worker) connect(ctx context.Context) error {
	if w.conn != nil && !w.conn.IsClosed() {
		return nil
	}
	w.conn = nil
	conn, err := pgx.ConnectConfig(ctx, connConfig(w.dsn))
	if err != nil {
		return err
	}
	if err := w.migrate(ctx, conn); err != nil {
		_ = conn.Close(ctx)
		return err
	}
	w.conn = conn
	return nil
}

func (w *worker) disconnect() {
	if w.conn == nil {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	_ = w.conn.Close(ctx)
	w.conn = nil
}

// probe finds out whether the connection could store. After a fault it commits, because a full
// disk may show only then.
func (w *worker) probe() {
	end := "ROLLBACK"
	if w.fault.Load() != nil {
		end = "COMMIT"
	}
	err := w.inTime(w.closing, func(ctx context.Context) error {
		_, err := w.conn.Exec(ctx, `BEGIN;
			INSERT INTO mqtt_auth_proxy.telemetry VALUES ('', 0, pg_backend_pid(), '{}', 0) ON CONFLICT DO NOTHING;
			DELETE FROM mqtt_auth_proxy.telemetry WHERE device = '' AND ts = 0 AND n = pg_backend_pid(); `+end)
		return err
	})
	if err != nil {
		w.counters.errors.Add(1)
	}
}
