package upstream

import (
	"crypto/tls"
	"net"
	"path/filepath"
	"testing"
	"time"
)

func BenchmarkExpand(b *testing.B) {
	for _, bm := range []struct{ name, text string }{
		{"constant", "proxy"},
		{"alone", "${client_id}"},
		{"attribute", "${attrs.site}"},
		{"prefix", "gw-${client_id}"},
		{"two", "${subject}:${client_id}"},
		{"three", "${attrs.site}/${subject}/${client_id}"},
	} {
		b.Run(bm.name, func(b *testing.B) {
			template := mustParse(b, bm.text, ClientID)
			values := sample()
			b.ReportAllocs()
			for b.Loop() {
				if _, err := template.Expand(values); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

func BenchmarkDial(b *testing.B) {
	hangUp := func(net.Conn) {}
	b.Run("tcp", func(b *testing.B) {
		benchmarkDial(b, toServer{new(Dialer), server(b, "tcp", serve(b, "tcp", "127.0.0.1:0", hangUp))})
	})
	b.Run("unix", func(b *testing.B) {
		path := filepath.Join(b.TempDir(), "broker.sock")
		benchmarkDial(b, toServer{new(Dialer), server(b, "unix", serve(b, "unix", path, hangUp))})
	})
	// The client and the broker run in this process, so the figures include both sides of the
	// handshake.
	ca := newAuthority("ca")
	dir := b.TempDir()
	certificate, key := ca.issue("client", time.Now().Add(time.Hour))
	options := TLSOptions{
		CA:          write(b, dir, "ca.pem", ca.PEM()),
		Certificate: write(b, dir, "client.pem", certificate),
		Key:         write(b, dir, "key.pem", key),
	}
	config := ca.broker(b, brokerName)
	greet := func(conn net.Conn) {
		secured := tls.Server(conn, config)
		_, _ = secured.Write([]byte("x"))
		_, _ = secured.Read(make([]byte, 1))
	}
	b.Run("tls", func(b *testing.B) {
		d := tlsDialer(b, serve(b, "tcp", "127.0.0.1:0", greet), options)
		benchmarkDial(b, d)
	})
	b.Run("tls-full", func(b *testing.B) {
		config.SessionTicketsDisabled = true
		d := tlsDialer(b, serve(b, "tcp", "127.0.0.1:0", greet), options)
		benchmarkDial(b, d)
	})
}

// benchmarkDial dials, reads what the broker sends first (session tickets arrive with it) and
// closes the connection. It closes with a reset instead of a FIN, so that the run does not use
// up the machine's ports.
func benchmarkDial(b *testing.B, d toServer) {
	first := make([]byte, 1)
	b.ReportAllocs()
	for b.Loop() {
		conn, err := d.Dial(b.Context())
		if err != nil {
			b.Fatal(err)
		}
		_, _ = conn.Read(first)
		if tcp, ok := conn.(*net.TCPConn); ok {
			_ = tcp.SetLinger(0)
		}
		_ = conn.Close()
	}
}
