package service

import (
	"context"
	"maps"
	"slices"
	"strings"
	"time"

	"go.uber.org/zap"

	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/cmd/internal/config"
	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/cmd/internal/hooks"
	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/cmd/internal/host"
	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/proxy"
)

// generation is everything that one configuration decides about. It is built next to the
// one in force, shares with it the parts about which both configurations say the same, and
// does not change once it is in force itself.
//
// A part that is replaced ends its goroutines and sockets, but still answers: a connection
// that has begun keeps the policy with which it began.
type generation struct {
	config    *config.Config
	inputs    inputs
	loaded    time.Time
	listeners listeners
	admin     adminSide
	sources   *sources
	upstream  *brokers // nil with the bundled broker
	policy    *proxy.Policy

	credentials *credentials  // for the brokers
	hooks       *hooks.Target // nil if events go nowhere
}

// emptyGeneration is in force before the first one.
func emptyGeneration() *generation {
	return &generation{config: new(config.Config), sources: new(sources)}
}

// prepare is the part of a change that can fail: it makes the generation that p describes, and
// takes over what it has in common with old. It changes nothing that is in force.
func (s *Service) prepare(ctx context.Context, p *Plan, old *generation) (*generation, error) {
	g := newGeneration(p)
	if err := g.openSockets(old, s.Sockets); err != nil {
		return nil, g.discard(p, old, err)
	}
	if err := s.openBehind(ctx, g, p, old); err != nil {
		return nil, g.discard(p, old, err)
	}
	return g, nil
}

// prepareFirst is prepare at the start of the program. After the sockets it opens the bundled
// broker and creates the demo device of a first start, so that an address in use, which is the
// most common reason for a failed start, is found before either.
func (s *Service) prepareFirst(ctx context.Context, p *Plan) (*generation, error) {
	g, old := newGeneration(p), emptyGeneration()
	var err error
	if err = g.openSockets(old, s.Sockets); err != nil {
		return nil, g.discard(p, old, err)
	}
	if s.bundled, err = s.openBundled(ctx, p); err != nil {
		return nil, g.discard(p, old, err)
	}
	if s.demo, err = makeDemo(g); err != nil {
		return nil, g.discard(p, old, err)
	}
	if err = s.openBehind(ctx, g, p, old); err != nil {
		return nil, g.discard(p, old, err)
	}
	return g, nil
}

func newGeneration(p *Plan) *generation {
	return &generation{config: p.Config, inputs: maps.Clone(p.inputs), sources: new(sources)}
}

// openSockets opens the listeners and the admin side.
func (g *generation) openSockets(old *generation, inherited host.Sockets) (err error) {
	bind := binder{config: g.config, old: old, inherited: inherited}
	if g.listeners, err = openListeners(g.config, old.listeners, bind); err != nil {
		return err
	}
	g.admin, err = openAdmin(g.config, old, bind)
	return err
}

// openBehind opens the parts behind the sockets of g: sources, brokers, policy.
func (s *Service) openBehind(ctx context.Context, g *generation, p *Plan, old *generation) (err error) {
	if g.sources, err = openSources(ctx, p, old.sources, s.denials, s.sourceEnv()); err != nil {
		return err
	}
	if g.upstream, err = openUpstream(p, old, s.poolTrace()); err != nil {
		return err
	}
	if g.hooks, err = hookTarget(p.Config, s.Version, g.inputs); err != nil {
		return err
	}
	g.credentials = p.credentials
	g.policy = s.newPolicy(p, g.sources, g.upstream)
	maps.Copy(g.inputs, g.admin.inputs)
	maps.Copy(g.inputs, g.sources.inputs())
	return nil
}

// discard closes a generation that cannot be completed because of err, which it returns.
func (g *generation) discard(p *Plan, old *generation, err error) error {
	g.retire(old)
	p.Close()
	return err
}

// faultAt returns an error which says that a key of c cannot take effect, and where the key is.
func faultAt(c *config.Config, key string, err error) error {
	return &config.Error{Faults: []config.Fault{c.Fault(key, textOf(err))}}
}

// textOf returns the text of an error in one line, or "" for nil.
func textOf(err error) string {
	if err == nil {
		return ""
	}
	return strings.ReplaceAll(err.Error(), "\n", "; ")
}

// install is the part of a change that cannot fail: it puts g into force and ends the parts
// that only the previous generation had. Its error means that the policy lacks a part, which is
// a bug that is found before anything has changed.
func (s *Service) install(g *generation) error {
	s.swap.Lock()
	defer s.swap.Unlock()
	if err := s.server.SetPolicy(g.policy); err != nil {
		return err
	}
	g.loaded = time.Now()
	old := s.current.Swap(g)
	s.setLevel(g.config.Log.Level)
	s.Log.SetRate(g.config.Log.LinesPerSecond)
	s.observer.LogSessions(g.config.Log.Sessions)
	s.hooks.Set(g.hooks)
	s.observer.Refusals().SetLimit(g.config.Admin.Refusals)
	for _, l := range g.listeners {
		s.observer.Expect(l.config.Name)
		l.update()
		if was := old.listeners.at(l.config.Address, l.nth); was == nil || was.identity != l.identity {
			s.warnOfRSA(l.config.Name, l.identity)
		}
	}
	g.admin.update()
	g.sources.begin(s)
	g.upstream.begin(old.upstream, s)
	if old.policy != nil {
		s.serveSockets(g)
		s.reviewSessions(old, g)
	}
	old.retire(g)
	return nil
}

// setLevel sets the level of the log. The names of the levels are those of zap.
func (s *Service) setLevel(name string) {
	if level, err := zap.ParseAtomicLevel(name); err == nil {
		s.Level.SetLevel(level.Level())
	}
}

// retire ends the parts of g that next does not have.
func (g *generation) retire(next *generation) {
	for _, l := range g.listeners {
		if !slices.ContainsFunc(next.listeners, func(n *listener) bool { return n.socket == l.socket }) {
			l.socket.retire()
		}
	}
	if k := g.admin.socket; k != nil && k != next.admin.socket {
		k.retire()
	}
	g.sources.retire(next.sources)
	g.upstream.retire(next.upstream)
}
