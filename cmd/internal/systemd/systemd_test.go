package systemd

import (
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// manager listens where the process tells it things.
func manager(t *testing.T) *net.UnixConn {
	t.Helper()
	path := filepath.Join(t.TempDir(), "notify")
	conn, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: path, Net: "unixgram"})
	if err != nil {
		t.Skipf("no datagram sockets here: %v", err)
	}
	t.Cleanup(func() { conn.Close() })
	t.Setenv("NOTIFY_SOCKET", path)
	return conn
}

func TestTell(t *testing.T) {
	conn := manager(t)
	if err := Tell(Ready, Status("2 sessions\nand more"), ExtendTimeout(time.Second)); err != nil {
		t.Fatal(err)
	}
	b := make([]byte, 1024)
	n, err := conn.Read(b)
	if want := "READY=1\nSTATUS=2 sessions; and more\nEXTEND_TIMEOUT_USEC=1000000"; err != nil || string(b[:n]) != want {
		t.Errorf("the manager got %q, %v, want %q", b[:n], err, want)
	}
	if !strings.HasPrefix(Reloading(), "RELOADING=1\nMONOTONIC_USEC=") {
		t.Errorf("a reload is %q", Reloading())
	}
}

func TestNobodyToTell(t *testing.T) {
	t.Setenv("NOTIFY_SOCKET", "")
	if err := Tell(Ready); err != nil {
		t.Error(err)
	}
	t.Setenv("NOTIFY_SOCKET", filepath.Join(t.TempDir(), "gone"))
	if Tell(Ready) == nil {
		t.Error("a manager that is gone was told")
	}
}

func TestWatchdog(t *testing.T) {
	if d, err := Watchdog(); d != 0 || err != nil {
		t.Errorf("%v, %v without one", d, err)
	}
	t.Setenv("WATCHDOG_USEC", "5000000")
	if d, err := Watchdog(); d != 5*time.Second || err != nil {
		t.Errorf("%v, %v, want 5s", d, err)
	}
	t.Setenv("WATCHDOG_USEC", "soon")
	if _, err := Watchdog(); err == nil {
		t.Error("garbage is a watchdog")
	}
}

func TestListen(t *testing.T) {
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
