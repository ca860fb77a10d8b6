package denylist

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"sync"
	"time"

	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/authz"
)

// Max is the largest number of denials in force.
const Max = 100_000

var (
	// ErrFull means that [Max] denials are in force.
	ErrFull = fmt.Errorf("%d denials are in force, and there may be no more", Max)
	// ErrNothing means that a revocation names nothing.
	ErrNothing = errors.New("the revocation names no token, token id or subject")
)

// List is a list of denials. It is made by [Open], and its methods may be called from many
// goroutines.
type List struct {
	path string

	mu      sync.RWMutex
	denials map[authz.Revocation]denial
	unsaved map[authz.Revocation]bool // made or changed by this process since the last Save; some may have ended

	saving sync.Mutex  // held by Save
	file   fs.FileInfo // as it was last read or written, or nil if it did not exist; guarded by saving

	notifying  sync.Mutex // guards the following fields
	listeners  []*func(authz.Revocation)
	unreported []authz.Revocation // denials of other processes before Notify is called
}

var _ authz.Notifier = (*List)(nil)

// denial says until when something is denied.
type denial struct {
	until  time.Time
	follow bool // until is extended to the expiry of the token when that is known
}

// Deny refuses what r names until the given time. It replaces an earlier denial of the same.
// With follow the denial follows the token, see the package comment, and does not end before
// the one that it replaces. The error is [ErrFull] or [ErrNothing].
func (l *List) Deny(r authz.Revocation, until time.Time, follow bool) error {
	r = r.Canonical()
	if r == (authz.Revocation{}) {
		return ErrNothing
	}
	until = whole(until)
	l.mu.Lock()
	defer l.mu.Unlock()
	before, known := l.denials[r]
	if !known && len(l.denials) >= Max {
		l.purge(time.Now())
		if len(l.denials) >= Max {
			return ErrFull
		}
	}
	if follow && known && before.until.After(until) {
		until = before.until
	}
	l.denials[r] = denial{until: until, follow: follow && r.Subject == ""}
	l.unsaved[r] = true
	return nil
}

// whole rounds t up to a whole second that the file can represent: RFC 3339 has years of four
// digits.
func whole(t time.Time) time.Time {
	last := time.Date(9999, time.December, 31, 0, 0, 0, 0, time.UTC)
	if t.After(last) {
		return last
	}
	return t.Add(time.Second - 1).Truncate(time.Second)
}

// purge removes the denials that have ended. l.mu is held.
func (l *List) purge(now time.Time) {
	for r, d := range l.denials {
		if !now.Before(d.until) {
			delete(l.denials, r)
		}
	}
}

// Len returns the number of denials in force.
func (l *List) Len() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.purge(time.Now())
	return len(l.denials)
}

// Denial is a denial in an answer of [List.All].
type Denial struct {
	authz.Revocation
	Until  time.Time
	Follow bool // see the package comment
}

// All returns the denials in force, in no order.
func (l *List) All() []Denial {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.purge(time.Now())
	all := make([]Denial, 0, len(l.denials))
	for r, d := range l.denials {
		all = append(all, Denial{r, d.until, d.follow})
	}
	return all
}

// Has reports whether a denial of exactly what r names is in force.
func (l *List) Has(r authz.Revocation) bool {
	_, ok := l.find(r.Canonical())
	return ok
}

// Before returns an [authz.Authorizer] that refuses what is denied and passes every other
// request to next. Its denials have the reason [authz.Revoked].
func (l *List) Before(next authz.Authorizer) authz.Authorizer { return guarded{l, next} }

type guarded struct {
	list *List
	next authz.Authorizer
}

var (
	_ authz.Authorizer = guarded{}
	_ authz.Notifier   = guarded{}
	_ authz.Taker      = guarded{}
)

// Takes implements [authz.Taker].
func (g guarded) Takes() authz.Credentials { return authz.Takes(g.next) }

// Authorize implements [authz.Authorizer].
func (g guarded) Authorize(ctx context.Context, r authz.Request) (*authz.Grant, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	byToken, denied := g.list.findToken(r)
	if denied && !byToken.follow {
		return nil, byToken.refusal("token", "")
	}
	grant, err := g.next.Authorize(ctx, r)
	switch {
	case grant != nil:
		if refusal := g.list.judge(grant, r); refusal != nil {
			return nil, refusal
		}
	case denied: // whatever the source answered
		return nil, byToken.refusal("token", "")
	}
	return grant, err
}

// Notify implements [authz.Notifier] if the next Authorizer does.
func (g guarded) Notify(ctx context.Context, revoked func(authz.Revocation)) error {
	n, ok := g.next.(authz.Notifier)
	if !ok {
		<-ctx.Done()
		return nil
	}
	return n.Notify(ctx, revoked)
}

// empty reports whether there are no denials, in which case no digest is needed.
func (l *List) empty() bool {
	l.mu.RLock()
	defer l.mu.RUnlock()
	return len(l.denials) == 0
}

// findToken returns the denial of the token of r if it is in force.
func (l *List) findToken(r authz.Request) (denial, bool) {
	if l.empty() {
		return denial{}, false
	}
	return l.find(authz.Revocation{TokenHash: r.Token.Hash()})
}

// find returns the denial of r if it is in force.
func (l *List) find(r authz.Revocation) (denial, bool) {
	l.mu.RLock()
	defer l.mu.RUnlock()
	d, ok := l.denials[r]
	return d, ok && time.Now().Before(d.until)
}

// judge returns an error if the grant that a source gave for r is denied.
func (l *List) judge(g *authz.Grant, r authz.Request) error {
	if l.empty() {
		return nil
	}
	for _, by := range []struct {
		name       string
		revocation authz.Revocation
	}{
		{"token", authz.Revocation{TokenHash: r.Token.Hash()}},
		{"token id", authz.Revocation{TokenID: g.TokenID}},
		{"subject", authz.Revocation{Subject: g.Subject}},
	} {
		d, denied := l.find(by.revocation)
		if !denied {
			continue
		}
		if d.follow {
			d = l.learn(by.revocation, g.Expires)
		}
		return d.refusal(by.name, g.Subject)
	}
	return nil
}

// learn extends the denial of r if it follows a token that expires at the given time, and
// returns the current denial. Once the expiry of a token is known, its source need not be asked
// any more.
func (l *List) learn(r authz.Revocation, end time.Time) denial {
	l.mu.Lock()
	defer l.mu.Unlock()
	d := l.denials[r]
	learned := denial{until: d.until, follow: r.TokenID != ""}
	if end.After(d.until) {
		learned.until = whole(end)
	}
	if learned != d {
		l.denials[r] = learned
		l.unsaved[r] = true
	}
	return learned
}

// refusal returns the denial of name. It must not be cached, because the denial may be ended
// early.
func (d denial) refusal(name, subject string) error {
	return &authz.Denial{
		Reason:  authz.Revoked,
		Detail:  "the " + name + " is denied until " + d.until.UTC().Format(time.RFC3339),
		Subject: subject,
		Keep:    authz.Keep{TTL: -1, Stale: -1},
	}
}
