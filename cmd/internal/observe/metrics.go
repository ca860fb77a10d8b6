package observe

import (
	"sync"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/proxy"
)

// namespace begins the name of every metric.
const namespace = "mqtt_auth_proxy_"

// metrics has the metrics of events, which are counted when they happen. Metrics that are read
// at each scrape are in [State].
type metrics struct {
	accepted, dropped, acceptFailed, refused, opened, renewed, closed, denied *prometheus.CounterVec
	handshake, connect                                                        *prometheus.HistogramVec
	panics                                                                    prometheus.Counter

	dials, probes *prometheus.CounterVec
	dialSeconds   *prometheus.HistogramVec

	reloads, tokenFileReloads, revocations *prometheus.CounterVec

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
		dropped:      counter("connections_dropped_total", "Connections closed at once because there was no room even to refuse them.", "listener"),
		acceptFailed: counter("accept_errors_total", "Failures to accept a connection, such as a lack of file descriptors.", "listener"),
		refused:      counter("connections_refused_total", "Connections that did not become a session, by reason.", "listener", "reason"),
		opened:       counter("sessions_opened_total", "Sessions begun, by version of MQTT.", "listener", "version"),
		renewed:      counter("tokens_renewed_total", "Tokens that devices have renewed by AUTH without reconnecting.", "listener"),
		closed: counter("sessions_closed_total",
			"Sessions ended, by side (client, upstream, proxy) and cause, see the table of ends.", "listener", "by", "cause"),
		denied: counter("topics_denied_total",
			"Messages (publish) and topic filters (subscribe) of devices, and messages of the broker (delivery), that topic rules, the topic map or the limits of the session did not allow.", "listener", "kind"),
		handshake: seconds("tls_handshake_seconds", "Time of TLS handshakes that succeeded.", "listener", "resumed"),
		connect:   seconds("connect_seconds", "Time from accept to the CONNACK of sessions that began.", "listener"),
		panics:    counter("panics_total", "Bugs that ended one connection or interrupted a task in the background.").WithLabelValues(),

		dials: counter("upstream_dials_total",
			"Attempts to connect a device to a broker, by outcome: answered, unreachable, unanswered or abandoned (the device left, or the proxy lacked a resource such as a file descriptor).", "server", "outcome"),
		probes:      counter("upstream_probes_total", "Probes of a broker, by outcome: passed or failed.", "server", "outcome"),
		dialSeconds: seconds("upstream_dial_seconds", "Time from the dial to the broker's answer to the CONNECT, of brokers that answered.", "server"),

		reloads:          counter("reloads_total", "Reloads, by outcome: applied, unchanged or failed.", "outcome"),
		tokenFileReloads: counter("token_file_reloads_total", "Versions of a token file, by outcome: accepted or rejected.", "outcome"),
		revocations:      counter("revocations_total", "Tokens and devices withdrawn, by a source or by the admin side.", "by"),
	}
	startAtZero(m.reloads, ReloadApplied, ReloadUnchanged, ReloadFailed)
	startAtZero(m.tokenFileReloads, tokenFileAccepted, tokenFileRejected)
	startAtZero(m.revocations, BySource, ByAdmin, ByReplica)
	return m
}

// startAtZero creates the series for these values of the only label. The functions rate and
// increase of Prometheus miss the first event of a series that does not start at zero.
func startAtZero(c *prometheus.CounterVec, values ...string) {
	for _, v := range values {
		c.WithLabelValues(v)
	}
}

// listenerMetrics has the metrics of one listener. They are looked up once, because a lookup by
// labels costs as much as ten increments.
type listenerMetrics struct {
	accepted, dropped, acceptFailed prometheus.Counter
	renewed                         prometheus.Counter
	deniedPublish, deniedSubscribe  prometheus.Counter
	deniedDelivery                  prometheus.Counter
	refused                         map[proxy.Reason]prometheus.Counter
	opened                          map[string]prometheus.Counter
	closed                          map[closing]prometheus.Counter
	fresh, resumed, connect         prometheus.Observer
}

// closing describes how a session ended: the side that ended it, and why.
type closing struct {
	by    string
	cause proxy.Cause
}

// of returns the metrics of a listener, all of which start at zero.
func (m *metrics) of(listener string) *listenerMetrics {
	if known, ok := m.listeners.Load(listener); ok {
		return known.(*listenerMetrics)
	}
	l := &listenerMetrics{
		accepted:        m.accepted.WithLabelValues(listener),
		dropped:         m.dropped.WithLabelValues(listener),
		acceptFailed:    m.acceptFailed.WithLabelValues(listener),
		renewed:         m.renewed.WithLabelValues(listener),
		deniedPublish:   m.denied.WithLabelValues(listener, "publish"),
		deniedSubscribe: m.denied.WithLabelValues(listener, "subscribe"),
		deniedDelivery:  m.denied.WithLabelValues(listener, "delivery"),
		fresh:           m.handshake.WithLabelValues(listener, "false"),
		resumed:         m.handshake.WithLabelValues(listener, "true"),
		connect:         m.connect.WithLabelValues(listener),
		refused:         make(map[proxy.Reason]prometheus.Counter),
		opened:          make(map[string]prometheus.Counter),
		closed:          make(map[closing]prometheus.Counter),
	}
	for _, info := range proxy.Reasons() {
		l.refused[info.Reason] = m.refused.WithLabelValues(listener, string(info.Reason))
	}
	for _, version := range []string{"3.1", "3.1.1", "5.0"} {
		l.opened[version] = m.opened.WithLabelValues(listener, version)
	}
	for _, info := range proxy.Causes() {
		for _, by := range info.By {
			l.closed[closing{by, info.Cause}] = m.closed.WithLabelValues(listener, by, string(info.Cause))
		}
	}
	known, _ := m.listeners.LoadOrStore(listener, l)
	return known.(*listenerMetrics)
}

// counterOf returns the counter of key in known, or calls missing if known does not have it,
// because the key is newer than known.
func counterOf[K comparable](known map[K]prometheus.Counter, key K, missing func() prometheus.Counter) prometheus.Counter {
	if c, ok := known[key]; ok {
		return c
	}
	return missing()
}
