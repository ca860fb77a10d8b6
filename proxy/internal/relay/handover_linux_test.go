package relay

import (
	"io"
	"runtime"
	"testing"

	"golang.org/x/sys/unix"
)

// pending returns how many bytes the socket has received and that have not been read.
func pending(t testing.TB, s *Socket) (n int) {
	t.Helper()
	err := s.raw.Control(func(fd uintptr) {
		n, _ = unix.IoctlGetInt(int(fd), unix.TIOCINQ)
	})
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// Bytes that arrived in the same segment as those read before the relay began are inside the TLS
// connection, so the socket does not become readable for them.
func TestBytesReadBeforeStart(t *testing.T) {
	eachPump(t, func(t *testing.T, newPump func() *Pump) {
		for _, version := range []string{"tls1.2", "tls1.3"} {
			r := newRig(t, newPump(), version, "tcp")
			r.send(r.device, []byte("CONNECT"))
			r.send(r.device, []byte("PUBLISH"))
			r.send(r.device, []byte("PUBLISH"))
			for {
				// Two records are at most 72 bytes: all three are there before
				// the first is read.
				if pending(t, r.pair.Client.Socket) > 80 {
					break
				}
				runtime.Gosched()
			}
			first := make([]byte, len("CONNECT"))
			if _, err := io.ReadFull(r.pair.Client.Conn, first); err != nil || string(first) != "CONNECT" {
				t.Fatalf("read %q, %v", first, err)
			}
			r.start()
			r.expect(r.broker, "PUBLISHPUBLISH")
		}
	})
}
