package service

import (
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/authz/certtest"
)

// selfSigned writes a certificate for localhost that ends at the given time, and its key.
func selfSigned(t *testing.T, dir, name string, ends time.Time) {
	t.Helper()
	c := certtest.SelfSigned(&x509.Certificate{
		Subject: pkix.Name{CommonName: name}, DNSNames: []string{name + ".test"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: ends, IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	})
	writeCertificate(t, c, filepath.Join(dir, name+".pem"), filepath.Join(dir, name+"-key.pem"))
}

// writeCertificate writes a certificate and its key.
func writeCertificate(t *testing.T, c certtest.Certificate, certificate, key string) {
	t.Helper()
	if err := errors.Join(os.WriteFile(certificate, c.PEM(), 0o600), os.WriteFile(key, c.KeyPEM(), 0o600)); err != nil {
		t.Fatal(err)
	}
}

// TestExpiryIsReported: the end of a certificate is logged at the start, after a reload and
// daily, and the metrics follow the files.
func TestExpiryIsReported(t *testing.T) {
	dir := t.TempDir()
	soon, late := time.Now().Add(48*time.Hour), time.Now().Add(1000*time.Hour)
	selfSigned(t, dir, "server", late)
	selfSigned(t, dir, "other", late)
	selfSigned(t, dir, "devices", late)
	s, log := startService(t, fmt.Sprintf(`
listeners:
  - address: "127.0.0.1:0"
    name: mqtts
    tls: {client_auth: request, client_ca: %[1]s/devices.pem, curves: [P-256], certificates: [{certificate: %[1]s/server.pem, key: %[1]s/server-key.pem}, {certificate: %[1]s/other.pem, key: %[1]s/other-key.pem}]}
admin: {address: "127.0.0.1:0"}
`, dir))
	if strings.Contains(log.String(), "ends soon") {
		t.Error("warned without need")
	}
	ends := func(name string) string {
		_, body := get(t, s, "/metrics")
		found := regexp.MustCompile(name + `\{listener="mqtts"\} (\S+)`).FindStringSubmatch(body)
		if found == nil {
			t.Fatalf("no %s", name)
		}
		return found[1]
	}
	first := ends("mqtt_auth_proxy_certificate_expiry_timestamp_seconds")
	selfSigned(t, dir, "other", soon)
	selfSigned(t, dir, "devices", time.Now().Add(-time.Minute))
	if err := reload(t, s); err != nil {
		t.Fatal(err)
	}
	if ends("mqtt_auth_proxy_certificate_expiry_timestamp_seconds") == first {
		t.Error("the metric does not follow the files")
	}
	if ends("mqtt_auth_proxy_client_ca_expiry_timestamp_seconds") == first {
		t.Error("the client CA's metric does not follow the files")
	}
	warnings := func() (n int) {
		for _, what := range []string{"the server certificate ends soon", "a client CA certificate has ended"} {
			n += strings.Count(log.String(), what)
		}
		return n
	}
	if n := warnings(); n != 2 {
		t.Errorf("%d warnings after the reload, want 2", n)
	}
	s.reloader.poll(t.Context(), s)
	if n := warnings(); n != 2 {
		t.Errorf("%d warnings after a poll, want 2 still", n)
	}
	s.reloader.mu.Lock()
	s.reloader.warned = time.Now().Add(-warnInterval)
	s.reloader.mu.Unlock()
	s.reloader.poll(t.Context(), s)
	if n := warnings(); n != 4 {
		t.Errorf("%d warnings a day later, want 4", n)
	}

	conn, err := tls.Dial("tcp", s.current.Load().listeners[0].Addr().String(), &tls.Config{
		ServerName: "other.test", InsecureSkipVerify: true, NextProtos: []string{"mqtt"},
	})
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	state := conn.ConnectionState()
	if got := state.PeerCertificates[0].Subject.CommonName; got != "other" || state.NegotiatedProtocol != "mqtt" || state.CurveID != tls.CurveP256 {
		t.Errorf("certificate of %s, protocol %q, curve %v", got, state.NegotiatedProtocol, state.CurveID)
	}
}

func TestEveryCurveIsKnown(t *testing.T) {
	for i, id := range curves([]string{"X25519MLKEM768", "SecP256r1MLKEM768", "SecP384r1MLKEM1024", "X25519", "P-256", "P-384", "P-521"}) {
		if id == 0 {
			t.Errorf("curve %d has no number", i)
		}
	}
}
