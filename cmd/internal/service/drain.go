package service

import (
	"context"
	"errors"
	"os"
	"syscall"
	"time"

	"go.uber.org/zap"

	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/cmd/internal/config"
	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/cmd/internal/host"
)

const (
	// endInterval is the time between the ends of two sessions in a drain. If each device
	// reconnects at once, 500 devices per second connect elsewhere.
	endInterval = 2 * time.Millisecond
	// divertTime is how long connections that have begun may take to become sessions while
	// another process accepts the new ones. A client repeats an unanswered SYN after a second.
	divertTime = 500 * time.Millisecond
	// closeMargin is enough time to close everything after a drain.
	closeMargin = 10 * time.Second
)

// errCut is the error of a drain that did not finish.
var errCut = errors.New("sessions were cut before they had ended")

// drain ends the sessions in order. Sessions that are left are cut by a second signal, or when
// the configured time is over.
func (s *Service) drain(signals <-chan os.Signal, delay time.Duration) error {
	s.draining.Store(true)
	c := s.current.Load().config.Shutdown
	s.systemd.Stopping(s.summary(), delay+divertTime+c.Drain+closeMargin)
	inTime := s.keepServing(signals, delay) && s.keepServing(signals, s.divert())
	ctx, cut := context.WithTimeout(context.Background(), max(c.Drain, time.Millisecond))
	if !inTime {
		cut()
	}
	defer cut()
	s.Sockets.Close()
	return s.endSessions(ctx, cut, signals, spread(c, s.server.Stats().Sessions))
}

// spread returns the time over which that many sessions are ended.
func spread(c config.Shutdown, sessions int) time.Duration {
	return min(c.Spread, c.Drain/2, time.Duration(sessions)*endInterval)
}

// keepServing waits for d while the service continues as before. It returns false if a signal
// ended the wait.
func (s *Service) keepServing(signals <-chan os.Signal, d time.Duration) bool {
	if d <= 0 {
		return true
	}
	over := time.NewTimer(d)
	defer over.Stop()
	for {
		select {
		case <-over.C:
			return true
		case sig := <-signals:
			if sig != syscall.SIGHUP {
				return false
			}
		}
	}
}

// endSessions ends all sessions and waits until they have ended. A signal cuts them.
func (s *Service) endSessions(ctx context.Context, cut func(), signals <-chan os.Signal, spread time.Duration) error {
	done := make(chan error, 1)
	go func() { done <- s.server.Drain(ctx, spread) }()
	for {
		select {
		case err := <-done:
			if err != nil {
				s.Log.Warn("shut down before all sessions had ended", zap.Error(errCut))
				return errCut
			}
			s.Log.Info("shut down")
			return nil
		case sig := <-signals:
			if sig != syscall.SIGHUP {
				cut()
			}
		}
	}
}

// divert leaves new connections to another process that accepts them on the same sockets, now
// or later. It returns how long connections that have begun here may take.
func (s *Service) divert() (wait time.Duration) {
	for _, l := range s.current.Load().listeners {
		_, inherited := config.Inherited(l.config.Address)
		switch {
		case inherited:
			l.socket.retire() // systemd still has it open
		case !l.config.ReusePort:
			continue
		default:
			if err := host.Divert(l.served().Listener); err != nil {
				s.Log.Warn("connections that are made now may be lost", zap.String("listener", l.config.Name), zap.Error(err))
			}
		}
		wait = divertTime
	}
	return wait
}
