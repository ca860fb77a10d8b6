package breaker

import "time"

// outage records since when a service has not decided anything.
type outage struct {
	since time.Time
	err   error  // the last fault; nil if the service decides
	odd   streak // keys about which it answered without a decision
}

// fault counts a question without a decision. An answer without a decision counts only once several
// keys have got one, because a single device may send something that the service cannot decide
// about.
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

// Down returns why the service does not decide, and since when. It returns nil while the service
// decides or has not been asked. Pauses that the service asked for do not count.
func (b *Breaker) Down() (since time.Time, err error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.outage.since, b.outage.err
}
