package proxy

import (
	"crypto/tls"
	"testing"
)

// TestHandshakesAreTold: each that succeeds, once, with whether it was resumed.
func TestHandshakesAreTold(t *testing.T) {
	told := make(chan Handshake, 2)
	addr, pool := serveTLS(t, func(s *Server, _ *Policy) { s.Trace.Secured = func(h Handshake) { told <- h } })
	config := &tls.Config{RootCAs: pool, ServerName: "localhost", ClientSessionCache: tls.NewLRUClientSessionCache(1)}
	for _, resumed := range []bool{false, true} {
		conn, err := tls.Dial("tcp", addr, config)
		if err != nil {
			t.Fatal(err)
		}
		c := &client{Conn: conn, t: t, level: 4}
		p := with(4, "d", goodToken)
		c.send(p.Append(nil))
		if ack, err := c.readConnack(); err != nil || ack.Code != 0 {
			t.Fatal(ack, err)
		}
		conn.Close()
		if h := <-told; h.Listener != "mqtts" || h.Resumed != resumed || h.Duration <= 0 {
			t.Errorf("%+v, want one with Resumed %v", h, resumed)
		}
	}
	if len(told) != 0 {
		t.Errorf("%d more were told", len(told))
	}
}
