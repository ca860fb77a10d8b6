package service

import (
	"os"
	"testing"
	"testing/synctest"
	"time"

	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/cmd/internal/config"
)

func TestSpread(t *testing.T) {
	for _, c := range []struct {
		drain, spread time.Duration
		sessions      int
		want          time.Duration
	}{
		{30 * time.Second, 10 * time.Second, 0, 0},
		{30 * time.Second, 10 * time.Second, 100, 200 * time.Millisecond},
		{30 * time.Second, 10 * time.Second, 100_000, 10 * time.Second},
		{4 * time.Second, 10 * time.Second, 100_000, 2 * time.Second},
		{0, 10 * time.Second, 100_000, 0},
		{30 * time.Second, 0, 100_000, 0},
	} {
		if got := spread(config.Shutdown{Drain: c.drain, Spread: c.spread}, c.sessions); got != c.want {
			t.Errorf("%d sessions in %v at most %v: %v, want %v", c.sessions, c.drain, c.spread, got, c.want)
		}
	}
}

// TestDelay: the service goes on for a while, unless a second signal ends the wait.
func TestDelay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		signals := make(chan os.Signal, 1)
		start := time.Now()
		if !new(Service).keepServing(signals, 5*time.Second) || time.Since(start) != 5*time.Second {
			t.Errorf("went on for %v, want 5s", time.Since(start))
		}
		signals <- os.Interrupt
		if new(Service).keepServing(signals, time.Hour) || time.Since(start) != 5*time.Second {
			t.Errorf("a second signal was not heard for %v", time.Since(start)-5*time.Second)
		}
	})
}
