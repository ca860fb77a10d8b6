//go:build integration

package integration

import (
	"crypto/tls"
	"fmt"
	"net/http"
	"path/filepath"
	"strings"
	"testing"

	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/integration/harness"
	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/packets"
	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/packets/packetstest"
)

// TestRevokedCertificateEndsItsSession: a new revocation list, or an authority that is no
// longer accepted, ends the sessions of the certificates concerned and no others, whether
// a reload is requested or the program finds the new file by itself.
func TestRevokedCertificateEndsItsSession(t *testing.T) {
	t.Parallel()
	s := harness.StartSink(t)
	p := harness.NewProxy(t, "")
	token := p.Token("thermometer")
	dir := t.TempDir()
	authority, crl := filepath.Join(dir, "devices.pem"), filepath.Join(dir, "devices.crl")
	ours, others := harness.NewAuthority(t, "ours"), harness.NewAuthority(t, "others")
	harness.WriteFile(t, authority, ours.PEM()+others.PEM())
	harness.WriteFile(t, crl, ours.RevocationList()+others.RevocationList())
	config := p.ConfigWith(s.Upstream()+"connect: {timeout: 60s}\n",
		fmt.Sprintf("{name: plain, address: '%s'}", p.Plain),
		fmt.Sprintf("{name: tls, address: '%s', tls: {auto: true, client_auth: request, client_ca: %s, client_crl: %s}}", p.TLS, authority, crl))
	harness.WriteFile(t, p.Config, config)
	p.Start()
	devices := map[string]tls.Certificate{"first": ours.Device(7, "device-7"), "second": ours.Device(8, "device-8"), "third": ours.Device(9, "device-9"), "other": others.Device(7, "device-7")}
	dialWith := func(name string) (*tls.Conn, error) {
		config := &tls.Config{InsecureSkipVerify: true}
		if c, ok := devices[name]; ok {
			config.Certificates = []tls.Certificate{c}
		}
		conn := tls.Client(packetstest.Dial(t, p.TLS), config)
		return conn, conn.Handshake()
	}
	live := map[string]*packetstest.Client{"plain": p.Connect(t, 5, "plain", token)}
	for _, name := range []string{"first", "second", "third", "other", "without"} {
		conn, err := dialWith(name)
		if err != nil {
			t.Fatal(err)
		}
		live[name] = packetstest.Connect(t, conn, packetstest.Identity(5, name, token))
	}
	// This device has finished its handshake and has not sent its CONNECT.
	late, err := dialWith("second")
	if err != nil {
		t.Fatal(err)
	}

	ends := func(name string) {
		t.Helper()
		if code, err := live[name].AwaitEnd(harness.Patience); err != nil || code != packets.AdministrativeAction {
			t.Errorf("the session of %s: %v, %v", name, code, err)
		}
		delete(live, name)
		for name, d := range live {
			if err := d.Publish("a", "b"); err != nil {
				t.Errorf("the session of %s: %v", name, err)
			}
		}
	}
	harness.WriteFile(t, crl, ours.RevocationList(7)+others.RevocationList())
	if status, text := p.Request(http.MethodPost, "/v1/reload", ""); status != 200 {
		t.Fatal(text)
	}
	ends("first")
	p.AwaitLog("the new list", func(l harness.LogLine) bool {
		return l.String("message") == "new certificate revocation lists" && l["revoked"] == 1.0
	})
	if strings.Contains(p.Stderr.String(), `"message":"new certificate"`) {
		t.Error("the log calls a revocation list a certificate")
	}
	harness.WriteFile(t, crl, ours.RevocationList(7, 8)+others.RevocationList())
	ends("second") // found by polling
	if _, ack := packetstest.Present(t, late, packetstest.Identity(5, "late", token)); ack.Code != packets.NotAuthorized {
		t.Errorf("a certificate that was revoked between the handshake and the CONNECT gets %v", ack.Code)
	}
	harness.WriteFile(t, crl, ours.RevocationList(7, 8))
	harness.WriteFile(t, authority, ours.PEM())
	if status, text := p.Request(http.MethodPost, "/v1/reload", ""); status != 200 {
		t.Fatal(text)
	}
	ends("other")
	// A new config names another file.
	harness.WriteFile(t, crl+".2", ours.RevocationList(7, 8, 9))
	harness.WriteFile(t, p.Config, strings.Replace(config, crl, crl+".2", 1))
	if status, text := p.Request(http.MethodPost, "/v1/reload", ""); status != 200 {
		t.Fatal(text)
	}
	ends("third")
}
