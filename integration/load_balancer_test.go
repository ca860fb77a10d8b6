//go:build integration

package integration

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"math/big"
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
)

// listenAlso adds listeners to the installation, before it starts.
func (p *proxy) listenAlso(listeners string) {
	p.t.Helper()
	text, err := os.ReadFile(p.config)
	if err != nil {
		p.t.Fatal(err)
	}
	changed := strings.Replace(string(text), "admin: ", listeners+"admin: ", 1)
	if err := os.WriteFile(p.config, []byte(changed), 0o600); err != nil {
		p.t.Fatal(err)
	}
}

// dialAs connects from an address of this machine.
func dialAs(t testing.TB, from, to string) net.Conn {
	t.Helper()
	d := net.Dialer{Timeout: patience, LocalAddr: &net.TCPAddr{IP: net.ParseIP(from)}}
	conn, err := d.DialContext(t.Context(), "tcp", to)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	return conn
}

// addressOf returns the address of the one session of a client id.
func (p *proxy) addressOf(clientID string) string {
	p.t.Helper()
	_, body := p.get("/v1/sessions?client_id=" + clientID)
	var found struct{ Sessions []struct{ Address string } }
	if err := json.Unmarshal([]byte(body), &found); err != nil || len(found.Sessions) != 1 {
		p.t.Fatalf("sessions of %s: %s, %v", clientID, body, err)
	}
	return found.Sessions[0].Address
}

// TestBehindHAProxy: the proxy knows devices by their own addresses, whichever
// version of the PROXY protocol HAProxy speaks, and nobody else can claim one.
func TestBehindHAProxy(t *testing.T) {
	t.Parallel()
	haproxy := need(t, "haproxy")
	s := startSink(t)
	p := newProxy(t, s.upstream()+"limits: {per_address: 1}\n")
	plain, secure := freeAddress(t), freeAddress(t)
	p.listenAlso(fmt.Sprintf(`  - {name: balanced, address: '%s', proxy_protocol: {trusted: [127.0.0.1/32]}}
  - {name: balanced-tls, address: '%s', tls: {auto: true}, proxy_protocol: {trusted: [127.0.0.1/32]}}
`, plain, secure))
	token := p.token("device")
	p.start()

	v1, v2, overTLS := freeAddress(t), freeAddress(t), freeAddress(t)
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
	launch(t, nil, haproxy, "-db", "-f", config)
	eventually(t, "HAProxy", func() bool {
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
			conn := dialAs(t, from, way.address)
			if way.secure {
				return tls.Client(conn, p.trust(t))
			}
			return conn
		}
		first := open()
		connect(t, first, identity(5, way.name, token))
		if got := p.addressOf(way.name); got != first.LocalAddr().String() {
			t.Errorf("%s: the session's address is %s, want %s", way.name, got, first.LocalAddr())
		}
		// Another one of this address is one too many. HAProxy's has many by now.
		if _, ack := present(t, open(), identity(5, way.name+"-2", token)); ack.Code != 0x89 {
			t.Errorf("%s: the second of %s gets %v", way.name, from, ack.Code)
		}
	}
	checkHeaderIsRequired(t, p, plain, token)
	eventually(t, "health checks", func() bool {
		_, metrics := p.get("/metrics")
		return regexp.MustCompile(`connections_refused_total\{listener="balanced",reason="health_check"\} [1-9]`).MatchString(metrics)
	})
	for line := range strings.Lines(p.stderr.String()) {
		if strings.Contains(line, "health_check") && !strings.Contains(line, `"level":"debug"`) {
			t.Errorf("a health check makes noise: %s", line)
		}
	}
}

// checkHeaderIsRequired: past the load balancer nobody comes in, with or without a
// header.
func checkHeaderIsRequired(t *testing.T, p *proxy, address, token string) {
	t.Helper()
	packet := string(identity(4, "direct", token).Append(nil))
	header := "PROXY TCP4 127.0.0.99 127.0.0.1 1 1\r\n"
	for name, conn := range map[string]struct{ from, to, sent string }{
		"no header from the load balancer": {"127.0.0.1", address, packet},
		"no header":                        {"127.0.0.20", address, packet},
		"own header":                       {"127.0.0.20", address, header + packet},
		"header where none is wanted":      {"127.0.0.1", p.plain, header + packet},
	} {
		c := dialAs(t, conn.from, conn.to)
		_, _ = c.Write([]byte(conn.sent)) // it may be closed already
		if err := c.SetReadDeadline(time.Now().Add(patience)); err != nil {
			t.Fatal(err)
		}
		if n, err := c.Read(make([]byte, 1)); n > 0 || isTimeout(err) {
			t.Errorf("%s: %d bytes, %v; want the end", name, n, err)
		}
	}
	eventually(t, "refusals", func() bool {
		return p.counts(`mqtt_auth_proxy_connections_refused_total{listener="balanced",reason="proxy_header"} 3`) &&
			p.counts(`mqtt_auth_proxy_connections_refused_total{listener="plain",reason="not_mqtt"} 1`)
	})
}

// TestBrokerLearnsTheAddress: what stands in the header that the broker gets, for a
// device that comes in plainly and one with a client certificate.
func TestBrokerLearnsTheAddress(t *testing.T) {
	t.Parallel()
	for _, version := range []string{"v1", "v2"} {
		t.Run(version, func(t *testing.T) {
			t.Parallel()
			h := startHeaders(t)
			authority, certificate := issueCertificate(t, "pump-7")
			secure := freeAddress(t)
			p := newProxy(t, fmt.Sprintf("upstream: {servers: ['tcp://%s'], username: proxy, proxy_protocol: %s}\n", h.Addr(), version))
			p.listenAlso(fmt.Sprintf("  - {name: mtls, address: '%s', tls: {auto: true, client_ca: '%s', client_auth: require}}\n", secure, authority))
			token := p.token("device")
			p.start()

			plain := dialAs(t, "127.0.0.31", p.plain)
			connect(t, plain, identity(5, "plain", token))
			checkHeader(t, <-h.seen, plain)
			config := p.trust(t)
			config.Certificates = []tls.Certificate{certificate}
			conn := dialAs(t, "127.0.0.32", secure)
			connect(t, tls.Client(conn, config), identity(5, "secure", token))
			got := <-h.seen
			checkHeader(t, got, conn)
			if version == "v2" {
				checkIdentity(t, got)
			}
			checkProbe(t, p, h, token)
		})
	}
}

// checkIdentity reads the header of a device with a certificate with the eyes of
// somebody else's parser.
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

// checkProbe: a look whether the broker answers says that it is just that.
func checkProbe(t *testing.T, p *proxy, h *headers, token string) {
	t.Helper()
	h.Close()
	for len(h.seen) > 0 {
		<-h.seen
	}
	// Without a broker a device is turned away, and from then on readiness is asked
	// of the broker itself.
	if _, ack := present(t, dial(t, p.plain), identity(5, "late", token)); ack.Code != 0x88 {
		t.Fatalf("without a broker: %v", ack.Code)
	}
	ln, err := net.Listen("tcp", h.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	again := &proxyproto.Listener{Listener: ln}
	defer again.Close()
	go func() {
		if resp, err := http.Get("http://" + p.admin + "/readyz"); err == nil {
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

// issueCertificate returns the file of a CA and a client certificate of it.
func issueCertificate(t *testing.T, name string) (authority string, c tls.Certificate) {
	t.Helper()
	make := func(template, parent *x509.Certificate, signer *ecdsa.PrivateKey) ([]byte, *ecdsa.PrivateKey) {
		key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
		if err != nil {
			t.Fatal(err)
		}
		if signer == nil {
			signer = key
		}
		template.NotBefore, template.NotAfter = time.Now().Add(-time.Hour), time.Now().Add(time.Hour)
		der, err := x509.CreateCertificate(rand.Reader, template, parent, &key.PublicKey, signer)
		if err != nil {
			t.Fatal(err)
		}
		return der, key
	}
	ca := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "devices"}, IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign}
	root, signer := make(ca, ca, nil)
	leaf, key := make(&x509.Certificate{SerialNumber: big.NewInt(2), Subject: pkix.Name{CommonName: name}, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}}, ca, signer)
	authority = filepath.Join(t.TempDir(), "devices-ca.pem")
	if err := os.WriteFile(authority, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: root}), 0o600); err != nil {
		t.Fatal(err)
	}
	return authority, tls.Certificate{Certificate: [][]byte{leaf}, PrivateKey: key}
}
