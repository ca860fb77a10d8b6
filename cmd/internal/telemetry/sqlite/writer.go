package sqlite

import (
	"context"
	"database/sql"
	"errors"
	"slices"
	"time"

	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/cmd/internal/task"
	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/cmd/internal/telemetry"
)

const (
	queueLength = 1024 // requests
	// batchRows is how many rows a batch has at most, unless one request has more.
	batchRows = 2000
	// flushEvery is how old the table latest may become.
	flushEvery = 5 * time.Second
)

// run is the writing goroutine: it alone uses s.db once Open has returned.
func (s *Store) run() {
	defer close(s.done)
	flush := time.NewTicker(flushEvery)
	defer flush.Stop()
	upkeep := time.NewTimer(s.upkeepEvery())
	defer upkeep.Stop()
	for {
		select {
		case r := <-s.queue:
			s.commit(s.gather(r))
		case <-flush.C:
			s.background(task.Do(s.flush))
			s.background(task.Do(s.probe))
		case <-upkeep.C:
			upkeep.Reset(s.upkeep())
		case <-s.closing:
			s.drain()
			s.background(task.Do(s.flush))
			return
		}
	}
}

// background reports an error that no caller waits for, or whose stack no caller logs.
func (s *Store) background(err error) {
	if err != nil {
		s.counters.errors.Add(1)
		s.opts.OnError(s.explain(err))
	}
}

// drain commits what was queued when Close was called.
func (s *Store) drain() {
	for {
		select {
		case r := <-s.queue:
			s.commit(s.gather(r))
		default:
			return
		}
	}
}

// gather returns first and the requests that are queued behind it.
func (s *Store) gather(first *request) []*request {
	batch := []*request{first}
	for rows := first.size(); rows < batchRows && len(batch) < queueLength; {
		select {
		case r := <-s.queue:
			batch = append(batch, r)
			rows += r.size()
		default:
			return batch
		}
	}
	return batch
}

// commit stores a batch in one transaction and gives each request its outcome.
func (s *Store) commit(batch []*request) {
	batch = withoutCanceled(batch)
	if len(batch) == 0 {
		return
	}
	start := time.Now()
	s.health.begin()
	err := s.checkSpace()
	if err == nil {
		err = task.Do(func() error { return s.store(batch) })
		s.health.end(err)
	} else {
		s.health.started.Store(0) // Writable checks the space itself
	}
	s.counters.commitTime.Add(int64(time.Since(start)))
	if err != nil {
		s.counters.errors.Add(1)
		err = s.explain(err)
		if task.StackOf(err) != nil {
			s.opts.OnError(err)
		}
		s.keys, s.usage.known = nil, nil // because they count rows that were not stored
	} else {
		s.counters.commits.Add(1)
		s.usage.settle(batch)
		s.remember(batch)
	}
	for _, r := range batch {
		switch {
		case err != nil:
			r.done <- err
		case errors.Is(r.refused, telemetry.ErrStore):
			s.counters.errors.Add(1)
			r.done <- r.refused
		case r.refused != nil:
			r.done <- r.refused
		default:
			s.counters.stored(r)
			r.done <- nil
		}
	}
}

func withoutCanceled(batch []*request) []*request {
	kept := batch[:0]
	for _, r := range batch {
		select {
		case <-r.canceled:
		default:
			kept = append(kept, r)
		}
	}
	return kept
}

func (s *Store) store(batch []*request) error {
	if s.recent.Len() >= maxRecent || slices.ContainsFunc(batch, func(r *request) bool { return len(r.renewed) > 0 }) {
		if err := s.flush(); err != nil {
			return err
		}
	}
	if err := s.admit(batch); err != nil {
		return err
	}
	ctx := context.Background()
	return s.transact(ctx, func(tx *sql.Tx) error {
		w := tableWriter{Store: s, ctx: ctx, tx: tx}
		for _, r := range batch {
			if r.refused != nil {
				continue
			}
			if err := w.request(r); err != nil {
				return err
			}
		}
		return w.note(batch)
	})
}
