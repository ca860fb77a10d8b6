package service

import (
	"context"
	"fmt"
	"net"
	"reflect"
	"time"

	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/cmd/internal/config"
	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/proxy/upstream"
	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/proxy/upstream/pool"
)

// brokers are the external brokers, one or several.
type brokers struct {
	pool *pool.Pool
	dial func(context.Context, upstream.Server) (net.Conn, error)
	tls  *upstream.TLS
	stop context.CancelFunc // ends the probes; nil before they started
}

// openUpstream connects to the external brokers. It returns nil with the bundled broker. If the
// configuration has not changed, it keeps the brokers of old; otherwise it keeps the state of
// the servers that remain.
func openUpstream(p *Plan, old *generation, trace pool.Trace) (*brokers, error) {
	switch {
	case p.servers == nil:
		return nil, nil
	case old.upstream != nil && reflect.DeepEqual(reach(p.Upstream), reach(old.config.Upstream)):
		return old.upstream, nil
	}
	b, err := newBrokers(p, trace, old.upstream)
	if err != nil {
		return nil, faultAt(p.Config, "upstream", err)
	}
	return b, nil
}

// reach returns the part of c about reaching the brokers, without the credentials of sessions.
func reach(c config.Upstream) config.Upstream {
	c.Username, c.Password, c.ClientID = "", "", ""
	return c
}

// newBrokers makes the connection to the brokers. It takes over the state of servers that
// remain from previous, which may be nil.
func newBrokers(p *Plan, trace pool.Trace, previous *brokers) (*brokers, error) {
	c := p.Upstream
	o := poolOptions(c, trace)
	o.Servers = p.servers
	secure, err := upstream.LoadTLS(upstream.TLSOptions{
		CA: c.TLS.CA, Certificate: c.TLS.Certificate, Key: c.TLS.Key, ServerName: c.TLS.ServerName,
	})
	if err != nil {
		return nil, fmt.Errorf("tls: %w", err)
	}
	o.Dial = (&upstream.Dialer{TLS: secure, ProxyProtocol: proxyProtocolVersion(c.ProxyProtocol)}).Dial
	if previous != nil {
		o.Previous = previous.pool
	}
	return &brokers{pool: pool.New(o), dial: o.Dial, tls: secure}, nil
}

func poolOptions(c config.Upstream, trace pool.Trace) pool.Options {
	if !c.Health.CutSessions {
		trace.Lost = nil
	}
	return pool.Options{
		Balance:   pool.Balance(c.Balance),
		Failures:  c.Health.Failures,
		SlowStart: c.SlowStart,
		Health: pool.Health{
			Interval: c.Health.Interval, Timeout: c.Health.Timeout,
			MQTT: c.Health.MQTT, Username: c.Health.Username, Password: c.Health.Password.Reveal(),
		},
		Trace:  trace,
		Advice: advice(c),
	}
}

// advice says what may be wrong with a broker that accepts connections and answers nothing: the
// two sides may disagree about the PROXY protocol, which neither can detect.
func advice(c config.Upstream) string {
	if proxyProtocolVersion(c.ProxyProtocol) != 0 {
		return "does this listener of the broker expect the PROXY protocol header that upstream.proxy_protocol: " + c.ProxyProtocol + " sends?"
	}
	return "is this a listener for MQTT, and does it work without a PROXY protocol header, see upstream.proxy_protocol?"
}

// proxyProtocolVersion returns the configured version, or 0 for off.
func proxyProtocolVersion(name string) int {
	return map[string]int{"v1": 1, "v2": 2}[name]
}

// begin starts to probe the brokers, unless old is the same value.
func (b *brokers) begin(old *brokers, in *Service) {
	if b == nil || b == old {
		return
	}
	var servers []upstream.Server
	for _, s := range b.pool.Status() {
		in.observer.ExpectServer(s.Server)
		servers = append(servers, s.Server)
	}
	in.replicas.Connect(servers)
	ctx, stop := context.WithCancel(context.Background())
	b.stop = stop
	in.background(ctx, "brokers", b.pool.Run)
}

// retire ends the probes, unless next is the same value. Connections that have begun still
// reach their broker.
func (b *brokers) retire(next *brokers) {
	if b != nil && b != next && b.stop != nil {
		b.stop()
	}
}

// poolTrace returns the hooks with which the pool reports the state of brokers.
func (s *Service) poolTrace() pool.Trace {
	trace := s.observer.PoolTrace()
	trace.Lost = s.cutSessions
	return trace
}

// readyTimeout is how long the brokers may take to answer a readiness check.
const readyTimeout = 2 * time.Second

// answers returns nil if a broker answers.
func (b *brokers) answers() error {
	ctx, cancel := context.WithTimeout(context.Background(), readyTimeout)
	defer cancel()
	if err := b.pool.Answers(ctx); err != nil {
		return fmt.Errorf("upstream: %w", err)
	}
	return nil
}
