package service

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/proxy/upstream/pool"
)

// brokerStatus is one broker as /v1/status shows it.
type brokerStatus struct {
	Server   string     `json:"server"`
	State    pool.State `json:"state"`
	Since    *time.Time `json:"since,omitempty"`
	Sessions int        `json:"sessions"`
	Failures int        `json:"failures"`
	// LastError and LastFailed stay after a recovery.
	LastError  string     `json:"last_error,omitempty"`
	LastFailed *time.Time `json:"last_failed,omitempty"`
}

func (b *brokers) status() []brokerStatus {
	if b == nil {
		return nil
	}
	var all []brokerStatus
	for _, s := range b.pool.Status() {
		all = append(all, brokerStatus{
			Server: s.Server.String(), State: s.State, Since: timeOrNone(s.Since), Sessions: s.Sessions,
			Failures: s.Failures, LastError: textOf(s.LastError), LastFailed: timeOrNone(s.Failed),
		})
	}
	return all
}

func timeOrNone(t time.Time) *time.Time {
	if t.IsZero() {
		return nil
	}
	t = t.UTC()
	return &t
}

// brokerCollector exports the state of the brokers in force.
type brokerCollector struct{ *Service }

// Describe implements prometheus.Collector. Which brokers there are depends on the
// config, so none are announced.
func (c brokerCollector) Describe(chan<- *prometheus.Desc) {}

// Collect implements prometheus.Collector.
func (c brokerCollector) Collect(ch chan<- prometheus.Metric) {
	gauge := func(name, help string, value float64, labels ...string) {
		desc := prometheus.NewDesc("mqtt_auth_proxy_upstream_"+name, help, []string{"server", "state"}[:len(labels)], nil)
		ch <- prometheus.MustNewConstMetric(desc, prometheus.GaugeValue, value, labels...)
	}
	b := c.current.Load().upstream
	if b == nil {
		return
	}
	for _, s := range b.pool.Status() {
		server := s.Server.String()
		gauge("up", "1 if devices are sent to a broker, 0 while it is down.", oneIf(s.State != pool.Down), server)
		gauge("sessions", "Sessions of this proxy on a broker, those that are connecting included.", float64(s.Sessions), server)
		for _, state := range pool.States() {
			gauge("state", "1 for the state that a broker is in.", oneIf(s.State == state), server, string(state))
		}
	}
}

func oneIf(is bool) float64 {
	if is {
		return 1
	}
	return 0
}
