package service

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"time"

	"go.uber.org/zap"

	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/cmd/internal/config"
	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/cmd/internal/observe"
)

const (
	// pollInterval is how often files other than token files are looked at.
	pollInterval = 10 * time.Second
	// settleTime is how long a file must stay as it is before the poll takes it up:
	// half of a config that is being written may be good YAML, without the line that
	// asks for client certificates.
	settleTime = time.Second
)

// byPoll is who asks for a reload that nobody asked for.
const byPoll = "poll"

// errEnded is why there is no reload.
var errEnded = errors.New("the proxy is shutting down")

// reloader takes up what has changed on disk: when asked to, and by looking every
// ten seconds.
//
// Three things are taken up each by itself, so that a fault in one does not hold up
// the others: the configuration with the secrets it names (all of it or nothing, see
// Service.prepare and Service.install), the certificates of each listener, and the
// token sources. A config that somebody left broken does not keep a certificate from
// being renewed.
type reloader struct {
	asked chan struct{} // by a signal; has room for one

	mu     sync.Mutex // held for the length of a reload
	ended  bool
	told   string // the faults that were logged last, without those that sources log
	warned time.Time

	last atomic.Pointer[reloadStatus]
	good atomic.Pointer[time.Time] // when a reload was last without a fault
}

// begin notes that the first configuration is in force.
func (r *reloader) begin(s *Service) {
	r.asked = make(chan struct{}, 1)
	s.warnOfExpiry()
	now := time.Now()
	r.warned = now
	r.good.Store(&now)
}

// end lets no reload begin any more, and waits for one under way.
func (r *reloader) end() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.ended = true
}

// ask has a reload done soon.
func (r *reloader) ask() {
	select {
	case r.asked <- struct{}{}:
	default: // one is about to begin, and will see everything
	}
}

// run reloads until ctx is done.
func (r *reloader) run(ctx context.Context, s *Service) {
	tick := time.NewTicker(pollInterval)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-r.asked:
			_ = r.now(ctx, s, "signal") // it is logged
		case <-tick.C:
			r.poll(ctx, s)
		}
	}
}

// now reloads everything. Its error is logged by the time it returns.
func (r *reloader) now(ctx context.Context, s *Service, by string) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.ended || s.draining.Load() {
		return errEnded
	}
	s.systemd.Reloading()
	defer func() { s.systemd.Ready(s.summary()) }()
	changed, err := s.reconfigure(ctx)
	renewed, _, refreshErr := s.refreshCertificates(true)
	own := errors.Join(err, refreshErr, s.denials.Save())
	in := s.current.Load()
	notRead := in.sources.reload(ctx, in.config)
	_, unlogged := in.sources.faults(in.config)
	return r.conclude(s, by, changed || renewed, errors.Join(own, notRead), errors.Join(own, unlogged))
}

// poll takes up what has changed and now stays as it is.
func (r *reloader) poll(ctx context.Context, s *Service) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.ended || s.draining.Load() {
		return
	}
	var changed bool
	var err error
	renewed, pending, refreshErr := s.refreshCertificates(false)
	if first := s.look(); first != "" || pending {
		if !pause(ctx, settleTime) {
			return
		}
		if first != "" && s.look() == first {
			changed, err = s.reconfigure(ctx)
		}
		var more bool
		more, _, refreshErr = s.refreshCertificates(false)
		renewed = renewed || more
	}
	own := errors.Join(err, refreshErr, s.denials.Save())
	in := s.current.Load()
	all, unlogged := in.sources.faults(in.config)
	_ = r.conclude(s, byPoll, changed || renewed, errors.Join(own, all), errors.Join(own, unlogged))
	if time.Since(r.warned) >= warnEvery {
		s.warnOfExpiry()
		r.warned = time.Now()
	}
}

// conclude notes what came of a reload, and logs it unless it is what the poll finds again
// and again. Of err, the part unlogged is logged nowhere else.
func (r *reloader) conclude(s *Service, by string, changed bool, err, unlogged error) error {
	news := by != byPoll || changed || textOf(unlogged) != r.told
	r.told = textOf(unlogged)
	now := &reloadStatus{At: time.Now().UTC(), By: by, Outcome: observe.ReloadUnchanged, Error: s.explain(textOf(err))}
	switch {
	case err != nil:
		now.Outcome = observe.ReloadFailed
	case changed:
		now.Outcome = observe.ReloadApplied
	}
	if err == nil && news {
		r.good.Store(&now.At)
	}
	if last := r.last.Load(); news || last != nil && last.Error != now.Error || last == nil && err != nil {
		r.last.Store(now)
	}
	if !news {
		return err
	}
	s.observer.Reloaded(now.Outcome)
	switch now.Outcome {
	case observe.ReloadFailed:
		s.Log.Error("reload failed, what was in force stays", zap.String("by", by), zap.String("error", now.Error))
	case observe.ReloadApplied:
		s.Log.Info("reloaded", zap.String("by", by))
	default:
		s.Log.Info("reloaded, nothing has changed", zap.String("by", by))
	}
	return err
}

// pause waits, and reports whether ctx lasted that long.
func pause(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	}
}

// look returns what the configuration on disk is, empty if it is the one in force.
func (s *Service) look() string {
	options, in := s.Config, s.current.Load()
	hash := in.config.Hash
	c, err := config.Load(options)
	var faults *config.Error
	switch {
	case err == nil:
		hash = c.Hash
	case errors.As(err, &faults):
		hash = faults.Hash
	}
	if hash == in.config.Hash && !in.inputs.changed() {
		return ""
	}
	return hash + " " + in.inputs.sum()
}

// reconfigure puts the configuration on disk into force, all of it or nothing. It
// reports whether there was anything new.
func (s *Service) reconfigure(ctx context.Context) (changed bool, err error) {
	if s.look() == "" {
		return false, nil
	}
	options, old := s.Config, s.current.Load()
	options.Whole = true
	p, err := Load(options, s.Version)
	if err != nil {
		return false, err
	}
	if err := needsRestart(old.config, p.Config); err != nil {
		p.Close()
		return false, err
	}
	ctx, cancel := context.WithTimeout(ctx, prepareTimeout)
	defer cancel()
	next, err := s.prepare(ctx, p, old)
	if err != nil {
		return false, err
	}
	if err := s.install(next); err != nil {
		return false, err
	}
	s.warn()
	s.warnOfExpiry()
	return true, nil
}

// prepareTimeout is how long the sources of a new configuration may take to open.
const prepareTimeout = 30 * time.Second

// refreshCertificates takes up new certificates, see certificates.refresh.
func (s *Service) refreshCertificates(haste bool) (changed, pending bool, err error) {
	var errs []error
	in := s.current.Load()
	for i, l := range in.listeners {
		if l.identity == nil {
			continue
		}
		before := l.identity.source.Version()
		renewed, more, err := l.identity.refresh(haste)
		pending = pending || more
		if renewed {
			changed = true
			s.tookUp(l, before)
		}
		if err != nil {
			errs = append(errs, faultAt(in.config, listenerKey(i)+".tls", err))
		}
	}
	if in.upstream != nil {
		if err := in.upstream.tls.Reload(); err != nil {
			errs = append(errs, faultAt(in.config, "upstream.tls", err))
		}
	}
	if changed {
		s.warnOfExpiry()
	}
	return changed, pending, errors.Join(errs...)
}
