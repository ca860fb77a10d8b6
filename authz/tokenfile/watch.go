package tokenfile

import (
	"context"
	"errors"
	"maps"
	"slices"
	"time"

	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/authz"
)

const (
	// fullCheck is the time after which the content is compared even if the stamp is
	// the same: a clock that was set back, or two writes in one tick of it, hide a
	// change from the stamp.
	fullCheck = 10 * time.Second
	// maxMoving is the number of looks after which a file that goes on changing
	// is read nevertheless.
	maxMoving = 3
	// maxTorn is the number of readings in a row during which the file changed,
	// after which it is reported.
	maxTorn = 20
)

// watch is what is known of the file on disk. It belongs to the holder of
// File.reading.
type watch struct {
	read    version   // what was read last
	met     stamp     // of the file that has the name, as it was when it was first seen
	moving  stamp     // of a change that has not been read yet
	looks   int       // at that change
	torn    int       // readings in a row during which the file changed
	checked time.Time // when the content was compared
}

// Notify implements [authz.Notifier]. While it runs the file is watched, by name
// and through links, so that renames and exchanged links are seen, but not while
// revoked runs. It revokes by token id. One call watches; another one waits for
// its turn.
func (f *File) Notify(ctx context.Context, revoked func(authz.Revocation)) error {
	if acquire(ctx, f.watching) != nil {
		return nil
	}
	defer func() { <-f.watching }()
	tick := time.NewTicker(f.options.Interval)
	defer tick.Stop()
	for {
		f.deliver(ctx, revoked)
		select {
		case <-ctx.Done():
			return nil
		case <-f.news:
		case <-tick.C:
			f.look(ctx)
		}
	}
}

// look reads the file if it has changed and now holds still.
func (f *File) look(ctx context.Context) {
	if acquire(ctx, f.reading) != nil {
		return
	}
	defer func() { <-f.reading }()
	w, now := &f.watch, stampOf(f.path)
	if !w.met.sameFile(now) {
		w.met = now
	}
	switch {
	case now.equal(w.read.stamp):
		if time.Since(w.checked) < fullCheck || !f.contentChanged() {
			return
		}
	case w.looks == 0 || !now.equal(w.moving) && w.looks < maxMoving:
		w.moving = now
		w.looks++
		return
	}
	err := f.load(ctx, false)
	if !errors.Is(err, errChanging) {
		w.looks, w.torn = 0, 0
		return
	}
	if w.torn++; w.torn == maxTorn {
		f.refuse(err)
	}
}

// replaced reports whether v came by a rename or by a link that leads elsewhere: it is
// the first version that is read of another file, and that file was not written to
// since it got the name.
func (w *watch) replaced(v version) bool {
	return !w.read.stamp.sameFile(v.stamp) && w.met.unwritten(v.stamp)
}

// contentChanged compares the content with what was read last.
func (f *File) contentChanged() bool {
	f.watch.checked = time.Now()
	content, err := fingerprint(f.path)
	return err == nil && content != f.watch.read.fingerprint
}

// revocations are ids whose sessions must end, now or at a time.
type revocations struct {
	now   map[string]struct{}
	later map[string]struct{} // their expiry was moved nearer
	next  int64               // the earliest expiry in later, in seconds since 1970
}

func (r *revocations) add(d difference) {
	if r.now == nil {
		r.now, r.later = make(map[string]struct{}), make(map[string]struct{})
	}
	for _, id := range d.ended {
		r.now[id] = struct{}{}
		delete(r.later, id)
	}
	for _, id := range d.shortened {
		r.later[id] = struct{}{}
	}
	if len(d.shortened) > 0 {
		r.next = 0 // look at all of them again
	}
}

// due moves what has come to its time from later to now.
func (r *revocations) due(snap *snapshot, now time.Time) {
	if len(r.later) == 0 || now.Unix() < r.next {
		return
	}
	r.next = latest
	for id := range r.later {
		switch e := snap.byID[id]; {
		case e == nil || e.expires == 0: // ended otherwise, or unlimited again
			delete(r.later, id)
		case e.expires <= now.Unix():
			delete(r.later, id)
			r.now[id] = struct{}{}
		default:
			r.next = min(r.next, e.expires)
		}
	}
}

// revoke leaves the sessions that d ends to the running call of Notify, or the next.
func (f *File) revoke(d difference) {
	f.mu.Lock()
	f.revoked.add(d)
	f.mu.Unlock()
	select {
	case f.news <- struct{}{}:
	default:
	}
}

// due returns the ids whose sessions must end now.
func (f *File) due() []string {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.revoked.due(f.current.Load(), time.Now())
	return slices.Sorted(maps.Keys(f.revoked.now))
}

// deliver hands out what is due. What it cannot hand out before ctx ends is left
// for the next call of Notify.
func (f *File) deliver(ctx context.Context, revoked func(authz.Revocation)) {
	for _, id := range f.due() {
		if ctx.Err() != nil {
			return
		}
		// Before the call: the id may be revoked once more while it runs.
		f.mu.Lock()
		delete(f.revoked.now, id)
		f.mu.Unlock()
		revoked(authz.Revocation{TokenID: id})
	}
}
