package service

import (
	"github.com/prometheus/client_golang/prometheus"

	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/authz/cache"
)

// sourceCollector exports what the token sources count. Sources of a kind are
// told apart by their position among those of their kind.
type sourceCollector struct{ *Service }

// Describe implements prometheus.Collector. Which metrics there are depends on
// the config, so none are announced.
func (c sourceCollector) Describe(chan<- *prometheus.Desc) {}

// emitter makes metrics of one source.
type emitter struct {
	ch     chan<- prometheus.Metric
	source string
}

// emit sends one metric; labels are names and values in turn.
func (e emitter) emit(kind prometheus.ValueType, name, help string, value float64, labels ...string) {
	names, values := []string{"source"}, []string{e.source}
	for i := 0; i+1 < len(labels); i += 2 {
		names, values = append(names, labels[i]), append(values, labels[i+1])
	}
	desc := prometheus.NewDesc("mqtt_auth_proxy_"+name, help, names, nil)
	e.ch <- prometheus.MustNewConstMetric(desc, kind, value, values...)
}

func (e emitter) count(name, help string, value uint64, labels ...string) {
	e.emit(prometheus.CounterValue, name, help, float64(value), labels...)
}

func (e emitter) gauge(name, help string, value float64, labels ...string) {
	e.emit(prometheus.GaugeValue, name, help, value, labels...)
}

// limited is the help of a metric that the guard and the token services share.
const limited = "Requests that were refused before a token source was asked."

// Collect implements prometheus.Collector.
func (c sourceCollector) Collect(ch chan<- prometheus.Metric) {
	in := c.current.Load().sources
	emitter{ch, "all"}.count("auth_rate_limited_total", limited, in.guard.Stats().Throttled, "scope", "address")
	names := in.names()
	for i, x := range in.list {
		x.Collect(emitter{ch, names[i]})
	}
}

// decisions tells where the answers that devices got came from.
func (e emitter) decisions(s cache.Stats, malformed uint64) {
	const decisions = "Answers about tokens, by result and by what gave them."
	for _, d := range []struct {
		result, origin string
		n              uint64
	}{
		{"granted", "cache", s.Positive.Hits}, {"denied", "cache", s.Negative.Hits}, {"granted", "stale", s.Stale},
		{"granted", "source", s.Source.Granted}, {"denied", "source", s.Source.Denied}, {"unavailable", "source", s.Source.Unavailable},
		{"denied", "form", malformed},
	} {
		e.count("auth_decisions_total", decisions, d.n, "result", d.result, "origin", d.origin)
	}
}

func (e emitter) cache(s cache.Stats) {
	for store, st := range map[string]cache.StoreStats{"positive": s.Positive, "negative": s.Negative} {
		e.gauge("cache_entries", "Answers remembered.", float64(st.Entries), "store", store)
		e.gauge("cache_bytes", "Estimated memory of the answers remembered.", float64(st.Bytes), "store", store)
		e.count("cache_hits_total", "Requests answered from memory.", st.Hits, "store", store)
		e.count("cache_evictions_total", "Answers pushed out by others.", st.Evictions, "store", store)
		e.count("cache_expirations_total", "Answers found when their time was over.", st.Expirations, "store", store)
	}
	e.count("cache_misses_total", "Requests that nothing remembered could answer.", s.Misses)
	e.count("cache_coalesced_total", "Requests that joined one under way.", s.Coalesced)
	e.count("cache_cooled_total", "Requests that failed at once because the same had just failed.", s.Cooled)
	e.count("cache_stale_served_total", "Grants served after their time because the source was unavailable.", s.Stale)
	e.count("auth_overload_total", "Requests for which there was no place in time.", s.Busy)
	for outcome, n := range map[string]uint64{"granted": s.Refresh.Granted, "denied": s.Refresh.Denied, "unavailable": s.Refresh.Unavailable} {
		e.count("cache_refresh_total", "Grants renewed ahead of time, by outcome.", n, "outcome", outcome)
	}
	e.gauge("auth_inflight", "Questions under way.", float64(s.InFlight))
	e.gauge("auth_queue", "Questions that wait for a place.", float64(s.Queued))
}
