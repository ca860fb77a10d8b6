package tokenhttp

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"net/netip"
	"sync"
	"time"

	"github.com/hashicorp/golang-lru/v2/simplelru"

	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/authz"
)

const (
	// maxRemembered is how many addresses that met faults, and how many keys with a pause, are
	// stored.
	maxRemembered = 10_000
	// recently is how long an answer to one address shows that the service works.
	recently = 10 * time.Second
)

// question is a request as the breaker sees it.
type question struct {
	key   [32]byte     // of the data about the device that is sent to the service
	from  netip.Prefix // the network it comes from
	known bool         // it was granted before
	probe *circuit     // the circuit whose probe this is, or nil
}

// questionOf returns the question for r to a service that is sent the given parts.
func questionOf(r *authz.Request, parts authz.Parts) *question {
	token, password := r.Token.Hash(), r.Password.Hash()
	sum := sha256.New()
	for _, part := range []struct {
		shown bool
		text  string
	}{
		{true, string(token[:])},
		{parts&authz.PartClientID != 0, r.ClientID},
		{parts&authz.PartUsername != 0, r.Username},
		{parts&authz.PartPassword != 0, string(password[:])},
	} {
		if part.shown {
			_ = binary.Write(sum, binary.BigEndian, uint32(len(part.text)))
			_, _ = sum.Write([]byte(part.text))
		}
	}
	q := &question{from: authz.Network(r.Addr.Addr()), known: r.Known}
	sum.Sum(q.key[:0])
	return q
}

// verdict is what an answer, or the lack of one, shows about the service.
type verdict int

const (
	abandoned verdict = iota // nothing: the caller gave up
	decided                  // it works: a decision, or an answer that it is busy
	answered                 // it works, but has no decision for this question
	throttled                // it asks for a pause (429)
	failing                  // it may be down: 5xx, or no answer
)

// report is the result of a question: err is why there is no decision, and after is the pause
// that the service asked for, or 0.
type report struct {
	verdict verdict
	err     error
	after   time.Duration
}

// breaker protects a service that is down or asked for a pause from questions. Faults of one
// device or address do not affect others.
//
// There is a circuit for all addresses, and one for each address that met faults. That of an
// address opens if several keys met faults there in a row, and that for all if several keys and
// several addresses did. A decision closes both.
type breaker struct {
	timeout time.Duration // of one question

	mu    sync.Mutex
	all   circuit
	each  *simplelru.LRU[netip.Prefix, *circuit]
	keys  *simplelru.LRU[[32]byte, keyPause]
	works visits // addresses that got decisions
	fails visits // addresses that met faults
}

// keyPause says until when a key is not asked about, and why.
type keyPause struct {
	until time.Time
	err   error
	busy  bool // the service asked for it (429), so that it applies to known keys, too
}

func newBreaker(timeout time.Duration) *breaker {
	b := &breaker{timeout: timeout}
	b.each, _ = simplelru.NewLRU[netip.Prefix, *circuit](maxRemembered, nil) // the size is not below one
	b.keys, _ = simplelru.NewLRU[[32]byte, keyPause](maxRemembered, nil)
	return b
}

// enter returns nil if q may be asked now, and otherwise why not. It waits while another
// question is the probe. After nil, the caller asks q and then calls record and leave.
func (b *breaker) enter(ctx context.Context, q *question) error {
	for {
		wait, err := b.admit(q, time.Now())
		if wait == nil {
			return err
		}
		select {
		case <-wait:
		case <-ctx.Done():
			return fmt.Errorf("%w: waited for the answer to another question: %w", authz.ErrBusy, ctx.Err())
		}
	}
}

// admit is like enter but does not wait.
func (b *breaker) admit(q *question, now time.Time) (wait <-chan struct{}, err error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if s, ok := b.keys.Peek(q.key); ok && now.Before(s.until) && (s.busy || !q.known) {
		return nil, s.err
	}
	own, ok := b.each.Peek(q.from)
	if !ok {
		own = &circuit{}
	}
	if now.Before(own.paused) || now.Before(b.all.paused) {
		return nil, errPaused
	}
	c := &b.all
	if !c.open {
		c = own
	}
	switch {
	case !c.open:
		return nil, nil
	case q.known:
		return c.probe(q, now, b.timeout)
	case now.Before(c.quiet), now.Sub(own.tried) < tryEvery, c == &b.all && !c.allow(now):
		return nil, fmt.Errorf("not asked after too many faults; the last one was: %w", c.why)
	}
	b.circuitOf(q.from).tried = now
	return nil, nil
}

// errPaused is the answer to questions that are not asked because of a pause.
var errPaused = fmt.Errorf("%w: it asked for a pause", authz.ErrBusy)

// circuitOf returns the circuit of an address. It creates one if there is none.
func (b *breaker) circuitOf(from netip.Prefix) *circuit {
	c, ok := b.each.Get(from)
	if !ok {
		c = &circuit{}
		b.each.Add(from, c)
	}
	return c
}

// record counts the result of q. It reports whether the fault lies in q itself, because the
// service answers other addresses.
func (b *breaker) record(q *question, r report) (own bool) {
	now := time.Now()
	b.mu.Lock()
	defer b.mu.Unlock()
	switch r.verdict {
	case decided:
		b.works.add(q.from, now)
		b.keys.Remove(q.key)
		b.reset(q.from, now)
	case answered:
		b.reset(q.from, now)
	case throttled:
		b.pause(q, r, now)
	case failing:
		b.fault(q, r, now)
	}
	if r.verdict != answered && r.verdict != failing {
		return false
	}
	b.fails.add(q.from, now)
	works, fails := b.works.other(q.from), b.fails.other(q.from)
	return now.Sub(works) < recently && works.After(fails)
}

// leave ends q's role as a probe, whatever its result was.
func (b *breaker) leave(q *question) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if q.probe != nil {
		close(q.probe.probing)
		q.probe.probing, q.probe = nil, nil
	}
}

// reset closes the circuits after an answer to an address.
func (b *breaker) reset(from netip.Prefix, now time.Time) {
	b.all.reset()
	if c, ok := b.each.Peek(from); ok {
		c.reset()
		if !now.Before(c.paused) {
			b.each.Remove(from)
		}
	}
}

// pause stores the pause for q. It applies to all questions of the address, or of all
// addresses, once threshold of them got the same answer.
func (b *breaker) pause(q *question, r report, now time.Time) {
	if r.after > 0 {
		b.keys.Add(q.key, keyPause{until: now.Add(r.after), err: errPaused, busy: true})
	}
	after := r.after
	if after == 0 {
		after = tryEvery
	}
	own := b.circuitOf(q.from)
	if keys, _ := own.spares.add(q); keys == threshold {
		own.paused, own.spares = now.Add(after), streak{}
	}
	if keys, froms := b.all.spares.add(q); keys == threshold && froms == threshold {
		b.all.paused, b.all.spares = now.Add(after), streak{}
	}
}

// fault counts a fault of the service.
func (b *breaker) fault(q *question, r report, now time.Time) {
	quiet := now.Add(r.after)
	if r.after > 0 {
		b.keys.Add(q.key, keyPause{until: quiet, err: r.err})
	}
	own := b.circuitOf(q.from)
	own.tried = now
	if keys, _ := own.faults.add(q); keys == threshold {
		own.trip(r.err, quiet)
	}
	if keys, froms := b.all.faults.add(q); keys == threshold && froms == threshold {
		b.all.trip(r.err, quiet)
	}
	if q.probe != nil {
		q.probe.failed = now
	}
}

// state returns the state of the circuit for all addresses: closed, half-open or open.
func (b *breaker) state() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	switch {
	case !b.all.open:
		return "closed"
	case b.all.probing != nil:
		return "half-open"
	}
	return "open"
}

// visits has the last two addresses that had an event, and the times. For any address they give
// the time of the last event of another one.
type visits [2]struct {
	from netip.Prefix
	at   time.Time
}

func (v *visits) add(from netip.Prefix, now time.Time) {
	if v[0].from != from {
		v[1], v[0].from = v[0], from
	}
	v[0].at = now
}

// other returns when the last event of an address other than from was, or the zero time if
// there was none.
func (v *visits) other(from netip.Prefix) time.Time {
	if v[0].from == from {
		return v[1].at
	}
	return v[0].at
}
