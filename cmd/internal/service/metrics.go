package service

import (
	"crypto/x509"
	"slices"
	"time"

	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/cmd/internal/observe"
	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/proxy/upstream/pool"
)

// metricState returns the state from which package observe makes the metrics.
func (s *Service) metricState() observe.State {
	return observe.State{
		Ready:        s.ready,
		Degraded:     s.degraded,
		LoginRefused: func() bool { refused, _ := s.login.state(); return refused != nil },
		Server:       s.server.Stats,
		Memory:       s.memory.Usage,
		Config: func() observe.Config {
			last := s.reloader.last.Load()
			return observe.Config{
				Fingerprint: s.current.Load().fingerprint(),
				ReloadGood:  last == nil || last.Outcome != observe.ReloadFailed,
				Succeeded:   *s.reloader.good.Load(),
			}
		},
		Certificates: func() []observe.Certificate { return s.current.Load().certificateEnds() },
		Brokers:      func() []pool.Status { return s.current.Load().upstream.poolStatus() },
		Sources: func(m observe.SourceMetrics) {
			m.Passwords(s.workers.Stats())
			s.current.Load().sources.collect(m)
		},
		Bundled:  s.bundledState,
		Replicas: s.replicasState,
		Presence: s.presenceState,
		Hooks:    s.hooksState,
	}
}

// certificateEnds returns when the certificates of each listener expire. If several listeners
// have the same name, the first counts.
func (g *generation) certificateEnds() (all []observe.Certificate) {
	seen := map[string]bool{}
	for _, own := range g.identities() {
		if !seen[own.listener] {
			all = append(all, observe.Certificate{
				Listener: own.listener, Server: firstEnd(own.source.Leaves()), ClientCA: firstEnd(own.source.ClientCAs()),
			})
		}
		seen[own.listener] = true
	}
	return all
}

// firstEnd returns the earliest expiry, or the zero time.
func firstEnd(all []*x509.Certificate) time.Time {
	if len(all) == 0 {
		return time.Time{}
	}
	return slices.MinFunc(all, func(a, b *x509.Certificate) int { return a.NotAfter.Compare(b.NotAfter) }).NotAfter
}

// poolStatus returns the state of each external broker.
func (b *brokers) poolStatus() []pool.Status {
	if b == nil {
		return nil
	}
	return b.pool.Status()
}

// collect makes the metrics of the sources.
func (s *sources) collect(m observe.SourceMetrics) {
	m.Throttled(s.guard.Stats().Throttled)
	up := s.status()
	for i, x := range s.list {
		of := m.Of(up[i].Name)
		of.Up(up[i].Up)
		x.Collect(of)
	}
}

func (s *Service) bundledState() (observe.Bundled, bool) {
	if s.bundled == nil {
		return observe.Bundled{}, false
	}
	b := s.bundled
	return observe.Bundled{Broker: b.broker.Stats(), Intake: b.intake.Stats(), Store: b.store.Stats(), Writable: b.store.Writable() == nil}, true
}
