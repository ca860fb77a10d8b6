package proxy

import (
	"crypto/tls"
	"net"
	"net/netip"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/packets/packetstest"
	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/proxy/proxyproto"
)

// addressedConn is a pipe with the addresses of a TCP connection.
type addressedConn struct {
	net.Conn
	remote netip.AddrPort
}

func (c addressedConn) RemoteAddr() net.Addr { return net.TCPAddrFromAddrPort(c.remote) }
func (c addressedConn) LocalAddr() net.Addr {
	return net.TCPAddrFromAddrPort(netip.MustParseAddrPort("10.0.0.1:1883"))
}

// connectFrom opens a connection to a listener from an address.
func (b *bench) connectFrom(e *listenerSettings, from string) *packetstest.Client {
	b.t.Helper()
	if b.srv.policy.Load() == nil {
		if err := b.srv.SetPolicy(&b.policy); err != nil {
			b.t.Fatal(err)
		}
	}
	ours, theirs := net.Pipe()
	b.srv.accept(addressedConn{theirs, netip.MustParseAddrPort(from)}, e)
	b.t.Cleanup(func() { ours.Close() })
	return packetstest.New(b.t, ours, 4)
}

// balanced is a listener behind load balancers of 10.1.0.0/16.
func balanced() *listenerSettings {
	return &listenerSettings{name: "balanced", proxies: []netip.Prefix{netip.MustParsePrefix("10.1.0.0/16")}}
}

const (
	balancer = "10.1.2.3:40000"
	headerV1 = "PROXY TCP4 192.0.2.7 198.51.100.1 51000 8883\r\n"
	localV2  = "\r\n\r\n\x00\r\nQUIT\n\x20\x00\x00\x00"
)

func TestHeaderHasTheClientsAddress(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t)
		c := b.connectFrom(balanced(), balancer)
		p := with(4, "dev-1", goodToken)
		go c.Write(append([]byte(headerV1), p.Append(nil)...))
		if ack, err := c.ReadConnack(); err != nil || ack.Code != 0 {
			t.Fatal(ack, err)
		}
		synctest.Wait()
		if got := b.opened[0].Addr.String(); got != "192.0.2.7:51000" {
			t.Errorf("the session's address is %s", got)
		}
		want := &proxyproto.Header{Source: netip.MustParseAddrPort("192.0.2.7:51000"), Destination: netip.MustParseAddrPort("198.51.100.1:8883")}
		if diff := cmp.Diff(want, b.broker.origin, cmp.Comparer(func(a, b netip.AddrPort) bool { return a == b })); diff != "" {
			t.Errorf("what the broker can be sent (-want +got)\n%s", diff)
		}
	})
}

// TestLimitCountsTheClientsAddress: the load balancer's own would let in one.
func TestLimitCountsTheClientsAddress(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t)
		b.policy.Limits.PerAddress = 1
		codes := ""
		for _, source := range []string{"192.0.2.7", "192.0.2.8", "192.0.2.7"} {
			c := b.connectFrom(balanced(), balancer)
			p := with(4, "dev-"+source, goodToken)
			go c.Write(append([]byte(strings.Replace(headerV1, "192.0.2.7", source, 1)), p.Append(nil)...))
			ack, err := c.ReadConnack()
			if err != nil {
				t.Fatal(err)
			}
			codes += string('0' + rune(ack.Code))
		}
		if r := b.lastRefusal(); codes != "003" || r.Reason != Busy || r.Addr.String() != "192.0.2.7:51000" {
			t.Errorf("codes %s, last refusal %v of %v", codes, r.Reason, r.Addr)
		}
	})
}

// TestSilentBehindALoadBalancer: a connection counts for the client's address from its
// header on, and one that is only to be refused has a second for its CONNECT.
func TestSilentBehindALoadBalancer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t)
		b.policy.Limits.PerAddress = 2
		for range 3 {
			b.connectFrom(balanced(), balancer).Send([]byte(headerV1))
			synctest.Wait()
		}
		time.Sleep(second)
		synctest.Wait()
		if r := b.lastRefusal(); r.Reason != Busy || r.Duration != second || b.srv.Stats().Pending != 2 {
			t.Errorf("refused as %v after %v, %d are pending; want %v after a second and 2", r.Reason, r.Duration, b.srv.Stats().Pending, Busy)
		}
		c := b.connectFrom(balanced(), balancer)
		p := with(4, "elsewhere", goodToken)
		c.Send(append([]byte(strings.Replace(headerV1, "192.0.2.7", "192.0.2.8", 1)), p.Append(nil)...))
		if ack, err := c.ReadConnack(); err != nil || ack.Code != 0 {
			t.Errorf("another address: CONNACK %v, error %v", ack.Code, err)
		}
	})
}

func TestHeaderIsRequired(t *testing.T) {
	p := with(4, "dev-1", goodToken)
	connect := string(p.Append(nil))
	for _, tt := range []struct {
		name, from, sent string
		listener         *listenerSettings
		want             Reason
	}{
		{"no header", balancer, connect, balanced(), ProxyHeader},
		{"malformed header", balancer, "PROXY TCP5 192.0.2.7 198.51.100.1 51000 8883\r\n" + connect, balanced(), ProxyHeader},
		{"half a header", balancer, "PROXY TCP4 ", balanced(), ProxyHeader},
		{"header from elsewhere", "192.0.2.1:40000", headerV1 + connect, balanced(), ProxyHeader},
		{"no header from elsewhere", "192.0.2.1:40000", connect, balanced(), ProxyHeader},
		{"header where none is wanted", balancer, headerV1 + connect, &listenerSettings{name: "plain"}, NotMQTT},
		{"two headers", balancer, headerV1 + headerV1 + connect, balanced(), NotMQTT},
		{"nothing", balancer, "", balanced(), HealthCheck},
		{"load balancer for itself", balancer, localV2, balanced(), HealthCheck},
		{"load balancer for somebody it does not know", balancer, "PROXY UNKNOWN\r\n", balanced(), HealthCheck},
		{"client that goes", balancer, headerV1, balanced(), ConnectionLost},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b := newBench(t)
				c := b.connectFrom(tt.listener, tt.from)
				c.Write([]byte(tt.sent)) // which fails if not all of it is wanted
				if tt.want == HealthCheck || tt.want == ConnectionLost || strings.HasPrefix(tt.name, "half") {
					c.Close()
				} else {
					c.ExpectEnd()
				}
				if r := b.lastRefusal(); r.Reason != tt.want {
					t.Errorf("refused as %v (%v), want %v", r.Reason, r.Err, tt.want)
				}
				if b.broker.lastConnect() != nil {
					t.Error("the broker was reached")
				}
			})
		})
	}
}

// TestLoadBalancerMayConnectForItself: a check that speaks MQTT is served, under the
// load balancer's address.
func TestLoadBalancerMayConnectForItself(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t)
		c := b.connectFrom(balanced(), balancer)
		p := with(4, "check", goodToken)
		go c.Write(append([]byte(localV2), p.Append(nil)...))
		if ack, err := c.ReadConnack(); err != nil || ack.Code != 0 {
			t.Fatal(ack, err)
		}
		synctest.Wait()
		if got := b.opened[0].Addr.String(); got != balancer {
			t.Errorf("the session's address is %s", got)
		}
	})
}

// TestHeaderSharesTheDeadline: one deadline applies to everything up to the CONNECT.
func TestHeaderSharesTheDeadline(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t)
		c := b.connectFrom(balanced(), balancer)
		b.sendUntilTimeout(c, headerV1, 300*time.Millisecond)
	})
}

func TestOrigin(t *testing.T) {
	ssl := &proxyproto.SSL{Version: "TLSv1.2", CommonName: "at the load balancer", Verified: true}
	state := &tls.ConnectionState{Version: tls.VersionTLS13, CipherSuite: tls.TLS_AES_128_GCM_SHA256, ServerName: "here", NegotiatedProtocol: "mqtt"}
	own := &proxyproto.SSL{Version: "TLSv1.3", Cipher: "TLS_AES_128_GCM_SHA256"}
	source, destination := netip.MustParseAddrPort("192.0.2.7:51000"), netip.MustParseAddrPort("10.0.0.1:1883")
	for _, tt := range []struct {
		name   string
		header *proxyproto.Header
		state  *tls.ConnectionState
		want   proxyproto.Header
	}{
		{"plain", nil, nil, proxyproto.Header{}},
		{"TLS", nil, state, proxyproto.Header{Authority: "here", ALPN: "mqtt", SSL: own}},
		{"TLS ended before", &proxyproto.Header{Authority: "there", SSL: ssl, UniqueID: "7"}, nil, proxyproto.Header{Authority: "there", SSL: ssl, UniqueID: "7"}},
		{"TLS ended before and begun again", &proxyproto.Header{SSL: ssl}, state, proxyproto.Header{SSL: ssl}},
		{"TLS passed on", &proxyproto.Header{Authority: "there"}, state, proxyproto.Header{Authority: "here", ALPN: "mqtt", SSL: own}},
	} {
		tt.want.Source, tt.want.Destination = source, destination
		a := &arrival{raw: addressedConn{}, addr: source, header: tt.header, tls: tt.state}
		if diff := cmp.Diff(&tt.want, a.proxyHeader(), cmp.Comparer(func(a, b netip.AddrPort) bool { return a == b })); diff != "" {
			t.Errorf("%s (-want +got)\n%s", tt.name, diff)
		}
	}
}

func TestOpenSSLNames(t *testing.T) {
	for suite, want := range map[uint16]string{
		tls.TLS_AES_256_GCM_SHA384:                        "TLS_AES_256_GCM_SHA384",
		tls.TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256:         "ECDHE-RSA-AES128-GCM-SHA256",
		tls.TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384:       "ECDHE-ECDSA-AES256-GCM-SHA384",
		tls.TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256:   "ECDHE-RSA-CHACHA20-POLY1305",
		tls.TLS_ECDHE_ECDSA_WITH_AES_128_CBC_SHA:          "ECDHE-ECDSA-AES128-SHA",
		tls.TLS_RSA_WITH_AES_128_GCM_SHA256:               "AES128-GCM-SHA256",
		tls.TLS_CHACHA20_POLY1305_SHA256:                  "TLS_CHACHA20_POLY1305_SHA256",
		tls.TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256: "ECDHE-ECDSA-CHACHA20-POLY1305",
	} {
		if got := opensslName(tls.CipherSuiteName(suite)); got != want {
			t.Errorf("%s is %s, want %s", tls.CipherSuiteName(suite), got, want)
		}
	}
}
