package replicas

import (
	"context"
	"time"
)

const (
	// askPause is the shortest time between two attempts to catch up.
	askPause = 5 * time.Second
	// silence is how long a connection may have been dead before that is noticed.
	silence = 15 * time.Second
)

// catchUp is what is known about missed messages. Replicas.mu guards it.
type catchUp struct {
	due    bool
	forget bool      // with due: forget all answers before asking the others
	since  time.Time // messages may be missing from then on; zero for all
	last   time.Time // when this replica last caught up or asked
	down   time.Time // when the last connection was lost; zero before the first
	up     time.Time // when the first connection after that came up
}

// covered reports whether messages of a replica that was last heard at that time are missing only
// because there was no connection: all answers are forgotten after that anyway.
func (c *catchUp) covered(heard, now time.Time) bool {
	return heard.Before(c.up) && now.Sub(c.up) < 3*beat
}

// missed makes the replica ask the others soon. If forget is true, it forgets all answers of token
// sources before that. r.mu is held.
func (r *Replicas) missed(since time.Time, forget bool) {
	c := &r.catchUp
	c.forget = c.forget || forget
	if !c.due || since.Before(c.since) {
		c.since = since
	}
	c.due = true
	signal(r.wake)
}

// recoverIfDue catches up if messages were missed and the last time is long enough ago.
func (r *Replicas) recoverIfDue(now time.Time) {
	r.mu.Lock()
	c := &r.catchUp
	due := c.due && now.Sub(c.last) >= askPause && r.connected()
	since, forget := c.since, c.forget
	first := c.last.IsZero() // then there is little to forget, and nothing to tell
	if due {
		c.due, c.forget, c.last = false, false, now
	}
	r.mu.Unlock()
	if !due {
		return
	}
	if forget && !first {
		r.options.Log.Warn("messages of other replicas were missed: all answers of token sources are forgotten, and live sessions are checked again")
	}
	if forget {
		r.applying.Lock()
		r.options.Recover()
		r.applying.Unlock()
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if forget && !first {
		r.stats.CatchUps++
	}
	ask := int64(0)
	if !since.IsZero() {
		ask = since.UnixMilli()
	}
	r.send(message{Ask: &ask})
}

// hearAsk has the instance answered.
func (r *Replicas) hearAsk(instance string, since time.Time) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if before, ok := r.asks[instance]; !ok || since.Before(before) {
		r.asks[instance] = since
	}
	signal(r.asked)
}

// answer answers those that ask, until ctx is done.
func (r *Replicas) answer(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-r.asked:
		}
		r.mu.Lock()
		asks := r.asks
		r.asks = make(map[string]time.Time)
		r.mu.Unlock()
		for instance, since := range asks {
			r.answerOne(ctx, instance, since)
		}
	}
}

// answerOne sends what was withdrawn since that time and the denials in force. It fills the
// queues no more than half, so that what is new has room.
func (r *Replicas) answerOne(ctx context.Context, instance string, since time.Time) {
	r.mu.Lock()
	missed := entries(r.history.since(since.Add(-MaxSkew)))
	r.mu.Unlock()
	for part := range parts(missed, r.codec.content()) {
		if !r.sendSlowly(ctx, message{To: instance, Withdraw: part}) {
			return
		}
	}
	for part := range parts(entries(r.options.Denials()), r.codec.content()) {
		if !r.sendSlowly(ctx, message{To: instance, Denials: part}) {
			return
		}
	}
}

func entries(all []Withdrawal) []entry {
	list := make([]entry, 0, len(all))
	for _, w := range all {
		list = append(list, entryOf(w))
	}
	return list
}

// sendSlowly sends a message when there is much room. It returns false when ctx is done.
func (r *Replicas) sendSlowly(ctx context.Context, m message) bool {
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for !r.queuesBelow(r.queueLength() / 2) {
		select {
		case <-ctx.Done():
			return false
		case <-tick.C:
		}
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.send(m)
	return ctx.Err() == nil
}

// takeAnswer puts into force what this replica has missed.
func (r *Replicas) takeAnswer(m message) {
	now := time.Now()
	var missed, denials []Withdrawal
	r.mu.Lock()
	for _, w := range withdrawals(m.Withdraw) {
		if r.history.add(w, now) {
			w.Missed = true
			missed = append(missed, w)
		}
	}
	all := withdrawals(m.Denials)
	lifted := r.history.lifted(all, now)
	for _, d := range all {
		if !lifted[d.Canonical()] && now.Before(d.Until) {
			denials = append(denials, d)
		}
	}
	r.mu.Unlock()
	if len(missed) > 0 {
		r.options.Apply(missed)
	}
	if len(denials) > 0 {
		r.options.Adopt(denials)
	}
}
