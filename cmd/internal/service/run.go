package service

import (
	"errors"
	"io"
	"os"
	"syscall"

	"go.uber.org/zap"

	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/cmd/internal/host"
	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/proxy"
)

// Run serves until a signal or a fault ends it. SIGHUP reloads, the first other signal drains,
// and a second one cuts the remaining sessions. Run prints the token of a first start to
// stdout, which should be an observe.Output, so that a reader that stalls does not hold up the
// service. It is called once.
func (s *Service) Run(signals <-chan os.Signal, stdout io.Writer) error {
	s.warn()
	host.AddProcessors(proxy.EventLoops)
	s.server.HoldThreads = true
	s.server.WriteTimeout = s.current.Load().config.Limits.WriteTimeout
	s.confine()
	s.start()
	s.systemd.Ready(s.summary())
	s.printDemo(stdout)
	return s.wait(signals)
}

// wait serves until a signal or a fault ends it.
func (s *Service) wait(signals <-chan os.Signal) error {
	for {
		select {
		case sig := <-signals:
			if sig != syscall.SIGHUP {
				s.draining.Store(true)
				delay := s.current.Load().config.Shutdown.Delay
				s.Log.Info("shutting down", zap.Stringer("signal", sig), zap.Int("sessions", s.server.Stats().Sessions))
				return s.drain(signals, delay)
			}
			s.reloader.ask()
		case err := <-s.fatal:
			s.Log.Error("cannot continue", zap.Error(err))
			return errors.Join(err, s.drain(signals, 0))
		}
	}
}
