package observe

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/cmd/internal/broker"
	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/cmd/internal/hooks"
	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/cmd/internal/host"
	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/cmd/internal/presence"
	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/cmd/internal/replicas"
	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/cmd/internal/telemetry"
	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/proxy"
	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/proxy/upstream/pool"
)

// State has the sources of the metrics that are read at each scrape, rather than counted when
// an event happens. Each function returns a snapshot and is called once per scrape, possibly by
// several goroutines at once. If a function is nil, its metrics do not exist.
type State struct {
	Ready        func() error // nil means ready
	Degraded     func() []string
	LoginRefused func() bool // the brokers refuse the credentials of the proxy
	Server       func() proxy.Stats
	Memory       func() host.MemoryUsage
	Config       func() Config
	Certificates func() []Certificate
	Brokers      func() []pool.Status
	Sources      func(SourceMetrics)
	Bundled      func() (b Bundled, ok bool)  // false if there is no bundled broker
	Replicas     func() (r Replicas, ok bool) // false without a bus
	Presence     func() Presence
	Hooks        func() (s hooks.Stats, ok bool) // false without a receiver
}

// Presence describes the records of when devices were seen.
type Presence struct {
	presence.Stats
	Recorded bool // false while the store cannot be used
}

// Replicas describes the other replicas and the bus.
type Replicas struct {
	Heard   []replicas.Peer
	Servers []replicas.Server
	Stats   replicas.Stats
}

// Config describes the configuration in force.
type Config struct {
	Fingerprint string
	ReloadGood  bool      // false if a part of the last reload failed
	Succeeded   time.Time // the end of the last successful reload, or the start
}

// Certificate has the expiry of the certificates of a listener. A time is zero if there is no
// such certificate.
type Certificate struct {
	Listener string
	Server   time.Time // the earliest, if there are several
	ClientCA time.Time // the earliest, if there are several
}

// Bundled describes the bundled broker and its store.
type Bundled struct {
	Broker   broker.Stats
	Intake   telemetry.IntakeStats
	Store    telemetry.Stats
	Writable bool
}

// Export adds the metrics that are read at each scrape. It must be called once.
func (o *Observer) Export(s State) { o.registry.MustRegister(collector(s.collect)) }

// collector makes metrics at each scrape.
type collector func(emitter)

// Describe implements prometheus.Collector. The set of metrics depends on the configuration, so
// none are announced.
func (collector) Describe(chan<- *prometheus.Desc) {}

// Collect implements prometheus.Collector.
func (c collector) Collect(ch chan<- prometheus.Metric) { c(emitter{ch}) }

// emitter makes the metrics of one scrape. The labels of a metric are given as alternating
// names and values. The help text also appears in the manual.
type emitter struct{ ch chan<- prometheus.Metric }

func (e emitter) count(name, help string, value float64, labels ...string) {
	e.emit(prometheus.CounterValue, name, help, value, labels)
}

func (e emitter) gauge(name, help string, value float64, labels ...string) {
	e.emit(prometheus.GaugeValue, name, help, value, labels)
}

// flag makes a gauge that is 1 for true.
func (e emitter) flag(name, help string, is bool, labels ...string) {
	value := 0.0
	if is {
		value = 1
	}
	e.gauge(name, help, value, labels...)
}

// since1970 makes a gauge of a time, or nothing for the zero time.
func (e emitter) since1970(name, help string, t time.Time, labels ...string) {
	if !t.IsZero() {
		e.gauge(name, help, float64(t.UnixMilli())/1000, labels...)
	}
}

func (e emitter) emit(kind prometheus.ValueType, name, help string, value float64, labels []string) {
	var names, values []string
	for i := 0; i+1 < len(labels); i += 2 {
		names, values = append(names, labels[i]), append(values, labels[i+1])
	}
	e.ch <- prometheus.MustNewConstMetric(prometheus.NewDesc(namespace+name, help, names, nil), kind, value, values...)
}

func (s State) collect(e emitter) {
	if s.Ready != nil {
		e.flag("ready", "1 if /readyz answers 200: devices can be served. 0 while the proxy shuts down, while no broker answers, while the brokers refuse the credentials of the proxy, or while the bundled store cannot write.", s.Ready() == nil)
	}
	if s.Degraded != nil {
		e.flag("degraded", "1 while something does not work although devices can be served, such as a token source. GET /readyz and GET /v1/status say what.", len(s.Degraded()) > 0)
	}
	if s.LoginRefused != nil {
		e.flag("upstream_login_refused", "1 while the brokers refuse the credentials that the proxy sends, so that no device can connect.", s.LoginRefused())
	}
	if s.Server != nil {
		e.server(s.Server())
	}
	if s.Memory != nil {
		e.memory(s.Memory())
	}
	if s.Config != nil {
		e.config(s.Config())
	}
	if s.Certificates != nil {
		e.certificates(s.Certificates())
	}
	if s.Brokers != nil {
		e.brokers(s.Brokers())
	}
	if s.Sources != nil {
		s.Sources(SourceMetrics{emitter: e})
	}
	if s.Replicas != nil {
		if r, ok := s.Replicas(); ok {
			e.replicas(r)
		}
	}
	if s.Presence != nil {
		e.presence(s.Presence())
	}
	if s.Hooks != nil {
		if st, ok := s.Hooks(); ok {
			e.hooks(st)
		}
	}
	if s.Bundled != nil {
		if b, ok := s.Bundled(); ok {
			e.bundledBroker(b.Broker)
			e.telemetry(b)
		}
	}
}

func (e emitter) server(s proxy.Stats) {
	const bytes = "Bytes of sessions after CONNECT and CONNACK, up to the broker and down to devices, live sessions included."
	const relayed = "Sessions that relay bytes, by state: quiet ones need two descriptors and little memory, busy ones have goroutines and buffers as well."
	e.gauge("connections", "Open connections, sessions included.", float64(s.Connections))
	e.gauge("connections_pending", "Open connections that have not sent a CONNECT, or are refused and not yet closed by the device.", float64(s.Pending))
	e.gauge("sessions", "Live sessions: connections whose token was accepted.", float64(s.Sessions))
	e.count("session_bytes_total", bytes, float64(s.Up), "direction", "up")
	e.count("session_bytes_total", bytes, float64(s.Down), "direction", "down")
	e.gauge("relay_sessions", relayed, float64(s.Quiet), "state", "quiet")
	e.gauge("relay_sessions", relayed, float64(s.Busy), "state", "busy")
	e.count("relay_escalations_total", "How often a quiet session became busy.", float64(s.Escalations))
	e.gauge("sessions_held", "Sessions whose device is over a rate of its limits: what it has sent waits, and nothing more is read from it.", float64(s.Held))
	e.count("session_holds_total", "How often a device went over a rate of its limits.", float64(s.Holds))
	e.flag("tls_buffers_lent", "1 if idle TLS connections need no buffer, 0 if the program was built with a release of Go with which each of them may keep up to 17 KiB.", proxy.LendsTLSBuffers())
}

func (e emitter) presence(p Presence) {
	e.flag("presence_recorded", "1 while the proxy can record when devices were seen, 0 while state.db or the database cannot be written. Devices are served either way.", p.Recorded)
	e.gauge("presence_pending", "Devices whose records wait to be written.", float64(p.Pending))
	e.count("presence_lost_total", "Records of when devices and tokens were seen that were lost because they could not be written for too long.", float64(p.Lost))
}

func (e emitter) hooks(s hooks.Stats) {
	const lost = "Events that did not reach the receiver, by cause: dropped (there was no room for them) or rejected (the receiver refused them)."
	e.flag("hooks_working", "1 if the last request to the receiver of events succeeded, 0 if it failed.", s.Fault == nil)
	e.gauge("hooks_queued", "Events that wait for the receiver.", float64(s.Queued))
	e.count("hooks_delivered_total", "Events that the receiver has accepted.", float64(s.Delivered))
	e.count("hooks_lost_total", lost, float64(s.Dropped), "cause", "dropped")
	e.count("hooks_lost_total", lost, float64(s.Rejected), "cause", "rejected")
	e.count("hooks_failures_total", "Requests that the receiver did not answer with 2xx.", float64(s.Failures))
}

func (e emitter) memory(u host.MemoryUsage) {
	e.gauge("memory_used_bytes", "Memory used of the limit, 0 without a limit.", float64(u.Used))
	e.gauge("memory_limit_bytes", "Memory that the process may take, 0 without a limit.", float64(u.Limit))
	e.flag("memory_full", "1 while new connections are refused because memory is nearly used up.", u.Full)
}

func (e emitter) config(c Config) {
	e.gauge("config_info", "Constant 1, labelled with the fingerprint of the configuration in force. It is the same on all machines where every key has the same value, secrets aside.",
		1, "fingerprint", c.Fingerprint)
	e.flag("config_last_reload_successful", "0 if the last reload left something as it was before, else 1. Alert on 0.", c.ReloadGood)
	e.since1970("config_last_reload_success_timestamp_seconds", "End of the last reload without a fault, or the start, in seconds since 1970.", c.Succeeded)
}

func (e emitter) certificates(all []Certificate) {
	for _, c := range all {
		e.since1970("certificate_expiry_timestamp_seconds", "End of the server certificate, of several the first, in seconds since 1970.", c.Server, "listener", c.Listener)
		e.since1970("client_ca_expiry_timestamp_seconds", "End of the client CA certificate, of several the first, in seconds since 1970.", c.ClientCA, "listener", c.Listener)
	}
}

func (e emitter) brokers(all []pool.Status) {
	for _, b := range all {
		server := b.Server.String()
		e.flag("upstream_up", "0 while the broker is down, otherwise 1, also while an operator has taken it out of use.", b.State != pool.Down, "server", server)
		e.gauge("upstream_sessions", "Sessions of this proxy on the broker, those that are connecting included.", float64(b.Sessions), "server", server)
		for _, state := range pool.States() {
			e.flag("upstream_state", "1 for the state that the broker is in: unknown, up, recovering or down.", b.State == state, "server", server, "state", string(state))
		}
	}
}
