package proxy

import (
	"context"
	"crypto/tls"
	"io"
	"net"
	"testing"

	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/packets"
)

// BenchmarkConnect is one device after the other: connect, CONNECT, CONNACK,
// DISCONNECT, over loopback, with a broker behind. Device and broker are in the
// figures too; they do as little as they can. What the proxy alone costs in processor
// time is for integration/bench to say.
func BenchmarkConnect(b *testing.B) {
	for _, kind := range []string{"plain", "tls", "resumed"} {
		b.Run(kind, func(b *testing.B) {
			r := newConnectRig(b)
			var config *tls.Config
			switch kind {
			case "tls":
				config = r.tls.Clone()
			case "resumed":
				config = r.tls.Clone()
				config.ClientSessionCache = tls.NewLRUClientSessionCache(1)
				r.visit(config)
			}
			b.ReportAllocs()
			for b.Loop() {
				r.visit(config)
			}
		})
	}
}

// connectRig is a Server on two loopback addresses.
type connectRig struct {
	b       *testing.B
	plain   string
	secured string
	tls     *tls.Config // of a device
	connect []byte
	answer  [64]byte
}

func newConnectRig(b *testing.B) *connectRig {
	connect := with(4, "device-1", goodToken)
	r := &connectRig{b: b, connect: connect.Append(nil)}
	broker := acceptCONNECTs(b)
	srv := &Server{}
	err := srv.SetPolicy(&Policy{Authorizer: knowsGood, Upstream: DialFunc(func(ctx context.Context, _ *Client) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "tcp", broker)
	})})
	if err != nil {
		b.Fatal(err)
	}
	certificate, pool := testCertificate()
	r.tls = &tls.Config{RootCAs: pool, ServerName: "localhost"}
	for address, ln := range map[*string]*Listener{
		&r.plain: {}, &r.secured: {TLS: &tls.Config{Certificates: []tls.Certificate{certificate}}},
	} {
		inner, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			b.Fatal(err)
		}
		ln.Listener, *address = inner, inner.Addr().String()
		go srv.Serve(ln)
	}
	b.Cleanup(func() { srv.Close() })
	return r
}

// visit is the life of a device; it is plain without a config.
func (r *connectRig) visit(config *tls.Config) {
	address := r.plain
	if config != nil {
		address = r.secured
	}
	socket, err := net.Dial("tcp", address)
	if err != nil {
		r.b.Fatal(err)
	}
	defer socket.Close()
	conn := socket
	if config != nil {
		conn = tls.Client(socket, config)
	}
	if _, err := conn.Write(r.connect); err != nil {
		r.b.Fatal(err)
	}
	if _, err := io.ReadFull(conn, r.answer[:4]); err != nil || r.answer[3] != 0 {
		r.b.Fatalf("CONNACK % x, %v", r.answer[:4], err)
	}
	if _, err := conn.Write([]byte{0xE0, 0}); err != nil {
		r.b.Fatal(err)
	}
}

// acceptCONNECTs is a broker that answers the first bytes that arrive and then waits for the
// end. It returns its address.
func acceptCONNECTs(b testing.TB) string {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { ln.Close() })
	ack := (&packets.Connack{}).Append(nil, 4)
	go func() {
		for {
			conn, err := ln.Accept()
			if err != nil {
				return
			}
			go func() {
				defer conn.Close()
				var buf [128]byte
				if _, err := conn.Read(buf[:]); err == nil {
					_, _ = conn.Write(ack)
					_, _ = conn.Read(buf[:])
				}
			}()
		}
	}()
	return ln.Addr().String()
}
