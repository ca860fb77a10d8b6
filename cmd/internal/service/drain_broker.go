package service

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"time"

	"go.uber.org/zap"

	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/cmd/internal/admin"
	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/proxy"
)

// brokerDrains ends the sessions on brokers that are taken out of use. The zero value ends none.
type brokerDrains struct {
	mu     sync.Mutex
	ends   map[string]context.CancelFunc // by server: ends what begin has returned last
	closed bool
}

// begin returns the context under which the sessions on a server are ended. It is canceled by the
// next call of begin or stop for that server, and by stopAll.
func (d *brokerDrains) begin(server string) context.Context {
	d.mu.Lock()
	defer d.mu.Unlock()
	ctx, cancel := context.WithCancel(context.Background())
	if d.closed {
		cancel()
		return ctx
	}
	if end := d.ends[server]; end != nil {
		end()
	}
	if d.ends == nil {
		d.ends = make(map[string]context.CancelFunc)
	}
	d.ends[server] = cancel
	return ctx
}

func (d *brokerDrains) stop(server string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if end := d.ends[server]; end != nil {
		end()
	}
}

func (d *brokerDrains) stopAll() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.closed = true
	for _, end := range d.ends {
		end()
	}
}

// drainBroker takes a broker out of use or puts it back.
func (s *Service) drainBroker(change admin.BrokerChange) (admin.BrokerStatus, error) {
	s.swap.RLock()
	defer s.swap.RUnlock()
	b := s.current.Load().upstream
	var names []string
	for _, one := range b.poolStatus() {
		name := one.Server.String()
		if name != change.Server {
			names = append(names, name)
			continue
		}
		b.pool.Drain(one.Server, change.Drained)
		s.drains.stop(name)
		if change.End {
			s.endOn(name)
		}
		status, _ := b.statusOf(name)
		return status, nil
	}
	if names == nil {
		return admin.BrokerStatus{}, fmt.Errorf("%w: the bundled broker is a part of this program and cannot be taken out of use", admin.ErrNoBroker)
	}
	return admin.BrokerStatus{}, fmt.Errorf("%w; there are %s", admin.ErrNoBroker, strings.Join(names, ", "))
}

// endOn ends the sessions on a broker over shutdown.spread, in the background.
func (s *Service) endOn(server string) {
	ctx := s.drains.begin(server)
	if ctx.Err() != nil {
		return
	}
	over := s.current.Load().config.Shutdown
	s.background(ctx, "broker drain", func(ctx context.Context) {
		on := func(c *proxy.Client) bool { return c.Server == server }
		// Connections that chose the broker before it was drained may become sessions meanwhile.
		for n := s.sessionsOn(server); n > 0 && ctx.Err() == nil; n = s.sessionsOn(server) {
			s.server.KickOver(ctx, min(over.Spread, time.Duration(n)*endInterval), on, proxy.ErrBrokerDrained)
			pause(ctx, time.Second)
		}
		if ctx.Err() == nil {
			s.Log.Info("no session is left on the broker", zap.String("server", server))
		}
	})
}

// sessionsOn returns how many sessions a broker has, including those that are connecting. A broker
// that a reload has removed meanwhile keeps its sessions.
func (s *Service) sessionsOn(server string) (n int) {
	if status, ok := s.current.Load().upstream.statusOf(server); ok {
		return status.Sessions
	}
	for c := range s.server.Clients() {
		if c.Server == server {
			n++
		}
	}
	return n
}
