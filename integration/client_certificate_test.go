//go:build integration

package integration

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"math/big"
	"net/http"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/integration/harness"
	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/packets"
	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/packets/packetstest"
)

// deviceAuthority issues client certificates and withdraws them.
type deviceAuthority struct {
	t    *testing.T
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
}

func newDeviceAuthority(t *testing.T, name string) *deviceAuthority {
	t.Helper()
	a := &deviceAuthority{t: t}
	a.cert, a.key = a.issue(&x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: name}, IsCA: true, BasicConstraintsValid: true,
		KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageCRLSign, SubjectKeyId: []byte(name),
	})
	return a
}

func (a *deviceAuthority) issue(template *x509.Certificate) (*x509.Certificate, *ecdsa.PrivateKey) {
	a.t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		a.t.Fatal(err)
	}
	parent, signer := a.cert, a.key
	if parent == nil {
		parent, signer = template, key
	}
	template.NotBefore, template.NotAfter = time.Now().Add(-time.Hour), time.Now().Add(1000*time.Hour)
	der, err := x509.CreateCertificate(rand.Reader, template, parent, key.Public(), signer)
	if err != nil {
		a.t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		a.t.Fatal(err)
	}
	return cert, key
}

// device returns the certificate of a device.
func (a *deviceAuthority) device(number int64) tls.Certificate {
	a.t.Helper()
	cert, key := a.issue(&x509.Certificate{
		SerialNumber: big.NewInt(number), Subject: pkix.Name{CommonName: fmt.Sprint("device-", number)},
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
	})
	return tls.Certificate{Certificate: [][]byte{cert.Raw}, PrivateKey: key, Leaf: cert}
}

// pem is the file that names the authority.
func (a *deviceAuthority) pem() string {
	return string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: a.cert.Raw}))
}

// revoking is a file of revocation lists with these certificates.
func (a *deviceAuthority) revoking(numbers ...int64) string {
	a.t.Helper()
	list := &x509.RevocationList{Number: big.NewInt(1), ThisUpdate: time.Now().Add(-time.Hour), NextUpdate: time.Now().Add(time.Hour)}
	for _, n := range numbers {
		list.RevokedCertificateEntries = append(list.RevokedCertificateEntries, x509.RevocationListEntry{SerialNumber: big.NewInt(n), RevocationTime: list.ThisUpdate})
	}
	der, err := x509.CreateRevocationList(rand.Reader, list, a.cert, a.key)
	if err != nil {
		a.t.Fatal(err)
	}
	return string(pem.EncodeToMemory(&pem.Block{Type: "X509 CRL", Bytes: der}))
}

// TestRevokedCertificateEndsItsSession: a new revocation list, or an authority that is no
// longer accepted, ends the sessions that came with the certificates it means, and those
// alone, whether somebody asks for the reload or the program finds the file.
func TestRevokedCertificateEndsItsSession(t *testing.T) {
	t.Parallel()
	s := harness.StartSink(t)
	p := harness.NewProxy(t, "")
	token := p.Token("thermometer")
	dir := t.TempDir()
	authority, crl := filepath.Join(dir, "devices.pem"), filepath.Join(dir, "devices.crl")
	ours, others := newDeviceAuthority(t, "ours"), newDeviceAuthority(t, "others")
	harness.WriteFile(t, authority, ours.pem()+others.pem())
	harness.WriteFile(t, crl, ours.revoking()+others.revoking())
	config := p.ConfigWith(s.Upstream()+"connect: {timeout: 60s}\n",
		fmt.Sprintf("{name: plain, address: '%s'}", p.Plain),
		fmt.Sprintf("{name: tls, address: '%s', tls: {auto: true, client_auth: request, client_ca: %s, client_crl: %s}}", p.TLS, authority, crl))
	harness.WriteFile(t, p.Config, config)
	p.Start()
	devices := map[string]tls.Certificate{"first": ours.device(7), "second": ours.device(8), "third": ours.device(9), "other": others.device(7)}
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
	// A device whose handshake is over and whose CONNECT is still to come.
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
	harness.WriteFile(t, crl, ours.revoking(7)+others.revoking())
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
	harness.WriteFile(t, crl, ours.revoking(7, 8)+others.revoking())
	ends("second") // by the poll
	if _, ack := packetstest.Present(t, late, packetstest.Identity(5, "late", token)); ack.Code != packets.NotAuthorized {
		t.Errorf("a certificate that was revoked between the handshake and the CONNECT gets %v", ack.Code)
	}
	harness.WriteFile(t, crl, ours.revoking(7, 8))
	harness.WriteFile(t, authority, ours.pem())
	if status, text := p.Request(http.MethodPost, "/v1/reload", ""); status != 200 {
		t.Fatal(text)
	}
	ends("other")
	// Another file, by another config.
	harness.WriteFile(t, crl+".2", ours.revoking(7, 8, 9))
	harness.WriteFile(t, p.Config, strings.Replace(config, crl, crl+".2", 1))
	if status, text := p.Request(http.MethodPost, "/v1/reload", ""); status != 200 {
		t.Fatal(text)
	}
	ends("third")
}
