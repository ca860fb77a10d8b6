package host

import (
	"context"
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/coreos/go-systemd/v22/daemon"
	"go.uber.org/zap"
)

// statusInterval is the longest time between two reports to systemd.
const statusInterval = 10 * time.Second

// Systemd reports the state of the process to systemd, as sd_notify(3) describes. If systemd is
// not the service manager, its methods do nothing.
type Systemd struct {
	// Log receives errors of reports, which have no other effect.
	Log *zap.Logger
}

// Ready reports that the process is serving, after its start or after a reload. The status is
// one line of text for systemctl status.
func (s Systemd) Ready(status string) { s.send(daemon.SdNotifyReady, statusState(status)) }

// Reloading reports the beginning of a reload. Ready must follow.
func (s Systemd) Reloading() {
	s.send(daemon.SdNotifyReloading, daemon.SdNotifyMonotonicUsec())
}

// Stopping reports that the process is about to end, and asks for that much time.
func (s Systemd) Stopping(status string, within time.Duration) {
	s.send(daemon.SdNotifyStopping, statusState(status), fmt.Sprintf("EXTEND_TIMEOUT_USEC=%d", within.Microseconds()))
}

// Report reports the status whenever it has changed and, if systemd watches the process
// (WatchdogSec), that the process is alive. It returns when ctx is done. While alive returns an
// error, or does not return at all, systemd gets no report and finally restarts the process.
func (s Systemd) Report(ctx context.Context, alive func() error, status func() string) {
	if os.Getenv("NOTIFY_SOCKET") == "" {
		return
	}
	watchdog, err := watchdogTimeout()
	if err != nil {
		s.Log.Warn("no watchdog", zap.Error(err))
	}
	interval := statusInterval
	if watchdog > 0 {
		interval = min(interval, watchdog/2)
	}
	tick := time.NewTicker(interval)
	defer tick.Stop()
	var last string
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		var states []string
		if err := alive(); err != nil {
			s.Log.Error("the process cannot serve devices", zap.Error(err))
		} else if watchdog > 0 {
			states = append(states, daemon.SdNotifyWatchdog)
		}
		if now := status(); now != last {
			last = now
			states = append(states, statusState(now))
		}
		s.send(states...)
	}
}

func statusState(text string) string { return "STATUS=" + strings.ReplaceAll(text, "\n", "; ") }

// send sends the states in one message, if there are any.
func (s Systemd) send(states ...string) {
	if len(states) == 0 {
		return
	}
	if _, err := daemon.SdNotify(false, strings.Join(states, "\n")); err != nil {
		s.Log.Warn("cannot report to systemd", zap.Error(err))
	}
}

// watchdogTimeout returns how long systemd waits for the next report before it restarts the
// process, or 0 if it does not watch the process (sd_watchdog_enabled(3)).
func watchdogTimeout() (time.Duration, error) {
	d, err := daemon.SdWatchdogEnabled(false)
	if err != nil {
		return 0, fmt.Errorf("the watchdog that systemd asks for: %w", err)
	}
	return d, nil
}
