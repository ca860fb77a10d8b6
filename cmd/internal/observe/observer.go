package observe

import (
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"

	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/cmd/internal/refusals"
	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/cmd/internal/task"
	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/packets"
	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/proxy"
)

// Observer logs and counts what happens in the program, and keeps the last refusals.
type Observer struct {
	log      *Log
	registry *prometheus.Registry
	metrics  *metrics
	refusals *refusals.Store
	sessions atomic.Bool // the start of a session is logged at level info
}

// New returns an Observer that logs to log and has a registry of its own. version is the label
// of a metric.
func New(log *Log, version string) *Observer {
	for _, info := range proxy.Reasons() {
		log.rates.startAtZero(kind{refusedLine, string(info.Reason)})
	}
	r := prometheus.NewRegistry()
	r.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}), collector(log.collect))
	r.MustRegister(collector(func(e emitter) {
		e.gauge("build_info", "Constant 1, labelled with the version.", 1, "version", version)
	}))
	return &Observer{log: log, registry: r, metrics: newMetrics(r), refusals: refusals.New(0)}
}

// LogSessions sets whether the start of a session is logged at level info instead of debug. It may
// be called at any time.
func (o *Observer) LogSessions(atInfo bool) { o.sessions.Store(atInfo) }

// Refusals returns the last refusals. It keeps none until its limit is set.
func (o *Observer) Refusals() *refusals.Store { return o.refusals }

// Metrics returns all metrics, for a handler of package promhttp.
func (o *Observer) Metrics() prometheus.Gatherer { return o.registry }

// refusedLine is the message of lines about refusals.
const refusedLine = "refused"

// Expect makes the metrics of a listener start at zero instead of with the first event.
func (o *Observer) Expect(listener string) { o.metrics.of(listener) }

// The outcomes of a reload, as metrics, log and status name them.
const (
	ReloadApplied   = "applied"
	ReloadUnchanged = "unchanged"
	ReloadFailed    = "failed"
)

// Reloaded counts a reload with that outcome.
func (o *Observer) Reloaded(outcome string) { o.metrics.reloads.WithLabelValues(outcome).Inc() }

const tokenFileAccepted, tokenFileRejected = "accepted", "rejected"

// TokenFileReloaded counts a version of a token file and whether it took effect.
func (o *Observer) TokenFileReloaded(accepted bool) {
	outcome := tokenFileRejected
	if accepted {
		outcome = tokenFileAccepted
	}
	o.metrics.tokenFileReloads.WithLabelValues(outcome).Inc()
}

// Where a revocation can come from.
const BySource, ByAdmin, ByReplica = "source", "admin", "replica"

// Revoked counts n revocations by BySource, ByAdmin or ByReplica.
func (o *Observer) Revoked(by string, n int) {
	o.metrics.revocations.WithLabelValues(by).Add(float64(n))
}

// Trace returns the hooks for a proxy.Server.
func (o *Observer) Trace() proxy.Trace {
	return proxy.Trace{
		Accepted:     func(listener string) { o.metrics.of(listener).accepted.Inc() },
		Dropped:      func(listener string) { o.metrics.of(listener).dropped.Inc() },
		AcceptFailed: o.acceptFailed,
		Secured:      o.secured,
		Refused:      o.refused,
		Opened:       o.opened,
		Denied:       o.denied,
		Renewed:      o.renewed,
		Closed:       o.closed,
		Panicked:     o.panicked,
	}
}

func (o *Observer) acceptFailed(listener string, err error, retry time.Duration) {
	o.metrics.of(listener).acceptFailed.Inc()
	o.log.Error("cannot accept connections", zap.String("listener", listener), zap.Error(err), zap.Duration("retry_in", retry))
}

func (o *Observer) secured(h proxy.Handshake) {
	l := o.metrics.of(h.Listener)
	if h.Resumed {
		l.resumed.Observe(h.Duration.Seconds())
		return
	}
	l.fresh.Observe(h.Duration.Seconds())
}

func (o *Observer) refused(r proxy.Refusal) {
	l := o.metrics.of(r.Listener)
	counterOf(l.refused, r.Reason, func() prometheus.Counter {
		return o.metrics.refused.WithLabelValues(r.Listener, string(r.Reason))
	}).Inc()
	o.refusals.Add(r)
	level := zapLevel(r.Reason.Info().Level)
	if !o.log.wants(level, kind{refusedLine, string(r.Reason)}) {
		return
	}
	fields := append(make([]zap.Field, 0, 11),
		zap.String("reason", string(r.Reason)), address(r.Addr), zap.String("listener", r.Listener))
	if r.Err != nil {
		fields = append(fields, zap.NamedError("detail", advised(r)))
	}
	if r.Level != 0 {
		fields = append(fields, zap.String("version", r.Version()))
	}
	if r.ClientID != "" {
		fields = append(fields, zap.String("client_id", r.ClientID))
	}
	if r.Fingerprint != "" {
		fields = append(fields, zap.String("token", r.Fingerprint))
	}
	if r.Subject != "" {
		fields = append(fields, zap.String("subject", r.Subject))
	}
	if r.Sent {
		fields = append(fields, zap.Uint8("code", uint8(r.Code)))
	}
	o.log.Log(level, refusedLine, append(fields, zap.Duration("duration", r.Duration))...)
}

// advised adds the keys and files to look at to the error of a refusal, which package proxy does
// not know.
func advised(r proxy.Refusal) error {
	switch {
	case r.Reason == proxy.TLSFailed && distrusts(r.Err):
		return fmt.Errorf("%w With tls.auto that is tls/ca-root.pem in the data directory", r.Err)
	case r.Reason == proxy.UpstreamCredentials:
		return fmt.Errorf("%w; check upstream.username and upstream.password, and the credentials that the token source gives for the broker", r.Err)
	}
	return r.Err
}

// distrusts reports whether a client has ended a handshake because it does not trust the
// certificate: by one of the alerts bad_certificate, certificate_unknown and unknown_ca.
func distrusts(err error) bool {
	alert, ok := errors.AsType[tls.AlertError](err)
	return ok && (alert == 42 || alert == 46 || alert == 48)
}

// zapLevel returns the level of the log for a level of the proxy's tables.
func zapLevel(l slog.Level) zapcore.Level {
	switch {
	case l >= slog.LevelError:
		return zapcore.ErrorLevel
	case l >= slog.LevelWarn:
		return zapcore.WarnLevel
	case l >= slog.LevelInfo:
		return zapcore.InfoLevel
	}
	return zapcore.DebugLevel
}

func (o *Observer) opened(c *proxy.Client) {
	l, version := o.metrics.of(c.Listener), c.Version()
	counterOf(l.opened, version, func() prometheus.Counter {
		return o.metrics.opened.WithLabelValues(c.Listener, version)
	}).Inc()
	l.connect.Observe(time.Since(c.Since).Seconds())
	const message = "session open"
	level := zapcore.DebugLevel
	if o.sessions.Load() {
		level = zapcore.InfoLevel
	}
	if o.log.wants(level, kind{message: message}) {
		o.log.Log(level, message, clientFields(c)...)
	}
}

// denied counts and logs actions that topic rules, topic map and limits do not allow. A device
// can cause it as fast as it sends.
func (o *Observer) denied(c *proxy.Client, d proxy.Denied) {
	l := o.metrics.of(c.Listener)
	denied, message := l.deniedPublish, "publish denied"
	switch {
	case d.Down:
		denied, message = l.deniedDelivery, "delivery denied"
	case d.Type == packets.SUBSCRIBE:
		denied, message = l.deniedSubscribe, "subscription denied"
	}
	denied.Inc()
	if !o.log.wants(zapcore.InfoLevel, kind{message: message}) {
		return
	}
	fields := append(clientFields(c), zap.ByteString("topic", d.Topic), zap.Uint8("qos", d.QoS), zap.String("detail", d.Reason))
	if d.Type == packets.PUBLISH {
		fields = append(fields, zap.Bool("retain", d.Retain))
	}
	o.log.Info(message, fields...)
}

func (o *Observer) renewed(c *proxy.Client) {
	o.metrics.of(c.Listener).renewed.Inc()
	if entry := o.log.Check(zapcore.DebugLevel, "token renewed"); entry != nil {
		entry.Write(clientFields(c)...)
	}
}

func (o *Observer) closed(c *proxy.Client, e proxy.End) {
	info := e.Cause().Info()
	counterOf(o.metrics.of(c.Listener).closed, closing{e.By, info.Cause}, func() prometheus.Counter {
		return o.metrics.closed.WithLabelValues(c.Listener, e.By, string(info.Cause))
	}).Inc()
	if entry := o.log.Check(zapLevel(info.Level), "session end"); entry != nil {
		fields := append(clientFields(c), zap.String("by", e.By), zap.String("cause", string(info.Cause)),
			zap.Int64("bytes_up", e.Up), zap.Int64("bytes_down", e.Down), zap.Duration("duration", e.Duration))
		if e.Denied > 0 {
			fields = append(fields, zap.Int64("denied", e.Denied))
		}
		if info.Cause == proxy.CauseFault || e.Err != info.Err && errors.Is(e.Err, info.Err) {
			fields = append(fields, zap.Error(e.Err))
		}
		entry.Write(fields...)
	}
}

func (o *Observer) panicked(value any, stack []byte) {
	o.metrics.panics.Inc()
	// Unlike the value, the stack cannot contain data of a client.
	o.log.Error("a bug ended one connection; please report it", zap.String("kind", task.Kind(value)), zap.ByteString("stack", stack))
}

// TaskPanicked returns a hook for task.Run that counts and logs the panics of the task.
func (o *Observer) TaskPanicked(name string) func(*task.Panic) {
	return func(p *task.Panic) {
		o.metrics.panics.Inc()
		// Each task has a message of its own, so that none suppresses the stack of another.
		o.log.Error("a bug interrupted the task "+name+", which starts again; please report it",
			zap.String("kind", p.Kind), zap.ByteString("stack", p.Stack))
	}
}

// StoreFailed returns a hook for a store with that name, which logs errors that no caller waits for.
func (o *Observer) StoreFailed(name string) func(error) {
	return func(err error) {
		fields := []zap.Field{zap.Error(err)}
		if stack := task.StackOf(err); stack != nil {
			o.metrics.panics.Inc()
			fields = append(fields, zap.ByteString("stack", stack))
		}
		o.log.Error(name, fields...)
	}
}

func clientFields(c *proxy.Client) []zap.Field {
	fields := append(make([]zap.Field, 0, 16),
		zap.Uint64("session", c.ID), zap.String("subject", c.Subject()), zap.String("token_id", c.Grant.TokenID),
		zap.String("client_id", c.ClientID), address(c.Addr), zap.String("listener", c.Listener),
		zap.String("version", c.Version()))
	if c.TLS != 0 {
		fields = append(fields, zap.String("tls", c.TLSVersion()))
	}
	if c.Server != "" {
		fields = append(fields, zap.String("server", c.Server))
	}
	return fields
}

func address(a netip.AddrPort) zap.Field {
	if !a.IsValid() {
		return zap.Skip()
	}
	return zap.Stringer("addr", a)
}
