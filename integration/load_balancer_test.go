//go:build integration

package integration

import (
	"crypto/tls"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/pires/go-proxyproto"
	"github.com/pires/go-proxyproto/tlvparse"

	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/integration/harness"
	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/packets/packetstest"
)

// TestBehindHAProxy: the proxy knows devices by their own addresses, with both versions
// of the PROXY protocol, and only HAProxy may send a header.
func TestBehindHAProxy(t *testing.T) {
	t.Parallel()
	haproxy := harness.Need(t, "haproxy")
	s := harness.StartSink(t)
	p := harness.NewProxy(t, s.Upstream()+"limits: {per_address: 1}\n")
	plain, secure := harness.FreeAddress(t), harness.FreeAddress(t)
	p.ListenAlso(fmt.Sprintf(`  - {name: balanced, address: '%s', proxy_protocol: {trusted: [127.0.0.1/32]}}
  - {name: balanced-tls, address: '%s', tls: {auto: true}, proxy_protocol: {trusted: [127.0.0.1/32]}}
`, plain, secure))
	token := p.Token("device")
	p.Start()

	v1, v2, overTLS := harness.FreeAddress(t), harness.FreeAddress(t), harness.FreeAddress(t)
	config := filepath.Join(t.TempDir(), "haproxy.cfg")
	text := fmt.Sprintf(`defaults
  mode tcp
  timeout connect 5s
  timeout client 1m
  timeout server 1m
listen v1
  bind %s
  server proxy %s send-proxy check inter 100ms check-send-proxy
listen v2
  bind %s
  server proxy %s send-proxy-v2 proxy-v2-options unique-id,crc32c check inter 100ms check-send-proxy
  unique-id-format %%{+X}o\ %%ci:%%cp
listen tls
  bind %s
  server proxy %s send-proxy-v2
`, v1, plain, v2, plain, overTLS, secure)
	if err := os.WriteFile(config, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	harness.Launch(t, nil, haproxy, "-db", "-f", config)
	harness.Eventually(t, "HAProxy", func() bool {
		conn, err := net.Dial("tcp", overTLS)
		if err == nil {
			conn.Close()
		}
		return err == nil
	})

	for i, way := range []struct {
		name, address string
		secure        bool
	}{{"v1", v1, false}, {"v2", v2, false}, {"tls", overTLS, true}} {
		from := fmt.Sprintf("127.0.0.%d", 11+i)
		open := func() net.Conn {
			conn := packetstest.DialFrom(t, from, way.address)
			if way.secure {
				return tls.Client(conn, p.ClientTLS(t))
			}
			return conn
		}
		first := open()
		packetstest.Connect(t, first, packetstest.Identity(5, way.name, token))
		if got := p.AddressOf(way.name); got != first.LocalAddr().String() {
			t.Errorf("%s: the session's address is %s, want %s", way.name, got, first.LocalAddr())
		}
		// One more connection from this address is too many, though HAProxy's address has many.
		if _, ack := packetstest.Present(t, open(), packetstest.Identity(5, way.name+"-2", token)); ack.Code != 0x89 {
			t.Errorf("%s: the second of %s gets %v", way.name, from, ack.Code)
		}
	}
	checkHeaderIsRequired(t, p, plain, token)
	harness.Eventually(t, "health checks", func() bool {
		_, metrics := p.Get("/metrics")
		return regexp.MustCompile(`connections_refused_total\{listener="balanced",reason="health_check"\} [1-9]`).MatchString(metrics)
	})
	for line := range strings.Lines(p.Stderr.String()) {
		if strings.Contains(line, "health_check") && !strings.Contains(line, `"level":"debug"`) {
			t.Errorf("a health check is logged: %s", line)
		}
	}
}

// checkHeaderIsRequired: no client can connect past the load balancer, with or without a header.
func checkHeaderIsRequired(t *testing.T, p *harness.Proxy, address, token string) {
	t.Helper()
	packet := string(packetstest.Identity(4, "direct", token).Append(nil))
	header := "PROXY TCP4 127.0.0.99 127.0.0.1 1 1\r\n"
	for name, conn := range map[string]struct{ from, to, sent string }{
		"no header from the load balancer": {"127.0.0.1", address, packet},
		"no header":                        {"127.0.0.20", address, packet},
		"own header":                       {"127.0.0.20", address, header + packet},
		"header where none is wanted":      {"127.0.0.1", p.Plain, header + packet},
	} {
		c := packetstest.DialFrom(t, conn.from, conn.to)
		_, _ = c.Write([]byte(conn.sent)) // it may be closed already
		if err := c.SetReadDeadline(time.Now().Add(harness.Patience)); err != nil {
			t.Fatal(err)
		}
		if n, err := c.Read(make([]byte, 1)); n > 0 || packetstest.IsTimeout(err) {
			t.Errorf("%s: %d bytes, %v; want the end", name, n, err)
		}
	}
	harness.Eventually(t, "refusals", func() bool {
		return p.HasMetric(`mqtt_auth_proxy_connections_refused_total{listener="balanced",reason="proxy_header"} 3`) &&
			p.HasMetric(`mqtt_auth_proxy_connections_refused_total{listener="plain",reason="not_mqtt"} 1`)
	})
}

// TestProxyHeaderToBroker checks the header that the broker gets for a plain device and
// for one with a client certificate.
func TestProxyHeaderToBroker(t *testing.T) {
	t.Parallel()
	for _, version := range []string{"v1", "v2"} {
		t.Run(version, func(t *testing.T) {
			t.Parallel()
			h := harness.StartHeaderSink(t)
			devices, authority := harness.NewAuthority(t, "devices"), filepath.Join(t.TempDir(), "devices-ca.pem")
			harness.WriteFile(t, authority, devices.PEM())
			secure := harness.FreeAddress(t)
			p := harness.NewProxy(t, fmt.Sprintf("upstream: {servers: ['tcp://%s'], username: proxy, proxy_protocol: %s}\n", h.Addr(), version))
			p.ListenAlso(fmt.Sprintf("  - {name: mtls, address: '%s', tls: {auto: true, client_ca: '%s', client_auth: require}}\n", secure, authority))
			token := p.Token("device")
			p.Start()

			plain := packetstest.DialFrom(t, "127.0.0.31", p.Plain)
			packetstest.Connect(t, plain, packetstest.Identity(5, "plain", token))
			harness.CheckHeader(t, <-h.Headers, plain)
			config := p.ClientTLS(t)
			config.Certificates = []tls.Certificate{devices.Device(2, "pump-7")}
			conn := packetstest.DialFrom(t, "127.0.0.32", secure)
			packetstest.Connect(t, tls.Client(conn, config), packetstest.Identity(5, "secure", token))
			got := <-h.Headers
			harness.CheckHeader(t, got, conn)
			if version == "v2" {
				checkIdentity(t, got)
			}
			checkProbe(t, p, h, token)
		})
	}
}

// checkIdentity reads the header of a device with a certificate with another project's
// parser.
func checkIdentity(t *testing.T, h *proxyproto.Header) {
	t.Helper()
	elements, err := h.TLVs()
	if err != nil {
		t.Fatal(err)
	}
	ssl, ok := tlvparse.FindSSL(elements)
	if !ok {
		t.Fatalf("nothing about TLS in %v", elements)
	}
	version, _ := ssl.SSLVersion()
	cipher, _ := ssl.SSLCipher()
	name, _ := ssl.ClientCN()
	if !ssl.ClientSSL() || !ssl.ClientCertConn() || !ssl.ClientCertSess() || !ssl.Verified() || version != "TLSv1.3" || !strings.HasPrefix(cipher, "TLS_") || name != "pump-7" {
		t.Errorf("TLS: %+v, version %q, cipher %q, name %q", ssl, version, cipher, name)
	}
	for _, e := range elements {
		if e.Type == proxyproto.PP2_TYPE_AUTHORITY && string(e.Value) == "localhost" {
			return
		}
	}
	t.Errorf("no host name in %v", elements)
}

// checkProbe: a health probe of the broker has a header that marks it as such.
func checkProbe(t *testing.T, p *harness.Proxy, h *harness.HeaderSink, token string) {
	t.Helper()
	h.Close()
	for len(h.Headers) > 0 {
		<-h.Headers
	}
	// Without a broker a device is refused, and from then on the proxy probes the broker
	// itself for /readyz.
	if _, ack := p.Present(t, 5, "late", token); ack.Code != 0x88 {
		t.Fatalf("without a broker: %v", ack.Code)
	}
	ln, err := net.Listen("tcp", h.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	again := &proxyproto.Listener{Listener: ln}
	defer again.Close()
	go func() {
		if resp, err := http.Get("http://" + p.Admin + "/readyz"); err == nil {
			resp.Body.Close()
		}
	}()
	conn, err := again.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if got := conn.(*proxyproto.Conn).ProxyHeader(); got == nil || got.Command != proxyproto.LOCAL && got.TransportProtocol != proxyproto.UNSPEC {
		t.Errorf("the probe says %+v", got)
	}
}
