package service

import (
	"context"
	"errors"
	"slices"
	"strings"
	"time"

	"go.uber.org/zap"

	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/cmd/internal/config"
	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/proxy"
)

// generation is everything that one configuration decides about. It is built beside
// the one in force, shares with it whatever both say alike, and does not change once
// it is in force itself.
//
// A part that is replaced ends its goroutines and sockets, but goes on answering:
// connections that are on their way when the swap comes keep the policy they began
// with.
type generation struct {
	config    *config.Config
	inputs    inputs
	loaded    time.Time
	listeners []*listener
	admin     adminSide
	sources   *sources
	upstream  *brokers // nil with the bundled broker
	policy    *proxy.Policy
}

// emptyGeneration is in force before the first one.
func emptyGeneration() *generation {
	return &generation{config: new(config.Config), sources: new(sources)}
}

// draft is a generation in the making.
type draft struct {
	*generation
	service *Service
	old     *generation // in force meanwhile
}

// prepare is the half of a change that can fail: it makes the generation that c
// describes, and leaves everything that is in force as it is.
func (s *Service) prepare(ctx context.Context, c *config.Config) (*generation, error) {
	d := &draft{generation: &generation{config: c, inputs: inputs{}}, service: s, old: s.current.Load()}
	for _, step := range []func(context.Context) error{
		d.openListeners, d.openAdmin, d.openSources, d.openUpstream, d.makePolicy,
	} {
		if err := step(ctx); err != nil {
			d.generation.retire(d.old)
			return nil, err
		}
	}
	return d.generation, nil
}

// fault says that what a key asks for cannot be had, and where the key is.
func (g *generation) fault(key string, err error) error {
	return &config.Error{Faults: []config.Fault{g.config.Fault(key, textOf(err))}}
}

// textOf puts an error into one line, empty for none.
func textOf(err error) string {
	if err == nil {
		return ""
	}
	return strings.ReplaceAll(err.Error(), "\n", "; ")
}

// install is the half that cannot fail, but for a policy that lacks a part, which
// would be a bug and is found before anything has changed: it puts g into force and
// ends what only the generation before had.
func (s *Service) install(g *generation) error {
	s.swap.Lock()
	defer s.swap.Unlock()
	if err := s.server.SetPolicy(g.policy); err != nil {
		return err
	}
	g.loaded = time.Now()
	old := s.current.Swap(g)
	s.setLevel(g.config.Log.Level)
	s.Log.Pace(g.config.Log.LinesPerSecond)
	for _, l := range g.listeners {
		s.observer.Expect(l.config.Name)
		l.adopt()
		if was := old.listenerAt(l.config.Address, l.nth); was == nil || was.identity != l.identity {
			s.warnOfRSA(l)
		}
	}
	g.sources.begin(s)
	g.upstream.succeed(old.upstream, s)
	if old.policy != nil {
		s.serveSockets(g)
		s.holdSessions(old, g)
	}
	old.retire(g)
	return nil
}

// setLevel makes the log as talkative as the config wants it, whose levels are those
// of zap.
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
	if g.sources != nil {
		g.sources.retire(next.sources)
	}
	g.upstream.retire(next.upstream)
}

// errEnded is why there is no reload.
var errEnded = errors.New("the proxy is shutting down")
