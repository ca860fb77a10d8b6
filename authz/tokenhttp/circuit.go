package tokenhttp

import (
	"net/netip"
	"slices"
	"time"
)

const (
	// several is how many keys, and addresses, must meet a fault in a row before it
	// counts as the service's own. What fewer meet may be their own doing.
	several = 5
	// probeEvery is the time between two questions about known keys, and the time in
	// which [several] addresses may ask about unknown ones, while a circuit is open.
	probeEvery = time.Second
	// tryEvery is how long an address waits after a fault before it may ask about an
	// unknown key while a circuit is open.
	tryEvery = 5 * time.Second
)

// row is who met something since the last answer. Each key and each address counts
// once, and no more than several are remembered.
type row struct {
	keys  [][32]byte
	froms []netip.Prefix
}

// add counts q and returns how many keys and addresses there are.
func (r *row) add(q *question) (keys, froms int) {
	if len(r.keys) < several && !slices.Contains(r.keys, q.key) {
		r.keys = append(r.keys, q.key)
	}
	if len(r.froms) < several && !slices.Contains(r.froms, q.from) {
		r.froms = append(r.froms, q.from)
	}
	return len(r.keys), len(r.froms)
}

// circuit is what is known of the service's health, for all addresses or for one.
type circuit struct {
	faults row
	spares row       // those that the service asked to come back later
	paused time.Time // until which the service asked to be spared (429)

	open  bool
	why   error     // the last fault
	quiet time.Time // until which no unknown key is asked about (503)
	tried time.Time // when an unknown key was asked about, or met a fault
	tries int       // of all addresses, since tried

	probing chan struct{} // closed when the probe under way is over; nil without one
	failed  time.Time     // when a probe last met a fault
}

// trip opens c after a fault, or keeps it open.
func (c *circuit) trip(err error, quiet time.Time) {
	if !c.open {
		c.failed = time.Time{}
	}
	c.open, c.why, c.quiet = true, err, quiet
}

// reset closes c after an answer. A pause lasts: the answer may be older than it.
func (c *circuit) reset() {
	*c = circuit{paused: c.paused, probing: c.probing}
}

// allow reports whether one more of all addresses may ask about an unknown key.
func (c *circuit) allow(now time.Time) bool {
	if now.Sub(c.tried) >= probeEvery {
		c.tried, c.tries = now, 0
	}
	c.tries++
	return c.tries <= several
}

// probe says what becomes of a question about a known key while c is open. It is put
// if err and wait are nil, and is the probe then. Otherwise err is the fault that
// was met by a probe just now, or wait is closed when the one under way is over.
func (c *circuit) probe(q *question, now time.Time, timeout time.Duration) (wait <-chan struct{}, err error) {
	age := now.Sub(c.failed)
	switch {
	case age < probeEvery, c.probing != nil && age < probeEvery+timeout:
		return nil, c.why
	case c.probing != nil:
		return c.probing, nil
	}
	c.probing = make(chan struct{})
	q.probe = c
	return nil, nil
}
