package service

import "github.com/prometheus/client_golang/prometheus"

// counters count what happens to the service as a whole.
type counters struct {
	reloads, tokenReloads, revocations *prometheus.CounterVec
}

func newCounters(r prometheus.Registerer) *counters {
	counter := func(name, help, label string, values ...string) *prometheus.CounterVec {
		c := prometheus.NewCounterVec(prometheus.CounterOpts{Name: "mqtt_auth_proxy_" + name, Help: help}, []string{label})
		for _, v := range values {
			c.WithLabelValues(v)
		}
		r.MustRegister(c)
		return c
	}
	return &counters{
		reloads:      counter("reloads_total", "Reloads, by what came of them.", "outcome", reloadApplied, reloadUnchanged, reloadFailed),
		tokenReloads: counter("token_file_reloads_total", "Versions of a token file, by whether they took effect.", "outcome", "accepted", "rejected"),
		revocations:  counter("revocations_total", "Tokens and devices withdrawn, by who said so: a source, or the admin side.", "by", "source", "admin"),
	}
}
