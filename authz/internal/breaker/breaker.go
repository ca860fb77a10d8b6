// Package breaker protects a service that decides about tokens, over HTTP or in a database, from
// questions while it is down or has asked for a pause. Faults that one device or one address
// meets do not affect the others.
//
//	q := breaker.QuestionOf(&request, parts)
//	if err := b.Enter(ctx, q); err != nil {
//		return err // not asked
//	}
//	defer b.Leave(q)
//	... // ask
//	own := b.Record(q, breaker.Report{Verdict: breaker.Decided})
//
// The rules are in the comment of package tokenhttp, under "The service's health".
package breaker

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
	// Recently is how long an answer to one address shows that the service works.
	Recently = 10 * time.Second
)

// Question is a request as the breaker sees it. [QuestionOf] makes one.
type Question struct {
	key   [32]byte     // of the data about the device that is sent to the service
	from  netip.Prefix // the network it comes from
	known bool         // it was granted before
	probe *circuit     // the circuit whose probe this is, or nil
}

// QuestionOf returns the question for r to a service that is sent the given parts.
func QuestionOf(r *authz.Request, parts authz.Parts) *Question {
	token, password := r.Token.Hash(), r.Password.Hash()
	pair := authz.PairHash(r.Pair.Username, r.Pair.Password.Reveal())
	sum := sha256.New()
	for _, part := range []struct {
		shown bool
		text  string
	}{
		{true, string(token[:])},
		{!r.Pair.IsZero(), string(pair[:])},
		{parts&authz.PartClientID != 0, r.ClientID},
		{parts&authz.PartUsername != 0, r.Username},
		{parts&authz.PartPassword != 0, string(password[:])},
	} {
		if part.shown {
			_ = binary.Write(sum, binary.BigEndian, uint32(len(part.text)))
			_, _ = sum.Write([]byte(part.text))
		}
	}
	q := &Question{from: authz.Network(r.Addr.Addr()), known: r.Known}
	sum.Sum(q.key[:0])
	return q
}

// Verdict is what an answer, or the lack of one, shows about the service.
type Verdict int

// The verdicts.
const (
	Abandoned Verdict = iota // nothing: the caller gave up
	Decided                  // it works: a decision, or an answer that it is busy
	Answered                 // it works, but has no decision for this question
	Throttled                // it asks for a pause (429 of HTTP)
	Failing                  // it may be down: 5xx of HTTP, or no answer
)

// Report is the result of a question: Err is why there is no decision, and After is the pause
// that the service asked for, or 0.
type Report struct {
	Verdict Verdict
	Err     error
	After   time.Duration
}

// Breaker protects a service that is down or asked for a pause from questions. Faults of one
// device or address do not affect others.
//
// There is a circuit for all addresses, and one for each address that met faults. That of an
// address opens if several keys met faults there in a row, and that for all if several keys and
// several addresses did. A decision closes both. A Breaker is made by [New] and safe for
// concurrent use.
type Breaker struct {
	timeout time.Duration // of one question

	mu    sync.Mutex
	all   circuit
	each  *simplelru.LRU[netip.Prefix, *circuit]
	keys  *simplelru.LRU[[32]byte, keyPause]
	works visits // addresses that got decisions
	fails visits // addresses that met faults

	outage outage
}

// keyPause says until when a key is not asked about, and why.
type keyPause struct {
	until time.Time
	err   error
	busy  bool // the service asked for it (429), so that it applies to known keys, too
}

// New returns a Breaker for a service that answers one question within timeout.
func New(timeout time.Duration) *Breaker {
	b := &Breaker{timeout: timeout}
	b.each, _ = simplelru.NewLRU[netip.Prefix, *circuit](maxRemembered, nil) // the size is not below one
	b.keys, _ = simplelru.NewLRU[[32]byte, keyPause](maxRemembered, nil)
	return b
}

// Enter returns nil if q may be asked now, and otherwise why not. It waits while another
// question is the probe. After nil, the caller asks q and then calls Record and Leave.
func (b *Breaker) Enter(ctx context.Context, q *Question) error {
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

// admit is like Enter but does not wait.
func (b *Breaker) admit(q *Question, now time.Time) (wait <-chan struct{}, err error) {
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
		return nil, ErrPaused
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
	case now.Before(c.quiet), now.Sub(own.tried) < TryEvery, c == &b.all && !c.allow(now):
		return nil, fmt.Errorf("not asked after too many faults; the last one was: %w", c.why)
	}
	b.circuitOf(q.from).tried = now
	return nil, nil
}

// ErrPaused is the answer to questions that are not asked because of a pause.
var ErrPaused = fmt.Errorf("%w: it asked for a pause", authz.ErrBusy)

// circuitOf returns the circuit of an address. It creates one if there is none.
func (b *Breaker) circuitOf(from netip.Prefix) *circuit {
	c, ok := b.each.Get(from)
	if !ok {
		c = &circuit{}
		b.each.Add(from, c)
	}
	return c
}

// Record counts the result of q. It reports whether the fault lies in q itself, because the
// service answers other addresses.
func (b *Breaker) Record(q *Question, r Report) (own bool) {
	now := time.Now()
	b.mu.Lock()
	defer b.mu.Unlock()
	switch r.Verdict {
	case Decided:
		b.outage = outage{}
		b.works.add(q.from, now)
		b.keys.Remove(q.key)
		b.reset(q.from, now)
	case Answered:
		b.reset(q.from, now)
	case Throttled:
		b.pause(q, r, now)
	case Failing:
		b.fault(q, r, now)
	}
	if r.Verdict != Answered && r.Verdict != Failing {
		return false
	}
	b.fails.add(q.from, now)
	works, fails := b.works.other(q.from), b.fails.other(q.from)
	own = now.Sub(works) < Recently && works.After(fails)
	if !own {
		b.outage.fault(q, r, now)
	}
	return own
}

// Leave ends q's role as a probe, whatever its result was.
func (b *Breaker) Leave(q *Question) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if q.probe != nil {
		close(q.probe.probing)
		q.probe.probing, q.probe = nil, nil
	}
}

// reset closes the circuits after an answer to an address.
func (b *Breaker) reset(from netip.Prefix, now time.Time) {
	b.all.reset()
	if c, ok := b.each.Peek(from); ok {
		c.reset()
		if !now.Before(c.paused) {
			b.each.Remove(from)
		}
	}
}

// pause stores the pause for q. It applies to all questions of the address, or of all
// addresses, once Threshold of them got the same answer.
func (b *Breaker) pause(q *Question, r Report, now time.Time) {
	if r.After > 0 {
		b.keys.Add(q.key, keyPause{until: now.Add(r.After), err: ErrPaused, busy: true})
	}
	after := r.After
	if after == 0 {
		after = TryEvery
	}
	own := b.circuitOf(q.from)
	if keys, _ := own.spares.add(q); keys == Threshold {
		own.paused, own.spares = now.Add(after), streak{}
	}
	if keys, froms := b.all.spares.add(q); keys == Threshold && froms == Threshold {
		b.all.paused, b.all.spares = now.Add(after), streak{}
	}
}

// fault counts a fault of the service.
func (b *Breaker) fault(q *Question, r Report, now time.Time) {
	quiet := now.Add(r.After)
	if r.After > 0 {
		b.keys.Add(q.key, keyPause{until: quiet, err: r.Err})
	}
	own := b.circuitOf(q.from)
	own.tried = now
	if keys, _ := own.faults.add(q); keys == Threshold {
		own.trip(r.Err, quiet)
	}
	if keys, froms := b.all.faults.add(q); keys == Threshold && froms == Threshold {
		b.all.trip(r.Err, quiet)
	}
	if q.probe != nil {
		q.probe.failed = now
	}
}

// State returns the state of the circuit for all addresses: closed, half-open or open.
func (b *Breaker) State() string {
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
