package breaker

import (
	"net/netip"
	"slices"
	"time"
)

const (
	// Threshold is how many keys, and addresses, must meet a fault in a row before it counts as
	// the service's. Fewer may have caused it themselves.
	Threshold = 5
	// ProbeEvery is the time between two questions about known keys, and the time in which
	// [Threshold] addresses may ask about unknown ones, while a circuit is open.
	ProbeEvery = time.Second
	// TryEvery is how long an address waits after a fault before it may ask about an unknown
	// key while a circuit is open.
	TryEvery = 5 * time.Second
)

// streak has the keys and addresses with the same event since the last answer. Each counts
// once, and at most Threshold are stored.
type streak struct {
	keys  [][32]byte
	froms []netip.Prefix
}

// add counts q and returns the numbers of keys and addresses.
func (r *streak) add(q *Question) (keys, froms int) {
	if len(r.keys) < Threshold && !slices.Contains(r.keys, q.key) {
		r.keys = append(r.keys, q.key)
	}
	if len(r.froms) < Threshold && !slices.Contains(r.froms, q.from) {
		r.froms = append(r.froms, q.from)
	}
	return len(r.keys), len(r.froms)
}

// circuit is the state of the service's health, for all addresses or for one.
type circuit struct {
	faults streak
	spares streak    // keys and addresses that got 429
	paused time.Time // the end of the pause that the service asked for (429)

	open  bool
	why   error     // the last fault
	quiet time.Time // until when no unknown key is asked about (503)
	tried time.Time // when an unknown key was asked about, or met a fault
	tries int       // of all addresses, since tried

	probing chan struct{} // closed when the current probe has ended; nil without one
	failed  time.Time     // when a probe last met a fault
}

// trip opens c after a fault, or keeps it open.
func (c *circuit) trip(err error, quiet time.Time) {
	if !c.open {
		c.failed = time.Time{}
	}
	c.open, c.why, c.quiet = true, err, quiet
}

// reset closes c after an answer. A pause remains: the answer may be older than the pause.
func (c *circuit) reset() {
	*c = circuit{paused: c.paused, probing: c.probing}
}

// allow reports whether one more address may ask about an unknown key.
func (c *circuit) allow(now time.Time) bool {
	if now.Sub(c.tried) >= ProbeEvery {
		c.tried, c.tries = now, 0
	}
	c.tries++
	return c.tries <= Threshold
}

// probe decides about a question for a known key while c is open. If err and wait are nil, the
// question is the probe and may be asked. Otherwise err is the fault that a probe has just met,
// or wait is closed when the current probe has ended.
func (c *circuit) probe(q *Question, now time.Time, timeout time.Duration) (wait <-chan struct{}, err error) {
	age := now.Sub(c.failed)
	switch {
	case age < ProbeEvery, c.probing != nil && age < ProbeEvery+timeout:
		return nil, c.why
	case c.probing != nil:
		return c.probing, nil
	}
	c.probing = make(chan struct{})
	q.probe = c
	return nil, nil
}
