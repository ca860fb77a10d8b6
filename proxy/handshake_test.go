package proxy

import (
	"crypto/tls"
	"net"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/packets/packetstest"
)

// TestHandshakesAreReported: each handshake that succeeds is reported once, and whether it was
// resumed.
func TestHandshakesAreReported(t *testing.T) {
	reported := make(chan Handshake, 2)
	addr, pool := serveTLS(t, func(s *Server, _ *Policy) { s.Trace.Secured = func(h Handshake) { reported <- h } })
	config := &tls.Config{RootCAs: pool, ServerName: "localhost", ClientSessionCache: tls.NewLRUClientSessionCache(1)}
	for _, resumed := range []bool{false, true} {
		conn, err := tls.Dial("tcp", addr, config)
		if err != nil {
			t.Fatal(err)
		}
		c := packetstest.New(t, conn, 4)
		p := with(4, "d", goodToken)
		c.Send(p.Append(nil))
		if ack, err := c.ReadConnack(); err != nil || ack.Code != 0 {
			t.Fatal(ack, err)
		}
		conn.Close()
		if h := <-reported; h.Listener != "mqtts" || h.Resumed != resumed || h.Duration <= 0 {
			t.Errorf("%+v, want one with Resumed %v", h, resumed)
		}
	}
	if len(reported) != 0 {
		t.Errorf("%d more were reported", len(reported))
	}
}

// distantConn is a client's connection whose second write, the client's answer to the
// server's part of the handshake, waits.
type distantConn struct {
	net.Conn
	writes  int
	arrived *sync.WaitGroup
}

func (c *distantConn) Write(b []byte) (int, error) {
	if c.writes++; c.writes == 2 {
		c.arrived.Done()
		c.arrived.Wait()
	}
	return c.Conn.Write(b)
}

// TestSlotIsNotHeldForARoundTrip: one slot serves many clients that are far away, whose
// answers all come late.
func TestSlotIsNotHeldForARoundTrip(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t)
		b.policy.Limits.Handshakes = 1
		cert, pool := testCertificate()
		listener := &listenerSettings{name: "mqtts", tls: limitHandshakes(&tls.Config{Certificates: []tls.Certificate{cert}})}
		const clients = 10
		var arrived, all sync.WaitGroup
		arrived.Add(clients)
		start := time.Now()
		for range clients {
			conn := b.connectFrom(listener, browser)
			all.Go(func() {
				defer conn.Close()
				secured := tls.Client(&distantConn{Conn: conn, arrived: &arrived}, &tls.Config{RootCAs: pool, ServerName: "localhost"})
				if err := secured.Handshake(); err != nil {
					t.Error(err)
				}
			})
		}
		all.Wait()
		if took := time.Since(start); took != 0 {
			t.Errorf("took %v: the slot was held until the clients answered", took)
		}
	})
}
