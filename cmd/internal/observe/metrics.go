package observe

import (
	"sync"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/proxy"
)

// namespace begins the name of every metric.
const namespace = "mqtt_auth_proxy_"

type metrics struct {
	accepted, dropped, acceptFailed, refused, opened, closed, denied *prometheus.CounterVec
	handshake, connect                                               *prometheus.HistogramVec
	panics                                                           prometheus.Counter

	listeners sync.Map // name to *listenerMetrics
}

func newMetrics(r prometheus.Registerer) *metrics {
	counter := func(name, help string, labels ...string) *prometheus.CounterVec {
		c := prometheus.NewCounterVec(prometheus.CounterOpts{Name: namespace + name, Help: help}, labels)
		r.MustRegister(c)
		return c
	}
	seconds := func(name, help string, labels ...string) *prometheus.HistogramVec {
		h := prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: namespace + name, Help: help,
			Buckets:                     []float64{.001, .005, .025, .1, .5, 2.5, 10},
			NativeHistogramBucketFactor: 1.2,
		}, labels)
		r.MustRegister(h)
		return h
	}
	m := &metrics{
		accepted:     counter("connections_accepted_total", "Connections accepted.", "listener"),
		dropped:      counter("connections_dropped_total", "Connections closed as they came because there was no room even to refuse them.", "listener"),
		acceptFailed: counter("accept_errors_total", "Failures to accept a connection; the listener goes on.", "listener"),
		refused:      counter("connections_refused_total", "Connections that did not become a session, by reason.", "listener", "reason"),
		opened:       counter("sessions_opened_total", "Sessions begun.", "listener", "version"),
		closed:       counter("sessions_closed_total", "Sessions ended, by who ended them and why.", "listener", "by", "cause"),
		denied:       counter("topics_denied_total", "Messages and topic filters that the topic rules of a session did not allow.", "listener", "kind"),
		handshake:    seconds("tls_handshake_seconds", "Time of TLS handshakes that succeeded.", "listener", "resumed"),
		connect:      seconds("connect_seconds", "Time from accept to the CONNACK of sessions that began.", "listener"),
		panics:       counter("panics_total", "Bugs that ended one connection.").WithLabelValues(),
	}
	return m
}

// listenerMetrics are the metrics of one listener. Looking a child up by its
// labels costs as much as ten increments, so it is done once.
type listenerMetrics struct {
	accepted, dropped, acceptFailed prometheus.Counter
	deniedPublish, deniedSubscribe  prometheus.Counter
	refused                         map[proxy.Reason]prometheus.Counter
	opened                          map[string]prometheus.Counter
	closed                          map[[2]string]prometheus.Counter
	fresh, resumed, connect         prometheus.Observer
}

// of returns the metrics of a listener. All of them begin at zero: rate and
// increase miss the first event of a series that begins with it.
func (m *metrics) of(listener string) *listenerMetrics {
	if known, ok := m.listeners.Load(listener); ok {
		return known.(*listenerMetrics)
	}
	l := &listenerMetrics{
		accepted:        m.accepted.WithLabelValues(listener),
		dropped:         m.dropped.WithLabelValues(listener),
		acceptFailed:    m.acceptFailed.WithLabelValues(listener),
		deniedPublish:   m.denied.WithLabelValues(listener, "publish"),
		deniedSubscribe: m.denied.WithLabelValues(listener, "subscribe"),
		fresh:           m.handshake.WithLabelValues(listener, "false"),
		resumed:         m.handshake.WithLabelValues(listener, "true"),
		connect:         m.connect.WithLabelValues(listener),
		refused:         make(map[proxy.Reason]prometheus.Counter),
		opened:          make(map[string]prometheus.Counter),
		closed:          make(map[[2]string]prometheus.Counter),
	}
	for _, info := range proxy.Reasons() {
		l.refused[info.Reason] = m.refused.WithLabelValues(listener, string(info.Reason))
	}
	for _, version := range []string{"3.1", "3.1.1", "5.0"} {
		l.opened[version] = m.opened.WithLabelValues(listener, version)
	}
	for by, causes := range endings {
		for _, cause := range causes {
			l.closed[[2]string{by, cause}] = m.closed.WithLabelValues(listener, by, cause)
		}
	}
	known, _ := m.listeners.LoadOrStore(listener, l)
	return known.(*listenerMetrics)
}

// child returns the counter of key, or makes it where the set of keys has grown.
func child[K comparable](known map[K]prometheus.Counter, key K, missing func() prometheus.Counter) prometheus.Counter {
	if c, ok := known[key]; ok {
		return c
	}
	return missing()
}

// endings are the causes for which each side ends a session.
var endings = map[string][]string{
	"client":   {"closed", "fault"},
	"upstream": {"closed", "fault"},
	"proxy":    {"revoked", "expired", "displaced", "draining", "kicked", "upstream_lost", "cut"},
}

// serverCollector exports what a proxy.Server counts by itself, from one look at
// it for all metrics.
type serverCollector struct{ stats func() proxy.Stats }

// Describe implements prometheus.Collector.
func (c serverCollector) Describe(ch chan<- *prometheus.Desc) { prometheus.DescribeByCollect(c, ch) }

// Collect implements prometheus.Collector.
func (c serverCollector) Collect(ch chan<- prometheus.Metric) {
	emit := func(kind prometheus.ValueType, name, help string, value float64, label ...string) {
		var names, values []string
		if len(label) == 2 {
			names, values = label[:1], label[1:]
		}
		ch <- prometheus.MustNewConstMetric(prometheus.NewDesc(namespace+name, help, names, nil), kind, value, values...)
	}
	const counter, gauge = prometheus.CounterValue, prometheus.GaugeValue
	const bytes = "Bytes of sessions after CONNECT and CONNACK, up to the broker and down to clients."
	const relayed = "Sessions whose bytes flow: quiet ones wait in an event loop, busy ones have goroutines."
	s := c.stats()
	emit(gauge, "connections", "Open connections of clients, sessions included.", float64(s.Connections))
	emit(gauge, "connections_pending", "Open connections without a CONNECT, or refused and not yet closed.", float64(s.Pending))
	emit(gauge, "sessions", "Live sessions: connections whose token is good.", float64(s.Sessions))
	emit(counter, "session_bytes_total", bytes, float64(s.Up), "direction", "up")
	emit(counter, "session_bytes_total", bytes, float64(s.Down), "direction", "down")
	emit(gauge, "relay_sessions", relayed, float64(s.Quiet), "state", "quiet")
	emit(gauge, "relay_sessions", relayed, float64(s.Busy), "state", "busy")
	emit(counter, "relay_escalations_total", "How often a quiet session became busy.", float64(s.Escalations))
}
