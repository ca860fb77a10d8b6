package upstream

import (
	"net"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// TestDialSocketOptions checks the options of a socket that dials a broker elsewhere, which
// need not answer, and of one that dials a broker on this machine.
func TestDialSocketOptions(t *testing.T) {
	for _, c := range []struct {
		name, address string
		want          map[string]int
	}{
		{"elsewhere", "192.0.2.1:1883", map[string]int{
			"SO_KEEPALIVE": 1, "TCP_KEEPIDLE": 60, "TCP_KEEPINTVL": 15, "TCP_KEEPCNT": 4, "TCP_USER_TIMEOUT": 120_000,
		}},
		{"loopback", "127.0.0.1:1883", map[string]int{"SO_KEEPALIVE": 0, "TCP_USER_TIMEOUT": 0}},
		{"loopback by IPv6", "[::1]:1883", map[string]int{"SO_KEEPALIVE": 0, "TCP_USER_TIMEOUT": 0}},
	} {
		t.Run(c.name, func(t *testing.T) {
			var lc net.ListenConfig
			lc.SetMultipathTCP(false) // like the dialer's sockets
			ln, err := lc.Listen(t.Context(), "tcp", "127.0.0.1:0")
			if err != nil {
				t.Fatal(err)
			}
			defer ln.Close()
			raw, err := ln.(*net.TCPListener).SyscallConn()
			if err != nil {
				t.Fatal(err)
			}
			if err := setDeadPeerLimits("tcp4", c.address, raw); err != nil {
				t.Fatal(err)
			}
			checkOptions(t, raw, c.want)
		})
	}
}

// TestDialSetsNoneOnLoopback checks a socket that was dialed completely.
func TestDialSetsNoneOnLoopback(t *testing.T) {
	d := toServer{new(Dialer), server(t, "tcp", serve(t, "tcp", "127.0.0.1:0", echo))}
	conn, err := d.Dial(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close() }()
	raw, err := conn.(*net.TCPConn).SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	checkOptions(t, raw, map[string]int{"SO_KEEPALIVE": 0, "TCP_USER_TIMEOUT": 0, "TCP_NODELAY": 1})
}

func checkOptions(t *testing.T, raw syscall.RawConn, want map[string]int) {
	t.Helper()
	known := map[string][2]int{
		"SO_KEEPALIVE":     {unix.SOL_SOCKET, unix.SO_KEEPALIVE},
		"TCP_KEEPIDLE":     {unix.IPPROTO_TCP, unix.TCP_KEEPIDLE},
		"TCP_KEEPINTVL":    {unix.IPPROTO_TCP, unix.TCP_KEEPINTVL},
		"TCP_KEEPCNT":      {unix.IPPROTO_TCP, unix.TCP_KEEPCNT},
		"TCP_USER_TIMEOUT": {unix.IPPROTO_TCP, unix.TCP_USER_TIMEOUT},
		"TCP_NODELAY":      {unix.IPPROTO_TCP, unix.TCP_NODELAY},
	}
	for name, value := range want {
		o := known[name]
		var got int
		var optErr error
		if err := raw.Control(func(fd uintptr) { got, optErr = unix.GetsockoptInt(int(fd), o[0], o[1]) }); err != nil {
			t.Fatal(err)
		}
		if optErr != nil || got != value {
			t.Errorf("%s = %d, %v, want %d", name, got, optErr, value)
		}
	}
}
