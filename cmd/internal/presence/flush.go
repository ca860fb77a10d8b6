package presence

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/proxy"
)

const (
	// batchRows is how many devices one transaction writes.
	batchRows = 5000
	// writeTimeout limits one transaction, and the opening of a store.
	writeTimeout = 30 * time.Second
	// slack is the part of the subjects, and of the token ids, that may be added before the store
	// is pruned again: 1 in 100.
	slack = 100
)

// Run opens the store and writes to it until ctx is done. A second call continues, as after a
// panic.
func (r *Recorder) Run(ctx context.Context) {
	r.report(ctx, r.flush(ctx))
	flush, touch := time.NewTicker(flushInterval), time.NewTicker(touchInterval)
	defer flush.Stop()
	defer touch.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-flush.C:
			r.report(ctx, r.flush(ctx))
		case <-touch.C:
			r.report(ctx, r.touch(ctx))
		}
	}
}

// Close writes what is left, as far as ctx allows, and closes the store. Run must have returned.
func (r *Recorder) Close(ctx context.Context) error {
	if r.store.Load() == nil && r.Stats().Pending == 0 {
		return nil // and makes no file
	}
	err := r.flush(ctx)
	if open := r.store.Swap(nil); open != nil {
		err = errors.Join(err, open.close())
	}
	r.fault.Store(&errClosed)
	return err
}

var errClosed = errors.New("the proxy ends")

// flush writes what is to be written. What cannot be written stays.
func (r *Recorder) flush(ctx context.Context) error {
	r.flushing.Lock()
	defer r.flushing.Unlock()
	r.mu.Lock()
	r.pending, r.writing = r.writing, r.pending // which is empty
	for subject, s := range r.writing.devices {
		s.connected = r.live[subject] > 0
		r.writing.devices[subject] = s
	}
	r.mu.Unlock()
	defer r.keepRest() // also after a panic
	if err := r.write(ctx, r.writing); err != nil || !r.missed.Load() {
		return err
	}
	r.missed.Store(false)
	return r.writeLive(ctx)
}

// keepRest makes what was not written pending again.
func (r *Recorder) keepRest() {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, s := range r.writing.devices {
		r.lose(r.pending.device(s, r.options.maxPending))
	}
	for id, at := range r.writing.tokens {
		r.lose(r.pending.token(id, at, r.options.maxPending))
	}
	r.writing = newBatch()
}

// touch records that the devices with live sessions are seen, and prunes the store.
func (r *Recorder) touch(ctx context.Context) error {
	r.flushing.Lock()
	defer r.flushing.Unlock()
	r.unpruned = r.options.max
	return r.writeLive(ctx)
}

// writeLive writes all devices with live sessions. r.flushing is held.
func (r *Recorder) writeLive(ctx context.Context) error {
	now, seen := time.Now(), newBatch()
	for c := range r.options.Clients() {
		seen.add(c, now)
		if len(seen.devices) < batchRows {
			continue
		}
		if err := r.write(ctx, seen); err != nil {
			return err
		}
	}
	return r.write(ctx, seen)
}

// add adds that c is connected.
func (b *batch) add(c *proxy.Client, now time.Time) {
	at := now.UnixMilli()
	b.device(sighting{subject: c.Subject(), addr: c.Addr.Addr().Unmap(), first: at, last: at, connected: true}, MaxSubjects)
	if id := c.Grant.TokenID; id != "" {
		b.token(id, at, MaxSubjects)
	}
}

// write writes b in parts, and removes from b what it has written. It opens the store if necessary,
// and opens it again if it is damaged. r.flushing is held.
func (r *Recorder) write(ctx context.Context, b *batch) error {
	ctx, cancel := context.WithTimeout(ctx, writeTimeout)
	defer cancel()
	s, err := r.opened(ctx)
	if err != nil || s == nil {
		return err
	}
	for !b.empty() {
		part := b.part(batchRows)
		if err := s.write(ctx, part); err != nil {
			if errors.Is(err, errDamaged) {
				r.shut()
			}
			return err
		}
		r.mu.Lock()
		for subject := range part.devices {
			delete(b.devices, subject)
		}
		for id := range part.tokens {
			delete(b.tokens, id)
		}
		r.mu.Unlock()
		r.unpruned += max(len(part.devices), len(part.tokens))
	}
	if r.unpruned < r.options.max/slack {
		return nil
	}
	if err := s.prune(ctx, r.options.max-r.options.max/slack); err != nil {
		return fmt.Errorf("delete the oldest: %w", err)
	}
	r.unpruned = 0
	return nil
}

// part returns a part of b with at most so many devices and token ids.
func (b *batch) part(most int) *batch {
	part := newBatch()
	for subject, s := range b.devices {
		if len(part.devices) == most {
			break
		}
		part.devices[subject] = s
	}
	for id, at := range b.tokens {
		if len(part.tokens) == most {
			break
		}
		part.tokens[id] = at
	}
	return part
}

// opened returns the store for the target, which it opens if necessary. It returns nil if the
// target is nowhere. r.flushing is held.
func (r *Recorder) opened(ctx context.Context) (store, error) {
	target := r.options.Target()
	if open := r.store.Load(); open != nil {
		switch {
		case target != r.target:
			r.shut()
		case r.replaced():
			r.shut()
			r.missed.Store(true)
			return nil, fmt.Errorf("%s was removed or replaced while it was in use, and what it held is no longer known", target.Path)
		default:
			return open.store, nil
		}
	}
	if target == (Target{}) {
		return nil, errNowhere
	}
	s, err := r.options.open(ctx, target)
	if err != nil {
		return nil, err
	}
	// There may be too many already.
	r.target, r.unpruned = target, r.options.max
	r.file, _ = os.Stat(target.Path) // an error means that it is not known
	r.store.Store(&opened{s})
	return s, nil
}

// replaced reports whether the path of the store no longer leads to the file that is open. What is
// written to that is lost with the process. r.flushing is held.
func (r *Recorder) replaced() bool {
	if r.file == nil {
		return false
	}
	now, err := os.Stat(r.target.Path)
	return errors.Is(err, os.ErrNotExist) || err == nil && !os.SameFile(now, r.file)
}

var errNowhere = errors.New("no place for the record is configured")

// shut closes the store.
func (r *Recorder) shut() {
	if open := r.store.Swap(nil); open != nil {
		_ = open.close() // it is no longer used, and what it has stored is committed
	}
}

// report remembers whether the store could be used, and calls Changed if that has changed. An
// error because ctx is done says nothing about the store.
func (r *Recorder) report(ctx context.Context, err error) {
	if ctx.Err() != nil {
		return
	}
	was := *r.fault.Swap(&err)
	if changed := r.options.Changed; changed != nil && (err == nil) != (was == nil || errors.Is(was, errNotOpen)) {
		changed(err)
	}
}
