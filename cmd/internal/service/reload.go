package service

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"time"

	"go.uber.org/zap"

	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/cmd/internal/admin"
	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/cmd/internal/observe"
)

const (
	// pollInterval is how often the files other than token files are checked for changes.
	pollInterval = 10 * time.Second
	// settleTime is how long a file must not change before the poll reloads it. Half of a file
	// that is being written may be valid YAML, without the line that requires client
	// certificates.
	settleTime = time.Second
)

// byPoll is the cause of a reload that the poll starts.
const byPoll = "poll"

// errEnded is why there is no reload.
var errEnded = errors.New("the proxy is shutting down")

// reloader puts changes on disk into force: on request, and when it finds a change in its check
// every ten seconds.
//
// Three things are reloaded independently of each other, so that a fault in one does not affect
// the others: the configuration with the secrets that it names (all of it or nothing, see
// Service.prepare and Service.install), the certificates of each listener, and the token
// sources. A broken configuration does not prevent the renewal of a certificate.
type reloader struct {
	asked chan struct{} // by a signal; has room for one

	mu     sync.Mutex // held during a reload
	ended  bool
	logged string // the faults that were logged last, without those that sources log
	warned time.Time

	last atomic.Pointer[admin.ReloadStatus]
	good atomic.Pointer[time.Time] // when a reload last had no fault
}

// begin is called when the first generation is in force, before all other methods.
func (r *reloader) begin(s *Service) {
	r.asked = make(chan struct{}, 1)
	s.warnOfExpiry()
	now := time.Now()
	r.warned = now
	r.good.Store(&now)
}

// end prevents further reloads and waits for a running one.
func (r *reloader) end() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.ended = true
}

// ask makes run reload soon.
func (r *reloader) ask() {
	select {
	case r.asked <- struct{}{}:
	default: // a reload is about to start and will find every change
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
			_ = r.now(admin.By(ctx, "signal"), s, "signal") // now has logged the error
		case <-tick.C:
			r.poll(ctx, s)
		}
	}
}

// now reloads everything. When it returns, it has logged its error.
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
	return r.conclude(ctx, s, attempt{by, changed || renewed, errors.Join(own, notRead), errors.Join(own, unlogged)})
}

// poll reloads files that have changed and have then not changed for settleTime.
func (r *reloader) poll(ctx context.Context, s *Service) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.ended || s.draining.Load() {
		return
	}
	var changed bool
	var err error
	renewed, pending, refreshErr := s.refreshCertificates(false)
	if first := s.changedOnDisk(); first != "" || pending {
		if !pause(ctx, settleTime) {
			return
		}
		if first != "" && s.changedOnDisk() == first {
			changed, err = s.reconfigure(ctx)
		}
		var more bool
		more, _, refreshErr = s.refreshCertificates(false)
		renewed = renewed || more
	}
	own := errors.Join(err, refreshErr, s.denials.Save())
	in := s.current.Load()
	all, unlogged := in.sources.faults(in.config)
	_ = r.conclude(admin.By(ctx, "file"), s, attempt{byPoll, changed || renewed, errors.Join(own, all), errors.Join(own, unlogged)})
	if time.Since(r.warned) >= warnInterval {
		s.warnOfExpiry()
		r.warned = time.Now()
	}
}

// attempt is a reload that has been attempted.
type attempt struct {
	by       string
	changed  bool
	err      error
	unlogged error // the part of err that has not been logged yet
}

// conclude records the result of a reload, and logs it unless it is the same as in the last
// poll. ctx says who has caused it.
func (r *reloader) conclude(ctx context.Context, s *Service, a attempt) error {
	err, by := a.err, a.by
	news := by != byPoll || a.changed || textOf(a.unlogged) != r.logged
	r.logged = textOf(a.unlogged)
	now := &admin.ReloadStatus{At: time.Now().UTC(), By: by, Outcome: observe.ReloadUnchanged, Error: s.explain(textOf(err))}
	switch {
	case err != nil:
		now.Outcome = observe.ReloadFailed
	case a.changed:
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
	s.audit.Record(ctx, "reload", "", now.Outcome) // the line below has the faults
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

// pause waits for d. It returns false as soon as ctx is done.
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
