package replicas

import (
	"time"

	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/authz"
)

const (
	// historyKept is how long withdrawals are kept for replicas that were cut off.
	historyKept = 24 * time.Hour
	// maxHistory is how many withdrawals are kept.
	maxHistory = 100_000
)

// history has the latest withdrawals of all replicas.
type history struct {
	list  []Withdrawal // in the order in which they arrived
	known map[event]bool
}

// event identifies a withdrawal.
type event struct {
	authz.Revocation
	at int64
}

func eventOf(w Withdrawal) event { return event{w.Canonical(), w.At.UnixMilli()} }

// add adds a withdrawal and reports whether it was not known yet.
func (h *history) add(w Withdrawal, now time.Time) bool {
	if h.known == nil {
		h.known = make(map[event]bool)
	}
	if h.known[eventOf(w)] {
		return false
	}
	h.trim(now)
	w.Missed = false
	h.known[eventOf(w)] = true
	h.list = append(h.list, w)
	return true
}

// trim removes what is too old, and what is too much for one more.
func (h *history) trim(now time.Time) {
	n := 0
	for n < len(h.list) && (len(h.list)-n >= maxHistory || now.Sub(h.list[n].At) > historyKept) {
		delete(h.known, eventOf(h.list[n]))
		n++
	}
	h.list = h.list[n:]
}

// since returns the withdrawals from that time on, by the clocks of their replicas.
func (h *history) since(t time.Time) (found []Withdrawal) {
	for _, w := range h.list {
		if !w.At.Before(t) {
			found = append(found, w)
		}
	}
	return found
}

// lifted returns those of the given denials that were replaced by one that has ended.
func (h *history) lifted(denials []Withdrawal, now time.Time) map[authz.Revocation]bool {
	asked := make(map[authz.Revocation]bool, len(denials))
	for _, d := range denials {
		asked[d.Canonical()] = false
	}
	for _, w := range h.list {
		r := w.Canonical()
		if _, ok := asked[r]; ok && !w.Until.IsZero() {
			asked[r] = !now.Before(w.Until)
		}
	}
	return asked
}
