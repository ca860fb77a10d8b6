package service

import (
	"errors"
	"fmt"
	"net"
	"net/http"
	"sync/atomic"

	"go.uber.org/zap"

	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/proxy"
)

// start serves on every listener.
func (s *Service) start() {
	s.swap.Lock()
	defer s.swap.Unlock()
	s.serveSockets(s.current.Load())
}

// serveSockets serves on the new sockets of g. s.swap is held.
func (s *Service) serveSockets(g *generation) {
	for _, l := range g.listeners {
		s.serve(l.socket, s.server.Serve)
	}
	if g.admin.socket != nil {
		s.serve(g.admin.socket, s.http.Serve)
	}
}

// socket is a listening socket. It may be part of several generations.
type socket struct {
	net.Listener
	label   string
	served  bool        // guarded by Service.swap
	retired atomic.Bool // set before the socket is closed on purpose
}

// retire closes the socket.
func (k *socket) retire() {
	k.retired.Store(true)
	k.Close()
}

// serve serves on a socket unless that has started already.
func (s *Service) serve(k *socket, on func(net.Listener) error) {
	if k.served {
		return
	}
	k.served = true
	s.Log.Info("listening", zap.String("listener", k.label), zap.Stringer("addr", k.Addr()))
	s.goroutines.Go(func() {
		err := on(k.Listener)
		switch {
		case errors.Is(err, proxy.ErrServerClosed), errors.Is(err, http.ErrServerClosed):
		case k.retired.Load():
			s.Log.Info("no longer listening", zap.String("listener", k.label), zap.Stringer("addr", k.Addr()))
		default:
			s.fail(fmt.Errorf("listener %s: %w", k.label, err))
		}
	})
}

// fail ends the service because of err, with a drain. Only the first few errors are kept.
func (s *Service) fail(err error) {
	select {
	case s.fatal <- err:
	default:
	}
}
