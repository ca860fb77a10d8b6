package observe

import "github.com/prometheus/client_golang/prometheus"

// namespace begins the name of every metric.
const namespace = "mqtt_auth_proxy_"

type metrics struct {
	accepted, dropped, acceptFailed, refused, opened, closed *prometheus.CounterVec
	bytesUp, bytesDown, panics                               prometheus.Counter
	connectSeconds                                           prometheus.Histogram
}

func newMetrics(r prometheus.Registerer) *metrics {
	counter := func(name, help string, labels ...string) *prometheus.CounterVec {
		c := prometheus.NewCounterVec(prometheus.CounterOpts{Name: namespace + name, Help: help}, labels)
		r.MustRegister(c)
		return c
	}
	bytes := counter("session_bytes_total", "Bytes of ended sessions after CONNECT and CONNACK, up to the broker and down to the client.", "direction")
	m := &metrics{
		accepted:     counter("connections_accepted_total", "Connections accepted.", "listener"),
		dropped:      counter("connections_dropped_total", "Connections closed as they came because there was no room even to refuse them.", "listener"),
		acceptFailed: counter("accept_errors_total", "Failures to accept a connection; the listener goes on.", "listener"),
		refused:      counter("connections_refused_total", "Connections that did not become a session, by reason.", "listener", "reason"),
		opened:       counter("sessions_opened_total", "Sessions begun.", "listener", "version"),
		closed:       counter("sessions_closed_total", "Sessions ended, by who ended them and why.", "by", "cause"),
		bytesUp:      bytes.WithLabelValues("up"),
		bytesDown:    bytes.WithLabelValues("down"),
		panics:       counter("panics_total", "Bugs that ended one connection.").WithLabelValues(),
		connectSeconds: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name:                        namespace + "connect_seconds",
			Help:                        "Time from accept to the CONNACK of sessions that began.",
			Buckets:                     []float64{.001, .005, .025, .1, .5, 2.5, 10},
			NativeHistogramBucketFactor: 1.2,
		}),
	}
	r.MustRegister(m.connectSeconds)
	return m
}
