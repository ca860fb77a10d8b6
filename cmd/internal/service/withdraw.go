package service

import (
	"errors"
	"fmt"
	"time"

	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/authz"
	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/authz/denylist"
	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/cmd/internal/admin"
	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/cmd/internal/observe"
	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/cmd/internal/replicas"
)

// withdraw performs a withdrawal by the admin side: it denies the token if the request asks for
// that, and makes the sources forget their answers about it. It returns how many stored answers
// there were.
func (s *Service) withdraw(w admin.Withdrawal) (entries int, err error) {
	s.swap.RLock()
	defer s.swap.RUnlock()
	shared := replicas.Withdrawal{Revocation: w.Revocation}
	if w.Deny {
		until, follow := w.Until, false
		if until.IsZero() {
			until, follow = s.denyUntil(w.Revocation, time.Now()), true
		}
		switch err := s.denials.Deny(w.Revocation, until, follow); {
		case errors.Is(err, denylist.ErrFull):
			return 0, fmt.Errorf("%w: %w; withdraw the token at its source, or end another denial by replacing it with one that ends soon", admin.ErrFull, err)
		case err != nil:
			return 0, err
		}
		shared.Until, shared.Follow = until, follow
	}
	s.replicas.Withdraw(shared)
	entries = s.current.Load().sources.forget(w.Revocation)
	s.observer.Revoked(observe.ByAdmin, 1)
	return entries, nil
}

// denyFor is how long a denial lasts if nothing determines its end.
const denyFor = 24 * time.Hour

// denyUntil returns until when to deny what r names if the operator does not say: until the
// last token of the live sessions expires, or for a day if there are none. The denial of a
// subject lasts at least a day, because the subject may get other tokens.
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
