package breaker

import "time"

// outage is the time since which a service decides nothing.
type outage struct {
	since time.Time
	err   error  // the last fault; nil if the service decides
	odd   streak // keys about which it answered and decided nothing
}

// fault counts a question without a decision. An answer that decides nothing counts only once
// several keys got one, because a single device may send what the service cannot decide about.
func (o *outage) fault(q *Question, r Report, now time.Time) {
	if r.Verdict == Answered {
		if keys, _ := o.odd.add(q); keys < Threshold {
			return
		}
	}
	if o.err == nil {
		o.since = now
	}
	o.err = r.Err
}

// Down returns why the service decides nothing, and since when, or nil while it does or has not
// been asked. Pauses that the service asked for do not count.
func (b *Breaker) Down() (since time.Time, err error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.outage.since, b.outage.err
}
