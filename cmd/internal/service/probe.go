package service

import (
	"errors"
	"fmt"

	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/cmd/internal/config"
	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/proxy/certs"
	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/proxy/upstream/pool"
)

// Probe reads the files that the plan names, without starting anything, so that check
// also finds faults that serve would meet only when it starts.
func (p *Plan) Probe() error {
	return errors.Join(probeListeners(p.Listeners), probeUpstream(p))
}

// probeListeners reads the certificate files of listeners. It does not make any.
func probeListeners(listeners []config.Listener) error {
	var errs []error
	for i, l := range listeners {
		if l.TLS == nil {
			continue
		}
		if err := certs.Check(certificateFiles(l.TLS)); err != nil {
			errs = append(errs, fmt.Errorf("%s.tls: %w", listenerKey(i), err))
		}
	}
	return errors.Join(errs...)
}

// probeUpstream reads the files that are needed to reach the brokers.
func probeUpstream(p *Plan) error {
	if p.servers == nil {
		return nil
	}
	if _, err := newBrokers(p, pool.Trace{}, nil); err != nil {
		return fmt.Errorf("upstream.%w", err)
	}
	return nil
}
