package main

import (
	"context"
	"fmt"
	"net"
	"reflect"
	"sync"
	"time"

	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/cmd/internal/config"
	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/proxy/upstream"
)

// bundled is how the config names the broker inside the program.
const bundled = "bundled"

// upstreamBroker dials the broker and remembers whether it answered.
type upstreamBroker struct {
	dialer *upstream.Dialer
	tls    *upstream.TLS

	mu     sync.Mutex
	failed error // of the last dial
	dialed bool
}

// openUpstream makes the dialer to the broker outside, or at the start the broker
// within. The dialer of before is kept, with what it knows of the broker, where the
// config says the same.
func (d *draft) openUpstream(ctx context.Context) error {
	c, was := d.config.Upstream, d.old.config.Upstream
	var err error
	switch {
	case c.Servers[0].Network == bundled:
		if d.service.bundled == nil {
			d.service.bundled, err = openBundled(ctx, d.service, d.config.Telemetry)
		}
		return err
	case d.old.upstream != nil && reflect.DeepEqual(reach(c), reach(was)):
		d.upstream = d.old.upstream
		return nil
	}
	if d.upstream, err = newUpstreamBroker(c); err != nil {
		return d.fault("upstream", err)
	}
	return nil
}

// reach returns what c says about the way to the broker, without what the broker is
// shown of each session.
func reach(c config.Upstream) config.Upstream {
	c.Username, c.Password, c.ClientID = "", "", ""
	return c
}

func newUpstreamBroker(c config.Upstream) (*upstreamBroker, error) {
	b := &upstreamBroker{dialer: &upstream.Dialer{Timeout: c.ConnectTimeout, ProxyProtocol: proxyProtocolVersion(c.ProxyProtocol)}}
	for i, sc := range c.Servers {
		server, err := upstream.ParseServer(sc.String())
		if err != nil {
			return nil, fmt.Errorf("servers[%d]: %w", i, err)
		}
		b.dialer.Servers = append(b.dialer.Servers, server)
	}
	var err error
	b.tls, err = upstream.LoadTLS(upstream.TLSOptions{
		CA: c.TLS.CA, Certificate: c.TLS.Certificate, Key: c.TLS.Key, ServerName: c.TLS.ServerName,
	})
	if err != nil {
		return nil, fmt.Errorf("tls: %w", err)
	}
	b.dialer.TLS = b.tls
	return b, nil
}

// proxyProtocolVersion returns the version that the config means, 0 for none.
func proxyProtocolVersion(name string) int {
	return map[string]int{"v1": 1, "v2": 2}[name]
}

// Dial opens a connection to the broker.
func (b *upstreamBroker) Dial(ctx context.Context) (net.Conn, error) {
	conn, err := b.dialer.Dial(ctx)
	// A device that left, or a shutdown, says nothing about the broker.
	if ctx.Err() == nil {
		b.mu.Lock()
		b.dialed, b.failed = true, err
		b.mu.Unlock()
	}
	return conn, err
}

// probeTimeout is how long the broker has to accept a connection of a probe.
const probeTimeout = 2 * time.Second

// answers returns nil if the broker took the last connection. If it did not, or
// there was none, it is tried: while devices come, probing would only add noise
// to the broker's log.
func (b *upstreamBroker) answers() error {
	b.mu.Lock()
	dialed, failed := b.dialed, b.failed
	b.mu.Unlock()
	if dialed && failed == nil {
		return nil
	}
	ctx, cancel := context.WithTimeout(context.Background(), probeTimeout)
	defer cancel()
	conn, err := b.Dial(ctx)
	if err != nil {
		return fmt.Errorf("upstream: %w", err)
	}
	return conn.Close()
}

// probeUpstream reads the files of the way to the broker.
func probeUpstream(c config.Upstream) error {
	if c.Servers[0].Network == bundled {
		return nil
	}
	if _, err := newUpstreamBroker(c); err != nil {
		return fmt.Errorf("upstream.%w", err)
	}
	return nil
}
