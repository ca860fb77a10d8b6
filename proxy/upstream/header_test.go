package upstream

import (
	"context"
	"crypto/tls"
	"net"
	"net/netip"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/proxy/proxyproto"
)

var origin = &proxyproto.Header{
	Source:      netip.MustParseAddrPort("192.0.2.7:51000"),
	Destination: netip.MustParseAddrPort("198.51.100.1:8883"),
	Authority:   "broker.example",
	SSL:         &proxyproto.SSL{Version: "TLSv1.3", CommonName: "pump", Verified: true},
}

// bare is the part of origin that version 1 can carry.
var bare = &proxyproto.Header{Source: origin.Source, Destination: origin.Destination}

// headed reads a header from each connection and then calls next.
func headed(headers chan<- *proxyproto.Header, next func(net.Conn)) func(net.Conn) {
	return func(conn net.Conn) {
		h, err := proxyproto.Read(conn)
		if err != nil {
			h = nil
		}
		headers <- h
		next(conn)
	}
}

func TestDialSendsHeader(t *testing.T) {
	ca := newAuthority("ca")
	config := ca.broker(t, "127.0.0.1")
	secure, err := LoadTLS(TLSOptions{CA: write(t, t.TempDir(), "ca.pem", ca.PEM())})
	if err != nil {
		t.Fatal(err)
	}
	headers := make(chan *proxyproto.Header, 1)
	servers := map[string]Server{
		"tcp":  server(t, "tcp", serve(t, "tcp", "127.0.0.1:0", headed(headers, echo))),
		"tls":  server(t, "tls", serve(t, "tcp", "127.0.0.1:0", headed(headers, func(conn net.Conn) { echo(tls.Server(conn, config)) }))),
		"unix": server(t, "unix", serve(t, "unix", filepath.Join(t.TempDir(), "broker"), headed(headers, echo))),
	}
	own := &proxyproto.Header{Local: true}
	for name, s := range servers {
		for _, tt := range []struct {
			name    string
			ctx     context.Context
			version int
			want    *proxyproto.Header
		}{
			{"v2", proxyproto.NewContext(t.Context(), func() *proxyproto.Header { return origin }), 2, origin},
			{"v1", proxyproto.NewContext(t.Context(), func() *proxyproto.Header { return origin }), 1, bare},
			{"v2, own", t.Context(), 2, own},
			{"v1, own", t.Context(), 1, own},
		} {
			t.Run(name+" "+tt.name, func(t *testing.T) {
				d := toServer{&Dialer{TLS: secure, ProxyProtocol: tt.version}, s}
				conn, err := d.Dial(tt.ctx)
				if err != nil {
					t.Fatal(err)
				}
				defer conn.Close()
				checkEcho(t, conn)
				if diff := cmp.Diff(tt.want, <-headers, cmp.Comparer(func(a, b netip.AddrPort) bool { return a == b })); diff != "" {
					t.Errorf("(-want +got)\n%s", diff)
				}
			})
		}
	}
}

func TestDialWithoutHeader(t *testing.T) {
	d := toServer{new(Dialer), server(t, "tcp", serve(t, "tcp", "127.0.0.1:0", echo))}
	conn, err := d.Dial(proxyproto.NewContext(t.Context(), func() *proxyproto.Header { return origin }))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	checkEcho(t, conn)
}

// TestHeaderLeavesNoDeadline: a deadline that was left on the connection would make the
// session's writes fail later.
func TestHeaderLeavesNoDeadline(t *testing.T) {
	headers := make(chan *proxyproto.Header, 1)
	const limit = 200 * time.Millisecond
	d := toServer{&Dialer{ProxyProtocol: 2}, server(t, "tcp", serve(t, "tcp", "127.0.0.1:0", headed(headers, echo)))}
	ctx, cancel := context.WithTimeout(t.Context(), limit)
	defer cancel()
	conn, err := d.Dial(ctx)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	<-time.After(2 * limit)
	checkEcho(t, conn)
}

// TestDialRefusesTooLongHeader: an identity is never shortened.
func TestDialRefusesTooLongHeader(t *testing.T) {
	d := toServer{&Dialer{ProxyProtocol: 2}, server(t, "tcp", serve(t, "tcp", "127.0.0.1:0", echo))}
	long := *origin
	long.Authority = string(make([]byte, 2000))
	if conn, err := d.Dial(proxyproto.NewContext(t.Context(), func() *proxyproto.Header { return &long })); err == nil {
		conn.Close()
		t.Error("dialed")
	}
}

// TestHandshakeErrorNamesTheHeader: if a server closes the connection, the error names the
// PROXY protocol header as a possible cause, besides missing TLS.
func TestHandshakeErrorNamesTheHeader(t *testing.T) {
	s := server(t, "tls", serve(t, "tcp", "127.0.0.1:0", func(conn net.Conn) {
		_, _ = conn.Read(make([]byte, 1))
	}))
	for version, want := range map[int]bool{0: false, 2: true} {
		conn, err := (&Dialer{ProxyProtocol: version}).Dial(t.Context(), s)
		if err == nil {
			conn.Close()
			t.Fatal("dialed")
		}
		if got := strings.Contains(err.Error(), "expect no PROXY protocol header?"); got != want {
			t.Errorf("version %d: %v", version, err)
		}
	}
}
