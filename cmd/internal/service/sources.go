package service

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"reflect"
	"slices"

	"go.uber.org/zap"

	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/authz"
	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/authz/guard"
	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/authz/tokenfile"
	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/authz/tokenjwt"
	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/cmd/internal/config"
)

// sources are the token sources of a generation, in the order in which they are
// asked, behind what is denied and one guard. Generations that ask the same ones in the
// same order behind the same guard share it.
type sources struct {
	list    []*source
	guard   *guard.Guard
	guarded config.Guard // what guard was made from
}

// source is one token source in use. Exactly one of file, service and issuer is set.
// It lasts as long as a generation in force has it, so that what it remembers, and
// what it is about to report, outlives changes elsewhere.
type source struct {
	authz.Authorizer
	recipe  recipe
	file    *tokenfile.File
	service *tokenService
	issuer  *tokenjwt.Source

	stop    context.CancelFunc // nil until it is watched
	watched chan struct{}      // closed when it no longer is
}

// recipe is everything that a source is made from. Only sources of equal recipes
// are the same: an answer that one remembers says nothing about another.
type recipe struct {
	source config.Source
	// Of a token service also what stands before it and the content of its CA
	// file, which it reads once.
	cache config.Cache
	guard config.Guard
	ca    [sha256.Size]byte
}

func (d *draft) recipeOf(c config.Source) recipe {
	r := recipe{source: c}
	if c.HTTP != nil {
		r.cache, r.guard = d.config.Auth.Cache, d.config.Auth.Guard
		d.inputs.add(c.HTTP.TLS.CA)
		r.ca = d.inputs[c.HTTP.TLS.CA]
	}
	return r
}

// openSources opens those sources of the config that are not open yet.
func (d *draft) openSources(ctx context.Context) error {
	d.sources = &sources{guarded: d.config.Auth.Guard}
	for i, c := range d.config.Auth.Sources {
		r := d.recipeOf(c)
		x := d.old.sources.like(r, d.sources.list)
		if x == nil {
			x = &source{recipe: r}
			if key, err := d.openSource(ctx, x); err != nil {
				return d.fault(fmt.Sprintf("auth.sources[%d].%s", i, key), err)
			}
		}
		d.sources.list = append(d.sources.list, x)
	}
	sameGuard := d.old.sources.guard != nil && reflect.DeepEqual(d.sources.guarded, d.old.sources.guarded)
	if sameGuard && slices.Equal(d.sources.list, d.old.sources.list) {
		d.sources = d.old.sources
		return nil
	}
	chain, offline := d.sources.chains()
	all, offlineAll := d.service.denials.Before(chain), d.service.denials.Before(offline)
	if sameGuard {
		d.sources.guard = d.old.sources.guard.Before(all, offlineAll)
	} else {
		d.sources.guard = guard.New(all, guardOptions(d.config.Auth, offlineAll))
	}
	return nil
}

// chains returns all sources, and those at the beginning that answer from memory.
func (s *sources) chains() (all, offline authz.Chain) {
	several := len(s.services()) > 1
	for i, x := range s.list {
		var a authz.Authorizer = x
		if several && x.service != nil {
			n := len((&sources{list: s.list[:i]}).services())
			a = named{x, fmt.Sprintf("http%d, %s", n, x.service.host)}
		}
		all = append(all, a)
		if x.service == nil && len(offline) == i {
			offline = append(offline, a)
		}
	}
	return all, offline
}

// named is one of several token services. Its faults tell which one it is, by the
// name that it has in metrics and by its host.
type named struct {
	authz.Authorizer
	name string
}

// Authorize implements authz.Authorizer.
func (n named) Authorize(ctx context.Context, r authz.Request) (*authz.Grant, error) {
	grant, err := n.Authorizer.Authorize(ctx, r)
	if err != nil && !errors.Is(err, authz.ErrDenied) {
		err = fmt.Errorf("%s: %w", n.name, err)
	}
	return grant, err
}

// like returns a source of that recipe that is not among those taken already, nil if
// there is none.
func (s *sources) like(r recipe, taken []*source) *source {
	for _, x := range s.list {
		if reflect.DeepEqual(x.recipe, r) && !slices.Contains(taken, x) {
			return x
		}
	}
	return nil
}

// openSource makes what x has a recipe of. It returns which kind that is.
func (d *draft) openSource(ctx context.Context, x *source) (kind string, err error) {
	switch c := x.recipe.source; {
	case c.HTTP != nil:
		if x.service, err = newTokenService(c.HTTP, d.config.Auth, d.service.Version, d.service.passedOver(c.HTTP.Preset)); err == nil {
			x.Authorizer = x.service.form
		}
		return "http", err
	case c.JWT != nil:
		if x.issuer, err = tokenjwt.Open(ctx, jwtOptions(c.JWT)); err == nil {
			x.Authorizer = x.issuer
		} else if errors.Is(err, tokenjwt.ErrNoKeys) {
			err = fmt.Errorf("%w; set start_without_keys: true to start before they can be", err)
		}
		return "jwt", err
	default:
		if x.file, err = d.openTokenFile(c.File); err == nil {
			x.Authorizer = x.file
		}
		return "file", err
	}
}

// passedOver logs what answers of a token service restrict in vain.
func (s *Service) passedOver(preset string) func(path string) {
	return func(path string) {
		s.Log.Warn("a token service restricts devices in what is the broker's to enforce; configure the broker for it",
			zap.String("preset", preset), zap.String("field", path))
	}
}

// begin watches what is new in s, which is in force by now. It is called with
// Service.swap held.
func (s *sources) begin(in *Service) {
	for _, x := range s.list {
		if x.stop == nil {
			x.watch(in)
		}
	}
}

// watch makes revocations of the source end sessions until the source is retired.
func (x *source) watch(in *Service) {
	var ctx context.Context
	ctx, x.stop = context.WithCancel(context.Background())
	x.watched = make(chan struct{})
	go func() {
		defer close(x.watched)
		n, ok := x.Authorizer.(authz.Notifier)
		if !ok {
			return
		}
		if err := in.server.Watch(ctx, n); err != nil {
			in.fail(fmt.Errorf("watch a token source: %w", err))
		}
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

func (x *source) retire() {
	if x.stop != nil {
		x.stop()
		<-x.watched
	}
	if x.service != nil {
		x.service.close()
	}
	if x.issuer != nil {
		x.issuer.Close()
	}
}

// reload makes every source that reads something read it now.
func (s *sources) reload(ctx context.Context) (errs []error) {
	for _, x := range s.list {
		switch {
		case x.file != nil:
			errs = append(errs, x.file.Reload(ctx))
		case x.issuer != nil:
			errs = append(errs, x.issuer.Reload(ctx))
		}
	}
	return errs
}

// faults returns why newer versions of files are not in effect. An issuer that cannot
// be reached is no such fault: its keys are good until it can.
func (s *sources) faults() error {
	var errs []error
	for _, x := range s.list {
		switch {
		case x.file != nil:
			errs = append(errs, advise(x.file.Status().Err))
		case x.issuer != nil && x.recipe.source.JWT.URL == "":
			errs = append(errs, x.issuer.Stats().Err)
		}
	}
	return errors.Join(errs...)
}

// forget makes the caches forget what r means. Files and issuers are asked every
// time.
func (s *sources) forget(r authz.Revocation) (entries int) {
	for _, service := range s.services() {
		entries += service.answers.Revoke(r)
	}
	return entries
}

// purge empties the caches.
func (s *sources) purge() (entries int) {
	for _, service := range s.services() {
		entries += service.answers.Purge()
	}
	return entries
}

func (s *sources) services() (all []*tokenService) {
	for _, x := range s.list {
		if x.service != nil {
			all = append(all, x.service)
		}
	}
	return all
}

func (s *sources) files() (all []*tokenfile.File) {
	for _, x := range s.list {
		if x.file != nil {
			all = append(all, x.file)
		}
	}
	return all
}

func (s *sources) issuers() (all []*tokenjwt.Source) {
	for _, x := range s.list {
		if x.issuer != nil {
			all = append(all, x.issuer)
		}
	}
	return all
}
