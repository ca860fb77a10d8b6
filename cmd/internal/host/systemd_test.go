package host

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"

	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/integration/harness"
)

// notifySocket makes this process one that systemd has started, and returns where systemd
// would read its reports.
func notifySocket(t *testing.T) *net.UnixConn {
	t.Helper()
	path := filepath.Join(t.TempDir(), "notify")
	conn, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: path, Net: "unixgram"})
	if err != nil {
		harness.Skip(t, fmt.Sprintf("this system has no datagram sockets: %v", err))
	}
	t.Cleanup(func() { conn.Close() })
	t.Setenv("NOTIFY_SOCKET", path)
	return conn
}

// nextReport returns the next message to systemd.
func nextReport(t *testing.T, conn *net.UnixConn) string {
	t.Helper()
	if err := conn.SetReadDeadline(time.Now().Add(20 * time.Second)); err != nil {
		t.Fatal(err)
	}
	b := make([]byte, 1024)
	n, err := conn.Read(b)
	if err != nil {
		t.Fatal(err)
	}
	return string(b[:n])
}

func TestSystemdGetsEveryState(t *testing.T) {
	conn := notifySocket(t)
	s := Systemd{Log: zap.NewNop()}
	s.Ready("2 sessions\nand more")
	if got, want := nextReport(t, conn), "READY=1\nSTATUS=2 sessions; and more"; got != want {
		t.Errorf("ready: %q, want %q", got, want)
	}
	s.Reloading()
	if got, want := nextReport(t, conn), "RELOADING=1\nMONOTONIC_USEC="; !strings.HasPrefix(got, want) {
		t.Errorf("reloading: %q, want %q...", got, want)
	}
	s.Stopping("none", time.Second)
	if got, want := nextReport(t, conn), "STOPPING=1\nSTATUS=none\nEXTEND_TIMEOUT_USEC=1000000"; got != want {
		t.Errorf("stopping: %q, want %q", got, want)
	}
}

// TestReportsThatFailAreLogged: a report that fails is logged, and without a service manager
// there is none.
func TestReportsThatFailAreLogged(t *testing.T) {
	core, logged := observer.New(zap.WarnLevel)
	s := Systemd{Log: zap.New(core)}
	t.Setenv("NOTIFY_SOCKET", "")
	s.Ready("")
	s.Report(t.Context(), nil, nil)
	if logged.Len() != 0 {
		t.Errorf("%d lines without a manager", logged.Len())
	}
	t.Setenv("NOTIFY_SOCKET", filepath.Join(t.TempDir(), "gone"))
	s.Ready("")
	if logged.Len() != 1 {
		t.Errorf("%d lines about a manager that is gone, want 1", logged.Len())
	}
}

// TestReport: systemd gets reports that the process is alive, and its status when that changes. It
// gets no report while the process cannot serve devices.
func TestReport(t *testing.T) {
	conn := notifySocket(t)
	t.Setenv("WATCHDOG_USEC", "20000")
	core, logged := observer.New(zap.ErrorLevel)
	broken := make(chan struct{})
	checks := 0
	alive := func() error {
		if checks++; checks < 3 {
			return nil
		}
		if checks == 4 {
			close(broken)
		}
		return errors.New("stuck")
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() {
		defer close(done)
		Systemd{Log: zap.New(core)}.Report(ctx, alive, func() string { return "1 session" })
	}()
	for i, want := range []string{"WATCHDOG=1\nSTATUS=1 session", "WATCHDOG=1"} {
		if got := nextReport(t, conn); got != want {
			t.Errorf("report %d: %q, want %q", i, got, want)
		}
	}
	<-broken
	cancel()
	<-done
	if n := logged.FilterMessage("the process cannot serve devices").Len(); n < 1 {
		t.Error("that the process cannot serve devices is not logged")
	}
	Systemd{Log: zap.NewNop()}.Ready("the end")
	if got, want := nextReport(t, conn), "READY=1\nSTATUS=the end"; got != want {
		t.Errorf("a process that does not work has sent %q", got)
	}
}

func TestWatchdogTimeout(t *testing.T) {
	if d, err := watchdogTimeout(); d != 0 || err != nil {
		t.Errorf("%v, %v without one", d, err)
	}
	t.Setenv("WATCHDOG_USEC", "5000000")
	if d, err := watchdogTimeout(); d != 5*time.Second || err != nil {
		t.Errorf("%v, %v, want 5s", d, err)
	}
	t.Setenv("WATCHDOG_USEC", "soon")
	if _, err := watchdogTimeout(); err == nil {
		t.Error("garbage is a watchdog")
	}
}

func TestSocketsListenByName(t *testing.T) {
	open := func() *os.File {
		ln, err := net.ListenTCP("tcp", &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1)})
		if err != nil {
			t.Fatal(err)
		}
		defer ln.Close()
		f, err := ln.File()
		if err != nil {
			t.Fatal(err)
		}
		return f
	}
	s := Sockets{"mqtt": {open()}, "two": {open(), open()}}
	defer s.Close()
	for range 2 {
		ln, err := s.Listen("mqtt")
		if err != nil {
			t.Fatal(err)
		}
		conn, err := net.Dial("tcp", ln.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		conn.Close()
		ln.Close()
	}
	for name, want := range map[string]string{"other": "FileDescriptorName=other", "two": "2 sockets"} {
		if _, err := s.Listen(name); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q", name, err, want)
		}
	}
	if _, err := (Sockets{}).Listen("mqtt"); err == nil {
		t.Error("a socket without systemd")
	}
}
