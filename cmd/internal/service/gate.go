package service

import (
	"context"
	"slices"
	"time"

	"go.uber.org/zap"

	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/authz"
	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/authz/tokenfile"
	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/proxy"
)

// gate asks whichever sources are in force, whatever the policy by which a
// connection came. An answer of sources that are replaced meanwhile does not count:
// nobody would hear any more that it is withdrawn.
type gate struct{ *Service }

// Authorize implements authz.Authorizer.
func (g gate) Authorize(ctx context.Context, r authz.Request) (*authz.Grant, error) {
	for {
		s := g.current.Load().sources
		grant, err := s.guard.Authorize(ctx, r)
		if g.current.Load().sources == s {
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
	gone := slices.DeleteFunc(old.files(), func(f *tokenfile.File) bool { return slices.Contains(s.files(), f) })
	return func(c *proxy.Client) bool {
		for _, x := range s.list {
			if x.file == nil {
				return slices.ContainsFunc(gone, func(f *tokenfile.File) bool {
					known, _ := f.Confirms(c.TokenHash, c.Grant)
					return known
				})
			}
			if known, good := x.file.Confirms(c.TokenHash, c.Grant); known {
				return !good
			}
		}
		return true
	}
}
