package service

import (
	"errors"
	"slices"
	"time"

	"go.uber.org/zap"

	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/authz"
	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/cmd/internal/observe"
	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/proxy"
	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/proxy/upstream"
)

// recheckTime is the time over which the sources are asked about the live sessions after a
// change.
const recheckTime = time.Minute

// reviewSessions ends the live sessions that the new generation would not accept, if its
// listeners or sources have changed. Sources that know their tokens themselves decide at once.
// The others are asked over the next minute if rechecks are configured. Connections whose token
// is being checked are not missed, because currentSources asks the new sources about them.
func (s *Service) reviewSessions(old, now *generation) {
	if old.sources != now.sources {
		if n := s.server.Kick(now.sources.withdrawn(old.sources), proxy.ErrRevoked); n > 0 {
			s.Log.Warn("the new token sources do not confirm these sessions", zap.Int("sessions", n))
		}
	}
	if !slices.Equal(old.listeners, now.listeners) {
		s.reviewCertificates()
	}
	if old.sources != now.sources || old.config.Auth.Recheck != now.config.Auth.Recheck {
		s.server.Recheck(recheckTime)
	}
}

// recheckSoon asks the sources again about the live sessions, after a source may have missed
// changes. It takes ten seconds, or longer if so many sessions would overload the source.
func (s *Service) recheckSoon() {
	const least, each = 10 * time.Second, time.Second / 2000
	s.server.Recheck(max(least, time.Duration(s.server.Stats().Sessions)*each))
}

// withdrawn returns a function that reports whether a session that began under old must end
// under s, as far as that is known without asking a service or an issuer. It must end
//   - if the first source that knows the token does not confirm it,
//   - if no source can know the token, or
//   - if the token was known to a source of old that is gone.
func (s *sources) withdrawn(old *sources) func(*proxy.Client) bool {
	var gone []confirmer
	for _, x := range old.list {
		if m, ok := find[confirmer](x.source); ok && !slices.Contains(s.list, x) {
			gone = append(gone, m)
		}
	}
	knownToGone := func(c *proxy.Client) bool {
		return slices.ContainsFunc(gone, func(m confirmer) bool {
			known, _ := m.Confirms(c.TokenHash, c.Grant)
			return known
		})
	}
	return func(c *proxy.Client) bool {
		for _, x := range s.list {
			m, ok := find[confirmer](x.source)
			if !ok {
				return knownToGone(c) // x may know the token
			}
			if known, good := m.Confirms(c.TokenHash, c.Grant); known {
				return !good
			}
		}
		return true
	}
}

// reviewCertificates ends the live sessions whose client certificates the current listeners no
// longer accept.
func (s *Service) reviewCertificates() {
	in := s.current.Load()
	if n := s.server.Kick(func(c *proxy.Client) bool { return in.checkCertificate(c) != nil }, proxy.ErrRevoked); n > 0 {
		s.Log.Info("sessions ended with their client certificates", zap.Int("sessions", n))
	}
}

// errCertificate is why a session ends if its client certificate is no longer accepted.
var errCertificate = errors.New("the client certificate has been revoked, or its authority is no longer accepted")

// checkCertificate returns an error if the client's listener, in its current form, does not
// accept the client's certificate. If the listener no longer exists or has another name, the
// certificate is refused if the revocation lists of any listener revoke it.
func (g *generation) checkCertificate(c *proxy.Client) error {
	chains := c.VerifiedChains()
	if len(chains) == 0 {
		return nil
	}
	var named, accepted, revoked bool
	for _, l := range g.listeners {
		if l.identity == nil {
			continue
		}
		revoked = revoked || l.identity.source.Revokes(chains)
		if l.config.Name == c.Listener {
			named, accepted = true, accepted || l.identity.source.Accepts(chains)
		}
	}
	if named && !accepted || !named && revoked {
		return errCertificate
	}
	return nil
}

// cutSessions ends the sessions on a broker that no longer answers, so that their devices
// reconnect and get another broker.
func (s *Service) cutSessions(server upstream.Server) {
	name := server.String()
	n := s.server.Kick(func(c *proxy.Client) bool { return c.Server == name }, proxy.ErrUpstreamLost)
	s.Log.Warn("ended the sessions on a broker that no longer answers", zap.String("server", name), zap.Int("sessions", n))
}

// revoked counts and logs what a source has revoked. The proxy has ended the sessions.
func (s *Service) revoked(all []authz.Revocation, sessions int) {
	s.observer.Revoked(observe.BySource, len(all))
	s.shareRevoked(all)
	if len(all) > 1 {
		s.Log.Info("revoked", zap.Int("tokens", len(all)), zap.Int("sessions", sessions))
		return
	}
	s.Log.Info("revoked", withdrawnField(all[0]), zap.Int("sessions", sessions))
}

// withdrawnField returns the log field for the tokens that r names.
func withdrawnField(r authz.Revocation) zap.Field {
	switch r = r.Canonical(); {
	case r.TokenID != "":
		return zap.String("token_id", r.TokenID)
	case r.Subject != "":
		return zap.String("subject", r.Subject)
	}
	return zap.String("token", authz.FingerprintOf(r.TokenHash))
}
