package tokenfile

import (
	"context"
	"maps"
	"slices"
	"time"

	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/authz"
)

// Notify implements [authz.Notifier]. While it runs, the file is watched by name and through
// links, so renames and changed links are noticed, but not while revoked runs. It revokes by
// token id. Only one call watches at a time; others wait.
func (f *File) Notify(ctx context.Context, revoked func(authz.Revocation)) error {
	f.follower.Run(ctx, func() { f.deliver(ctx, revoked) })
	return nil
}

// revocations has the ids whose sessions must end, now or later, or get a new grant.
type revocations struct {
	now     map[string]struct{}
	altered map[string]struct{} // what they allow has changed
	later   map[string]struct{} // their expiry is earlier now
	next    int64               // the earliest expiry in later, in seconds since 1970
}

func (r *revocations) add(d difference) {
	if r.now == nil {
		r.now, r.altered, r.later = make(map[string]struct{}), make(map[string]struct{}), make(map[string]struct{})
	}
	for _, id := range d.altered {
		r.altered[id] = struct{}{}
	}
	for _, id := range d.ended {
		r.now[id] = struct{}{}
		delete(r.later, id)
	}
	for _, id := range d.shortened {
		r.later[id] = struct{}{}
	}
	if len(d.shortened) > 0 {
		r.next = 0 // check all of them again
	}
}

// due moves ids whose time has come from later to now.
func (r *revocations) due(snap *snapshot, now time.Time) {
	if len(r.later) == 0 || now.Unix() < r.next {
		return
	}
	r.next = latest
	for id := range r.later {
		switch e := snap.withID(id); {
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

// revoke stores the sessions that d ends for the running call of Notify, or the next.
func (f *File) revoke(d difference) {
	f.mu.Lock()
	f.revoked.add(d)
	f.mu.Unlock()
	f.follower.Wake()
}

// due returns the ids whose sessions must end now, and those whose sessions get a new grant.
func (f *File) due() (end, alter []string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.revoked.due(f.current.Load(), time.Now())
	return slices.Sorted(maps.Keys(f.revoked.now)), slices.Sorted(maps.Keys(f.revoked.altered))
}

// deliver reports the revocations that are due. Those that it cannot report before ctx ends
// remain for the next call of Notify.
func (f *File) deliver(ctx context.Context, revoked func(authz.Revocation)) {
	end, alter := f.due()
	for _, id := range end {
		if ctx.Err() != nil {
			return
		}
		f.reported(f.revoked.now, id)
		revoked(authz.Revocation{TokenID: id})
	}
	for _, id := range alter {
		if ctx.Err() != nil {
			return
		}
		f.reported(f.revoked.altered, id)
		if e := f.current.Load().withID(id); e != nil && !e.disabled {
			revoked(authz.Revocation{TokenHash: e.sessionHash(), Grant: e.authorization()})
		}
	}
}

// reported removes an id. It is called before the report, because the id may be added again while
// that runs.
func (f *File) reported(from map[string]struct{}, id string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	delete(from, id)
}
