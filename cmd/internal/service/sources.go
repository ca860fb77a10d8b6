package service

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strconv"

	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/authz"
	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/authz/denylist"
	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/authz/guard"
	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/cmd/internal/config"
	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/cmd/internal/task"
)

// sources are the token sources of a generation, in the order in which they are asked, behind
// the list of denials and one guard. Generations with the same sources in the same order and
// the same guard share one value.
type sources struct {
	list    []*usedSource
	guard   *guard.Guard
	guarded config.Guard // the config from which guard was made
}

// usedSource is a source with the recipe from which it was made. It lasts as long as some
// generation in force has it, so that its cached answers and pending revocations survive
// changes in other parts of the configuration.
type usedSource struct {
	source
	kind   string
	recipe recipe

	stop    context.CancelFunc // nil until the source is watched
	watched chan struct{}      // closed when it is no longer watched
}

// recipe is everything from which a source is made. Only sources with equal recipes are the
// same source: a cached answer of one says nothing about another.
type recipe struct {
	source config.Source
	files  inputs // those that the source reads only when it is made
	// cache and guard are what stands before a source that remembers its answers.
	cache config.Cache
	guard config.Guard
}

// makeSource makes the source that c describes, without opening it.
func makeSource(c config.Source, whole *config.Config, version string) (*usedSource, error) {
	x := &usedSource{recipe: recipe{source: c, files: inputs{}}}
	var err error
	if x.kind, x.source, err = newSource(c, whole, version, x.recipe.files); err != nil {
		return x, err
	}
	if _, ok := find[rememberer](x.source); ok {
		x.recipe.cache, x.recipe.guard = whole.Auth.Cache, whole.Auth.Guard
	}
	return x, nil
}

// openSources opens the sources of the plan. It uses the sources of old if old has the same
// ones, with their cached answers. With an error it returns the sources that it has opened so
// far.
func openSources(ctx context.Context, p *Plan, old *sources, denials *denylist.List, env sourceEnv) (*sources, error) {
	s := &sources{guarded: p.Auth.Guard}
	for i, x := range p.sources {
		kept := old.like(x.recipe, s.list)
		if kept != nil {
			x.Close()
			s.list = append(s.list, kept)
			continue
		}
		if err := x.Open(ctx, env); err != nil {
			return s, faultAt(p.Config, sourceKey(i, x), err)
		}
		s.list = append(s.list, x)
	}
	sameGuard := old.guard != nil && reflect.DeepEqual(s.guarded, old.guarded)
	if sameGuard && slices.Equal(s.list, old.list) {
		return old, nil
	}
	all, memory := s.chains()
	if sameGuard {
		s.guard = old.guard.Before(denials.Before(all), denials.Before(memory))
	} else {
		s.guard = guard.New(denials.Before(all), guardOptions(p.Auth, denials.Before(memory)))
	}
	return s, nil
}

// sourceKey returns the key of a source in the configuration.
func sourceKey(i int, x *usedSource) string { return fmt.Sprintf("auth.sources[%d].%s", i, x.kind) }

// guardOptions returns the options of the guard in front of all sources. It stores as many
// granted tokens as the caches store grants. Its offline sources are the local sources at the
// beginning of the list.
func guardOptions(c config.Auth, memory authz.Authorizer) guard.Options {
	return guard.Options{
		Rate: float64(c.Guard.Rate), Burst: c.Guard.Burst, Exempt: networks(c.Guard.Exempt),
		Tokens: c.Cache.Size, Offline: memory,
	}
}

// like returns a source with that recipe that is not among those taken already, or nil if there
// is none.
func (s *sources) like(r recipe, taken []*usedSource) *usedSource {
	for _, x := range s.list {
		if reflect.DeepEqual(x.recipe, r) && !slices.Contains(taken, x) {
			return x
		}
	}
	return nil
}

// chains returns all sources, and the local ones at the beginning of the list.
func (s *sources) chains() (all, memory authz.Chain) {
	names, remote := s.names(), s.remote()
	for i, x := range s.list {
		var a authz.Authorizer = x
		_, answersFromMemory := find[local](x.source)
		if remote > 1 && !answersFromMemory {
			a = named{a, names[i] + hostOf(x)}
		}
		all = append(all, a)
		if answersFromMemory && len(memory) == i {
			memory = append(memory, a)
		}
	}
	return all, memory
}

// names returns the names of the sources in metrics and logs: the kind, and the position among
// the sources of that kind.
func (s *sources) names() []string {
	names, seen := make([]string, len(s.list)), map[string]int{}
	for i, x := range s.list {
		names[i] = x.kind + strconv.Itoa(seen[x.kind])
		seen[x.kind]++
	}
	return names
}

// remote returns how many sources are asked over a network.
func (s *sources) remote() (n int) {
	for _, x := range s.list {
		if _, ok := find[local](x.source); !ok {
			n++
		}
	}
	return n
}

// named adds the name of the source to its faults.
type named struct {
	authz.Authorizer
	name string
}

// hostOf returns the part of a name after the kind and position of a source.
func hostOf(x *usedSource) string {
	if h, ok := find[hosted](x.source); ok {
		return ", " + h.Host()
	}
	return ""
}

// Takes implements authz.Taker.
func (n named) Takes() authz.Credentials { return authz.Takes(n.Authorizer) }

// Authorize implements authz.Authorizer.
func (n named) Authorize(ctx context.Context, r authz.Request) (*authz.Grant, error) {
	grant, err := n.Authorizer.Authorize(ctx, r)
	if err != nil && !errors.Is(err, authz.ErrDenied) {
		err = fmt.Errorf("%s: %w", n.name, err)
	}
	return grant, err
}

// begin watches those sources of s that are new. It is called when s is in force, with
// Service.swap held.
func (s *sources) begin(in *Service) {
	for _, x := range s.list {
		if x.stop == nil {
			x.watch(in)
		}
	}
}

// watch ends the sessions of tokens that the source revokes, until the source is retired.
func (x *usedSource) watch(in *Service) {
	var ctx context.Context
	ctx, x.stop = context.WithCancel(context.Background())
	x.watched = make(chan struct{})
	go func() {
		defer close(x.watched)
		n, ok := x.source.(authz.Notifier)
		if !ok {
			return
		}
		task.Run(ctx, in.observer.TaskPanicked("token source"), func(ctx context.Context) {
			if err := in.server.Watch(ctx, n); err != nil {
				in.fail(fmt.Errorf("watch a token source: %w", err))
			}
		})
	}()
}

// retire ends the sources that next does not have.
func (s *sources) retire(next *sources) {
	for _, x := range s.list {
		if !slices.Contains(next.list, x) {
			x.retire()
		}
	}
}

// retire ends the source, which is in no generation any more.
func (x *usedSource) retire() {
	if x.stop != nil {
		x.stop()
		<-x.watched
	}
	x.Close()
}

// each calls do for each source that is a T or wraps one.
func each[T any](s *sources, do func(T)) {
	for _, x := range s.list {
		if t, ok := find[T](x.source); ok {
			do(t)
		}
	}
}

// forget makes the sources forget their answers that r names. It returns their number.
func (s *sources) forget(r authz.Revocation) (entries int) {
	each(s, func(m rememberer) { entries += m.Revoke(r) })
	return entries
}

// purge makes the sources forget all their answers. It returns their number.
func (s *sources) purge() (entries int) {
	each(s, func(m rememberer) { entries += m.Purge() })
	return entries
}

// inputs returns the files that the sources have read only when they were made.
func (s *sources) inputs() inputs {
	all := inputs{}
	for _, x := range s.list {
		maps.Copy(all, x.recipe.files)
	}
	return all
}

// reload makes every source read its files or keys now. It returns the errors of those that are
// not in effect.
func (s *sources) reload(ctx context.Context, c *config.Config) error {
	var errs []error
	for i, x := range s.list {
		err := x.Reload(ctx)
		if err == nil {
			err = x.Fault()
		}
		errs = append(errs, x.locate(c, i, err))
	}
	return errors.Join(errs...)
}

// faults returns why versions of the sources are not in effect: all errors, and those that the
// sources do not log themselves.
func (s *sources) faults(c *config.Config) (all, unlogged error) {
	var errs, quiet []error
	for i, x := range s.list {
		err := x.locate(c, i, x.Fault())
		errs = append(errs, err)
		if _, logs := find[faultLogger](x.source); !logs {
			quiet = append(quiet, err)
		}
	}
	return errors.Join(errs...), errors.Join(quiet...)
}

// locate adds to a fault of the source, which may be nil, the position of the source in the
// configuration. A source that logs its faults itself names its file in them.
func (x *usedSource) locate(c *config.Config, i int, err error) error {
	if _, logs := find[faultLogger](x.source); err == nil || logs {
		return err
	}
	return faultAt(c, sourceKey(i, x), err)
}

// sourceEnv returns the part of the service that the sources of s may use.
func (s *Service) sourceEnv() sourceEnv {
	return sourceEnv{log: s.Log, observer: s.observer, workers: s.workers, recheck: s.recheckSoon, trim: s.memory.Trim, explain: s.explain}
}
