package observe

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/zap"

	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/proxy/upstream"
	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/proxy/upstream/pool"
)

// upstreamMetrics are those of the brokers.
type upstreamMetrics struct {
	dials, probes *prometheus.CounterVec
	dialSeconds   *prometheus.HistogramVec
}

func newUpstreamMetrics(r prometheus.Registerer) *upstreamMetrics {
	m := &upstreamMetrics{
		dials: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: namespace + "upstream_dials_total", Help: "Attempts to connect a device to a broker, by outcome.",
		}, []string{"server", "outcome"}),
		probes: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: namespace + "upstream_probes_total", Help: "Probes of a broker, by outcome.",
		}, []string{"server", "outcome"}),
		dialSeconds: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name:                        namespace + "upstream_dial_seconds",
			Help:                        "Time from the dial to the broker's answer to the CONNECT, of brokers that answered.",
			Buckets:                     []float64{.001, .005, .025, .1, .5, 2.5, 10},
			NativeHistogramBucketFactor: 1.2,
		}, []string{"server"}),
	}
	r.MustRegister(m.dials, m.probes, m.dialSeconds)
	return m
}

// ExpectServer makes the metrics of a broker begin at zero instead of with the first
// event.
func (o *Observer) ExpectServer(s upstream.Server) {
	for _, outcome := range pool.Outcomes() {
		o.upstream.dials.WithLabelValues(s.String(), string(outcome))
	}
	for _, outcome := range []string{"passed", "failed"} {
		o.upstream.probes.WithLabelValues(s.String(), outcome)
	}
	o.upstream.dialSeconds.WithLabelValues(s.String())
}

// PoolTrace returns the hooks of a pool of brokers. Lost is not among them.
func (o *Observer) PoolTrace() pool.Trace {
	return pool.Trace{Tried: o.tried, Probed: o.probed, Changed: o.changed, Panicked: o.panicked}
}

func (o *Observer) tried(s upstream.Server, outcome pool.Outcome, took time.Duration) {
	o.upstream.dials.WithLabelValues(s.String(), string(outcome)).Inc()
	if outcome == pool.Answered {
		o.upstream.dialSeconds.WithLabelValues(s.String()).Observe(took.Seconds())
	}
}

func (o *Observer) probed(s upstream.Server, err error) {
	outcome := "passed"
	if err != nil {
		outcome = "failed"
	}
	o.upstream.probes.WithLabelValues(s.String(), outcome).Inc()
}

func (o *Observer) changed(s upstream.Server, up bool, reason error) {
	if up {
		o.log.Info("broker is up", zap.Stringer("server", s))
		return
	}
	o.log.Warn("broker is down", zap.Stringer("server", s), zap.Error(reason))
}
