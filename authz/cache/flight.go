package cache

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"strings"
	"time"

	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/authz"
)

var (
	errClosed    = fmt.Errorf("%w: the cache is closed", authz.ErrUnavailable)
	errWaiters   = fmt.Errorf("%w: too many connections wait for the same answer", authz.ErrBusy)
	errMalformed = fmt.Errorf("%w: the source gave neither a grant nor a denial, or both", authz.ErrUnavailable)
)

// flight is one request to the source, shared by all callers that wait for its answer.
type flight struct {
	key     key
	hash    [32]byte // of the token, see holderOf
	request authz.Request
	ticket  *ticket
	began   uint64    // the number of the latest revocation when it began
	waiters int       // guarded by Cache.mu
	asked   time.Time // when the source was asked; zero if it was not

	// The answer. It is set before done is closed.
	done  chan struct{}
	grant *authz.Grant
	err   error
	void  bool   // it was revoked: ask again
	ended uint64 // the number of the latest revocation when it ended
}

// launch starts a flight. c.mu is held.
func (c *Cache) launch(k key, hash [32]byte, r authz.Request, as class) (*flight, error) {
	t, err := c.slots.enter(as)
	if err != nil {
		c.stats.Busy++
		return nil, err
	}
	f := &flight{key: k, hash: hash, request: r, ticket: t, began: c.recent.last, done: make(chan struct{})}
	c.flights[k], c.used = f, true
	c.running.Go(func() { c.fly(f) })
	return f, nil
}

// fly waits for a place, asks the source and stores the answer.
func (c *Cache) fly(f *flight) {
	if err := c.slots.wait(c.ctx, f.ticket); err != nil {
		c.land(f, nil, err)
		return
	}
	f.asked = time.Now()
	var grant *authz.Grant
	err := errMalformed // if the source ends this goroutine with runtime.Goexit
	defer func() {
		c.slots.leave(f.ticket)
		c.land(f, grant, err)
	}()
	grant, err = c.call(f.request)
	if grant != nil {
		grant = c.shared.intern(grant)
	}
}

// call asks the source. It returns exactly one of a grant and an error, and an
// error that is either a denial or unavailable.
func (c *Cache) call(r authz.Request) (grant *authz.Grant, err error) {
	ctx, cancel := context.WithTimeout(c.ctx, c.options.Timeout)
	defer cancel()
	defer func() {
		if p := recover(); p != nil {
			grant, err = nil, crashed(p)
		}
	}()
	grant, err = c.source.Authorize(ctx, r)
	switch {
	case (grant == nil) == (err == nil):
		return nil, errMalformed
	case err == nil:
		return grant, nil
	case c.ctx.Err() != nil:
		return nil, errClosed
	case errors.Is(err, context.DeadlineExceeded), errors.Is(err, context.Canceled):
		// The context is not the caller's, so its error must not look like the end of the
		// caller's context.
		kind := authz.ErrUnavailable
		if errors.Is(err, authz.ErrBusy) {
			kind = authz.ErrBusy
		}
		return nil, fmt.Errorf("%w: %s", kind, err.Error())
	case errors.Is(err, authz.ErrDenied) && errors.Is(err, authz.ErrUnavailable):
		return nil, errMalformed
	}
	return nil, err
}

// crashed returns the error for a source that panicked with p. It omits the text of p, which
// may contain a token, unless it is a runtime error.
func crashed(p any) error {
	if fault, ok := p.(runtime.Error); ok {
		return fmt.Errorf("%w: the source panicked: %s", authz.ErrUnavailable, fault.Error())
	}
	return fmt.Errorf("%w: the source panicked with a %T", authz.ErrUnavailable, p)
}

// land stores the answer to f and wakes the callers that wait for it.
func (c *Cache) land(f *flight, grant *authz.Grant, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.flights, f.key)
	c.store(f, grant, err)
	f.ended = c.recent.last
	c.stats.count(f)
	close(f.done)
}

// store decides about the answer to f, and stores it. c.mu is held, so no revocation can happen
// in between.
func (c *Cache) store(f *flight, grant *authz.Grant, err error) {
	now := time.Now()
	denied := errors.Is(err, authz.ErrDenied)
	switch {
	case (grant != nil || denied) && c.recent.mean(grant, f.hash, f.began), denied && c.options.Watched && f.began != c.recent.last:
		f.void = true
	case denied:
		f.err = err
		c.keepDenial(f, denialOf(err), now)
	case grant == nil:
		f.err = err
		c.cooling.add(f.key, err, now, now.Add(cooldown))
	default:
		f.grant = grant
		c.keepGrant(f, now)
	}
}

// keepGrant stores f's grant, or removes the previous one if f's must not be kept.
func (c *Cache) keepGrant(f *flight, now time.Time) {
	g := f.grant
	k := c.keyFor(f, g.Keep)
	ttl := narrowed(c.options.TTL, g.Keep.TTL)
	ttl -= jitter(ttl)
	if !g.Expires.IsZero() {
		ttl = min(ttl, g.Expires.Sub(f.asked))
	}
	if ttl <= now.Sub(f.asked) {
		c.shard(k).drop(k)
		return
	}
	hash := f.hash
	if g.IsPair() {
		hash = g.PairHash
	}
	c.shard(k).putGrant(&entry{
		key: k, hash: hash, grant: g, asked: f.asked,
		refresh: time.Duration(float64(ttl) * c.options.RefreshAhead),
		ttl:     ttl,
		stale:   ttl + narrowed(c.options.Stale, g.Keep.Stale),
		bytes:   weigh(g),
	})
}

// keepDenial stores d, or removes the answer for f's key if d must not be kept.
func (c *Cache) keepDenial(f *flight, d *authz.Denial, now time.Time) {
	k := c.keyFor(f, d.Keep)
	ttl := narrowed(c.options.NegativeTTL, d.Keep.TTL)
	if ttl <= now.Sub(f.asked) {
		c.shard(k).drop(k)
		return
	}
	c.shard(k).putDenial(k, refusal{denial: d, asked: f.asked, ttl: ttl})
}

// maxDetail is the maximum length in bytes of the detail, and of the subject, that are stored for a
// denial.
const maxDetail = 256

// denialOf returns the denial in err, with bounded texts and without the errors that wrap
// it, which may have any size.
func denialOf(err error) *authz.Denial {
	d, ok := errors.AsType[*authz.Denial](err)
	switch {
	case ok && len(d.Detail) <= maxDetail && len(d.Subject) <= maxDetail:
		return d
	case ok:
		short := *d
		short.Detail, short.Subject = shortened(d.Detail), shortened(d.Subject)
		return &short
	case errors.Is(err, authz.ErrUnknown):
		return &authz.Denial{Reason: authz.Unknown}
	}
	return &authz.Denial{Reason: authz.NotAuthorized}
}

func shortened(text string) string {
	if len(text) <= maxDetail {
		return text
	}
	return strings.ToValidUTF8(strings.Clone(text[:maxDetail]), "")
}
