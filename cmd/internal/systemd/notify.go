// Package systemd talks to the service manager: it takes over the sockets that it has
// opened, and tells it what it wants to know. Without one, which is how everybody but
// systemd starts a program, there are no sockets and nobody is told.
//
// Sources: sd_listen_fds(3), sd_notify(3), sd_watchdog_enabled(3).
package systemd

import (
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/coreos/go-systemd/v22/daemon"
)

// What the manager is told with [Tell].
const (
	Ready    = daemon.SdNotifyReady
	Stopping = daemon.SdNotifyStopping
	// Alive has to come more often than [Watchdog] says.
	Alive = daemon.SdNotifyWatchdog
)

// Reloading says that a reload begins now; Ready says that it has ended.
func Reloading() string { return daemon.SdNotifyReloading + "\n" + daemon.SdNotifyMonotonicUsec() }

// Status says in one line what the service does.
func Status(text string) string { return "STATUS=" + strings.ReplaceAll(text, "\n", "; ") }

// ExtendTimeout asks for d more before a start or a stop counts as failed.
func ExtendTimeout(d time.Duration) string {
	return fmt.Sprintf("EXTEND_TIMEOUT_USEC=%d", d.Microseconds())
}

// Managed reports whether there is a manager that wants to be told anything.
func Managed() bool { return os.Getenv("NOTIFY_SOCKET") != "" }

// Tell sends states to the manager, all at once. It is no error if there is none.
func Tell(states ...string) error {
	if _, err := daemon.SdNotify(false, strings.Join(states, "\n")); err != nil {
		return fmt.Errorf("tell systemd: %w", err)
	}
	return nil
}

// Watchdog returns how long the manager waits for the next Alive before it takes
// the process for dead, 0 if it does not wait.
func Watchdog() (time.Duration, error) {
	d, err := daemon.SdWatchdogEnabled(false)
	if err != nil {
		return 0, fmt.Errorf("the watchdog that systemd asks for: %w", err)
	}
	return d, nil
}
