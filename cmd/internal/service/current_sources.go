package service

import (
	"context"
	"slices"
	"time"

	"go.uber.org/zap"

	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/authz"
	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/proxy"
)

// currentSources asks the sources that are in force now, also for a connection that began
// under an earlier policy. If the sources are replaced during the call it asks again: the
// old ones no longer report revocations.
type currentSources struct{ *Service }

// Authorize implements authz.Authorizer.
func (c currentSources) Authorize(ctx context.Context, r authz.Request) (*authz.Grant, error) {
	for {
		s := c.current.Load().sources
		grant, err := s.guard.Authorize(ctx, r)
		if c.current.Load().sources == s {
			return grant, err
		}
	}
}

// askWithin is the time over which live sessions are asked about after a change.
const askWithin = time.Minute

// holdSessions holds the sessions that live against listeners and sources that have taken
// the place of others. Token files are asked at once and without the token, those that
// only the token could be shown to as far as sessions are asked about at all.
// Connections whose token is being checked are meant too: the gate has shut behind
// the old sources by now.
func (s *Service) holdSessions(old, now *generation) {
	if old.sources != now.sources {
		if n := s.server.Kick(now.sources.withdrawn(old.sources), proxy.ErrRevoked); n > 0 {
			s.Log.Warn("the new token sources do not confirm these sessions", zap.Int("sessions", n))
		}
	}
	if !slices.Equal(old.listeners, now.listeners) {
		s.holdCertificates()
	}
	if old.sources != now.sources || old.config.Auth.Recheck != now.config.Auth.Recheck {
		s.server.Recheck(askWithin)
	}
}

// withdrawn returns which sessions that began under old may not go on under s, as far
// as that can be told without asking a service or an issuer: those that the first
// token file to know the token does not confirm, and those whose token no source is
// left to know, or whose token was that of a file which is gone.
func (s *sources) withdrawn(old *sources) func(*proxy.Client) bool {
	var gone []confirmer
	for _, x := range old.list {
		if m, ok := find[confirmer](x.source); ok && !slices.Contains(s.list, x) {
			gone = append(gone, m)
		}
	}
	return func(c *proxy.Client) bool {
		for _, x := range s.list {
			m, ok := find[confirmer](x.source)
			if !ok {
				return slices.ContainsFunc(gone, func(m confirmer) bool {
					known, _ := m.Confirms(c.TokenHash, c.Grant)
					return known
				})
			}
			if known, good := m.Confirms(c.TokenHash, c.Grant); known {
				return !good
			}
		}
		return true
	}
}
