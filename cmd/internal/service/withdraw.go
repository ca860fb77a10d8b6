package service

import (
	"errors"
	"fmt"
	"sync"
	"time"

	"go.uber.org/zap"

	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/authz"
	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/authz/denylist"
	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/cmd/internal/admin"
	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/proxy"
)

// withdraw is what the admin side asks for when it withdraws a token: it denies it, if
// that is asked for, and makes the caches forget it.
func (s *Service) withdraw(w admin.Withdrawal) (entries int, err error) {
	s.swap.RLock()
	defer s.swap.RUnlock()
	if w.Deny {
		until, follow := w.Until, false
		if until.IsZero() {
			until, follow = s.denyUntil(w.Revocation, time.Now()), true
		}
		switch err := s.denials.Deny(w.Revocation, until, follow); {
		case errors.Is(err, denylist.ErrFull):
			return 0, fmt.Errorf("%w: %w; withdraw the token where it comes from, or end another denial by one of the same name with an until that is near", admin.ErrFull, err)
		case err != nil:
			return 0, err
		}
	}
	entries = s.current.Load().sources.forget(w.Revocation)
	s.counters.revocations.WithLabelValues("admin").Inc()
	s.Log.Info("revoked", zap.String("by", "admin"), zap.String("token_id", w.TokenID), zap.String("subject", w.Subject),
		zap.Bool("deny", w.Deny), zap.Int("entries", entries))
	return entries, nil
}

// denyFor is how long a denial holds that nothing gives an end.
const denyFor = 24 * time.Hour

// denyUntil returns until when to deny what r names if the operator does not say: the
// end of the tokens that live sessions have, or a day. A subject may get other tokens,
// so it is denied for a day at least.
func (s *Service) denyUntil(r authz.Revocation, now time.Time) time.Time {
	var last time.Time
	for c := range s.server.Clients() {
		switch {
		case !r.Matches(c.Grant, c.TokenHash):
		case c.Grant.Expires.IsZero():
			return now.Add(denyFor)
		case c.Grant.Expires.After(last):
			last = c.Grant.Expires
		}
	}
	if day := now.Add(denyFor); last.IsZero() || r.Subject != "" && last.Before(day) {
		return day
	}
	return last
}

// withdrawals are revocations that a source has reported and whose sessions are still to
// end. Each search for sessions looks at all of them, so those that come meanwhile wait
// for the next search together: the withdrawal of a fleet takes two.
type withdrawals struct {
	mu      sync.Mutex
	waiting []authz.Revocation
	news    chan struct{} // has one element if some may be waiting; closed in the end
}

func newWithdrawals() *withdrawals { return &withdrawals{news: make(chan struct{}, 1)} }

// add is for authz.Notifier. It must not be called after end.
func (w *withdrawals) add(r authz.Revocation) {
	w.mu.Lock()
	w.waiting = append(w.waiting, r)
	w.mu.Unlock()
	select {
	case w.news <- struct{}{}:
	default:
	}
}

// end makes deliver return once nothing is waiting.
func (w *withdrawals) end() { close(w.news) }

// deliver hands out what is waiting, until the end.
func (w *withdrawals) deliver(revoke func([]authz.Revocation)) {
	for range w.news {
		w.mu.Lock()
		all := w.waiting
		w.waiting = nil
		w.mu.Unlock()
		if len(all) > 0 {
			revoke(all)
		}
	}
}

// revoke ends the sessions of what a source no longer grants.
func (s *Service) revoke(all []authz.Revocation) {
	meant := make(map[authz.Revocation]bool, len(all))
	for _, r := range all {
		meant[r] = true
	}
	delete(meant, authz.Revocation{}) // names nothing, and would mean every grant without an id
	n := s.server.Kick(func(c *proxy.Client) bool {
		return meant[authz.Revocation{TokenID: c.Grant.TokenID}] || meant[authz.Revocation{Subject: c.Grant.Subject}] || meant[authz.Revocation{TokenHash: c.TokenHash}]
	}, proxy.ErrRevoked)
	s.counters.revocations.WithLabelValues("source").Add(float64(len(all)))
	if len(all) > 1 {
		s.Log.Info("revoked", zap.Int("tokens", len(all)), zap.Int("sessions", n))
		return
	}
	s.Log.Info("revoked", zap.String("token_id", all[0].TokenID), zap.String("subject", all[0].Subject), zap.Int("sessions", n))
}
