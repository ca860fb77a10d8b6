package observe

import (
	"time"

	"go.uber.org/zap"

	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/proxy/upstream"
	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/proxy/upstream/pool"
)

// ExpectServer makes the metrics of a broker start at zero.
func (o *Observer) ExpectServer(s upstream.Server) {
	for _, outcome := range pool.Outcomes() {
		o.metrics.dials.WithLabelValues(s.String(), string(outcome))
	}
	for _, outcome := range []string{"passed", "failed"} {
		o.metrics.probes.WithLabelValues(s.String(), outcome)
	}
	o.metrics.dialSeconds.WithLabelValues(s.String())
}

// PoolTrace returns the hooks for a pool of brokers, except Lost.
func (o *Observer) PoolTrace() pool.Trace {
	return pool.Trace{Tried: o.tried, Probed: o.probed, Changed: o.changed, Panicked: o.panicked}
}

func (o *Observer) tried(s upstream.Server, outcome pool.Outcome, took time.Duration) {
	o.metrics.dials.WithLabelValues(s.String(), string(outcome)).Inc()
	if outcome == pool.Answered {
		o.metrics.dialSeconds.WithLabelValues(s.String()).Observe(took.Seconds())
	}
}

func (o *Observer) probed(s upstream.Server, err error) {
	outcome := "passed"
	if err != nil {
		outcome = "failed"
	}
	o.metrics.probes.WithLabelValues(s.String(), outcome).Inc()
}

func (o *Observer) changed(s upstream.Server, up bool, reason error) {
	if up {
		o.log.Info("broker is up", zap.Stringer("server", s))
		return
	}
	o.log.Warn("broker is down", zap.Stringer("server", s), zap.Error(reason))
}
