package durable

import (
	"cmp"
	"context"
	"database/sql"
	"errors"
	"slices"
	"sync/atomic"
	"time"

	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/cmd/internal/task"
)

const (
	// lazyWait is how long a change without a receipt may stay in memory.
	lazyWait = 200 * time.Millisecond
	// retryEvery is how often a failed commit is tried again, and messages of ended sessions are
	// deleted.
	retryEvery = time.Second
	// trimRows is how many messages of ended sessions are deleted at once.
	trimRows = 5000
	// vacuumPages is how many free pages are given back to the file system at once, and
	// sparePages how many are not.
	vacuumPages = 1000
	sparePages  = 4 * vacuumPages
)

// run is the writing goroutine: it alone uses f.db once Open has returned.
func (f *File) run() {
	defer close(f.done)
	lazy, upkeep := time.NewTicker(lazyWait), time.NewTicker(f.opts.upkeep)
	defer lazy.Stop()
	defer upkeep.Stop()
	for {
		select {
		case <-f.wake:
			f.commit(f.take(), false)
		case <-lazy.C:
			if len(f.kept) == 0 {
				f.commit(f.take(), false)
			}
		case <-upkeep.C:
			f.commit(f.take(), true)
			f.cleanUp()
		case <-f.closing:
			f.commit(f.take(), true)
			f.cleanUp()
			return
		}
	}
}

// take returns the changes that were submitted.
func (f *File) take() []*Change {
	f.mu.Lock()
	defer f.mu.Unlock()
	batch := f.pending
	f.pending = nil
	return batch
}

// commit commits the changes that are left from failed commits and a batch of others, and tells
// their submitters. If the last commit failed, an empty batch commits nothing unless retry is true.
func (f *File) commit(batch []*Change, retry bool) {
	failed := f.health.fault.Load() != nil
	if len(batch) == 0 && !(retry && (failed || len(f.kept) > 0)) {
		return
	}
	if err := f.checkSpace(); err != nil {
		batch = f.refuse(batch, f.explain(err))
	}
	all := slices.Concat(f.kept, batch)
	f.health.started.Store(time.Now().UnixNano())
	err := f.explain(task.Do(func() error { return f.store(all, failed) }))
	f.health.started.Store(0)
	if err == nil {
		f.kept = nil
		f.health.fault.Store(nil)
		f.commits.Add(1)
	} else {
		f.health.fault.Store(&err)
		f.kept = nil
		f.keep(all...)
	}
	f.report(err)
	for _, c := range batch {
		c.settle(err)
	}
}

// report passes on the first error of several in a row, and every panic.
func (f *File) report(err error) {
	if err != nil && (!f.failed || task.StackOf(err) != nil) {
		f.opts.OnError(err)
	}
	f.failed = err != nil
}

// refuse returns the changes of a batch that add nothing. The others fail with err.
func (f *File) refuse(batch []*Change, err error) []*Change {
	return slices.DeleteFunc(batch, func(c *Change) bool {
		if !slices.ContainsFunc(c.steps, step.grows) {
			return false
		}
		f.keep(c)
		c.settle(err)
		return true
	})
}

// keep keeps the steps of failed changes that are true in memory.
func (f *File) keep(failed ...*Change) {
	for _, c := range failed {
		if rest := slices.DeleteFunc(slices.Clone(c.steps), step.adds); len(rest) > 0 {
			f.kept = append(f.kept, &Change{steps: rest})
		}
	}
	f.kept = slices.DeleteFunc(f.kept, superseded(f.kept))
}

// superseded returns a function that removes the steps of changes that a later step repeats, and
// reports whether nothing is left of a change. Without it a device that connects again and again
// would fill the memory. It must be called for the changes in their order.
func superseded(changes []*Change) func(*Change) bool {
	last := make(map[subject]*step)
	for _, c := range changes {
		for i := range c.steps {
			last[c.steps[i].subject()] = &c.steps[i]
		}
	}
	return func(c *Change) bool {
		var left []step
		for i := range c.steps {
			s := &c.steps[i]
			ended := s.kind == putSession && last[subject{kind: deleteSession, key: s.key}] != nil
			if last[s.subject()] == s && !ended {
				left = append(left, *s)
			}
		}
		c.steps = left
		return len(left) == 0
	}
}

// subject is what a step is about. Of two steps about the same the later one counts.
type subject struct {
	kind kind
	key  int64
	seq  int64
	id   uint16
	text string
}

func (s *step) subject() subject {
	about := subject{s.kind, s.key, s.seq, s.id, s.text}
	switch s.kind {
	case putSubscription:
		about.text = s.subscription.Filter
	case retain:
		about.text = s.retained.Topic
	}
	return about
}

// row names a message.
type row struct{ key, seq int64 }

// store commits changes in one transaction. With probe it writes in any case, to find out whether
// that is possible.
func (f *File) store(changes []*Change, probe bool) error {
	gone := make(map[row]bool) // messages that are deleted, and need no other step
	var removed []step
	for _, c := range changes {
		for _, s := range c.steps {
			if s.kind == dequeue {
				removed = append(removed, s)
				gone[row{s.key, s.seq}] = true
			}
		}
	}
	ctx := context.Background()
	var ended []int64
	w := writer{f: f, ctx: ctx}
	err := f.transact(ctx, func(tx *sql.Tx) error {
		w.tx = tx
		for _, c := range changes {
			for i := range c.steps {
				s := &c.steps[i]
				switch {
				case s.kind == dequeue, (s.kind == enqueue || s.kind == setPacketID || s.kind == release) && gone[row{s.key, s.seq}]:
					continue
				case s.kind == deleteSession:
					ended = append(ended, s.key)
				}
				if err := w.step(s); err != nil {
					return err
				}
			}
		}
		for _, s := range runs(removed) {
			if _, err := w.exec(dequeue, s.key, s.seq, s.last); err != nil {
				return err
			}
		}
		if probe {
			_, err := tx.ExecContext(ctx, `INSERT INTO received VALUES (0, 0); DELETE FROM received WHERE session = 0`)
			return err
		}
		return nil
	})
	if err == nil {
		f.orphans = append(f.orphans, ended...)
		for count, n := range w.discarded {
			count.Add(n)
		}
	}
	return err
}

// runs joins ranges of messages that lie next to each other.
func runs(removed []step) []step {
	slices.SortFunc(removed, func(a, b step) int { return cmp.Or(cmp.Compare(a.key, b.key), cmp.Compare(a.seq, b.seq)) })
	var all []step
	for _, s := range removed {
		if n := len(all) - 1; n >= 0 && all[n].key == s.key && s.seq <= all[n].last+1 {
			all[n].last = max(all[n].last, s.last)
			continue
		}
		all = append(all, s)
	}
	return all
}

// writer executes steps in a transaction.
type writer struct {
	f   *File
	ctx context.Context
	tx  *sql.Tx
	in  [forget + 1]*sql.Stmt // the statements of the transaction

	discarded map[*atomic.Int64]int64 // how many messages to add to which count
}

func (w *writer) exec(k kind, args ...any) (sql.Result, error) {
	if w.in[k] == nil {
		w.in[k] = w.tx.StmtContext(w.ctx, w.f.write.byKind[k])
	}
	return w.in[k].ExecContext(w.ctx, args...)
}

// discard deletes messages, and notes how many there were.
func (w *writer) discard(s *step) error {
	result, err := w.exec(dequeue, s.key, s.seq, s.last)
	if err != nil {
		return err
	}
	n, err := result.RowsAffected()
	if w.discarded == nil {
		w.discarded = make(map[*atomic.Int64]int64)
	}
	w.discarded[s.count] += n
	return err
}

func (w *writer) step(s *step) (err error) {
	switch s.kind {
	case putSession:
		v := s.session
		_, err = w.exec(putSession, v.Key, v.ClientID, v.Device, v.Version, v.Expiry, v.Away, v.Reader)
	case putSubscription:
		v := s.subscription
		_, err = w.exec(putSubscription, s.key, v.Filter, v.QoS, v.NoLocal, v.RetainAsPublished, v.Identifier)
	case deleteSubscription:
		_, err = w.exec(deleteSubscription, s.key, s.text)
	case enqueue:
		_, err = w.exec(enqueue, s.key, s.seq, s.id, s.message.Expires, s.message.Version, blob(s.message.Packet))
	case setPacketID:
		_, err = w.exec(setPacketID, s.id, s.key, s.seq)
	case release:
		_, err = w.exec(release, s.key, s.seq)
	case discard:
		err = w.discard(s)
	case receive, complete:
		_, err = w.exec(s.kind, s.key, s.id)
	case retain:
		v := s.retained
		_, err = w.exec(retain, v.Topic, v.Device, v.Origin, v.Expires, v.Version, blob(v.Packet))
	case forget:
		_, err = w.exec(forget, s.text)
	case deleteSession:
		for _, stmt := range w.f.write.ended {
			if _, err := w.tx.StmtContext(w.ctx, stmt).ExecContext(w.ctx, s.key); err != nil {
				return err
			}
		}
		_, err = w.exec(deleteSession, s.key)
	default:
		err = errors.New("unknown step")
	}
	return err
}

// blob returns b as a value of a column that is not null.
func blob(b []byte) []byte {
	if b == nil {
		return []byte{}
	}
	return b
}

// cleanUp cleans and reports an error. Success says nothing about commits that fail.
func (f *File) cleanUp() {
	if err := task.Do(f.clean); err != nil {
		f.report(err)
	}
}

// clean deletes messages of sessions that have ended, and gives back free pages, a few at a time.
func (f *File) clean() error {
	ctx := context.Background()
	for left := int64(trimRows); len(f.orphans) > 0 && left > 0; {
		result, err := f.write.trim.ExecContext(ctx, f.orphans[0], left)
		if err != nil {
			return f.explain(err)
		}
		n, err := result.RowsAffected()
		if err != nil {
			return f.explain(err)
		}
		if n < left {
			f.orphans = f.orphans[1:]
		}
		left -= n
	}
	return f.explain(f.shrink(ctx))
}

// shrink gives back some free pages. The file becomes smaller only when they are out of the
// write-ahead log, which would otherwise wait for more to be written.
func (f *File) shrink(ctx context.Context) error {
	var free int
	if err := f.write.freePages.QueryRowContext(ctx).Scan(&free); err != nil {
		return err
	}
	switch {
	case free >= sparePages:
		f.shrinks = true
		_, err := f.write.vacuum.ExecContext(ctx)
		return err
	case f.shrinks:
		f.shrinks = false
		_, err := f.db.ExecContext(ctx, `PRAGMA wal_checkpoint(TRUNCATE)`)
		return err
	}
	return nil
}
