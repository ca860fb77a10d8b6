package certs

import (
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/authz/certtest"
)

// newCRLIssuer returns an authority that may sign revocation lists.
func newCRLIssuer(t testing.TB, name string) *issuer {
	key := certtest.NewKey()
	return &issuer{key: key, cert: (&issuer{}).sign(key, &x509.Certificate{
		Subject: pkix.Name{CommonName: name}, IsCA: true, BasicConstraintsValid: true,
		KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageCRLSign, SubjectKeyId: []byte(name),
	})}
}

// revoke returns a revocation list in DER.
func (i *issuer) revoke(t testing.TB, nextUpdate time.Time, revoked ...*x509.Certificate) []byte {
	t.Helper()
	list := &x509.RevocationList{Number: big.NewInt(1), ThisUpdate: nextUpdate.Add(-time.Hour), NextUpdate: nextUpdate}
	for _, cert := range revoked {
		list.RevokedCertificateEntries = append(list.RevokedCertificateEntries, x509.RevocationListEntry{
			SerialNumber: cert.SerialNumber, RevocationTime: list.ThisUpdate,
		})
	}
	der, err := x509.CreateRevocationList(rand.Reader, list, i.cert, i.key)
	if err != nil {
		t.Fatal(err)
	}
	return der
}

func crlPEM(der []byte) []byte {
	return pem.EncodeToMemory(&pem.Block{Type: "X509 CRL", Bytes: der})
}

// numberedDevice returns a client certificate with a serial number of its own.
func (i *issuer) numberedDevice(t testing.TB, number int64) tls.Certificate {
	t.Helper()
	key := certtest.NewKey()
	cert := i.sign(key, &x509.Certificate{
		SerialNumber: big.NewInt(number), Subject: pkix.Name{CommonName: "device"},
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
	})
	return tls.Certificate{Certificate: [][]byte{cert.Raw}, PrivateKey: key, Leaf: cert}
}

// revokingServer returns a source that checks clients of ca against a list, and the config of a
// client that trusts it.
func revokingServer(t *testing.T, ca *issuer, list []byte) (*Source, Files, *tls.Config) {
	t.Helper()
	root, dir := newIssuer(t, "root"), t.TempDir()
	files := pair(t, root, dir)
	files.ClientCA, files.ClientCRL = filepath.Join(dir, "devices-ca.pem"), filepath.Join(dir, "devices.crl")
	put(t, files.ClientCA, certtest.PEM(ca.cert))
	put(t, files.ClientCRL, list)
	return mustLoad(t, files), files, trust(root.cert)
}

func TestRevokedCertificateIsRefused(t *testing.T) {
	ca := newCRLIssuer(t, "devices")
	good, bad := ca.numberedDevice(t, 7), ca.numberedDevice(t, 8)
	soon := time.Now().Add(time.Hour)
	src, files, client := revokingServer(t, ca, crlPEM(ca.revoke(t, soon)))
	server := src.ServerConfig(Options{ClientAuth: tls.RequireAndVerifyClientCert})

	connect := func(cert tls.Certificate) error {
		c := client.Clone()
		c.Certificates = []tls.Certificate{cert}
		_, err := handshake(t, server, c)
		return err
	}
	if err := connect(bad); err != nil {
		t.Fatalf("before it is revoked: %v", err)
	}
	put(t, files.ClientCRL, crlPEM(ca.revoke(t, soon, bad.Leaf)))
	mustReload(t, src, true)
	if err := connect(bad); err == nil {
		t.Error("a revoked certificate is accepted")
	}
	if err := connect(good); err != nil {
		t.Errorf("another certificate of the same authority: %v", err)
	}
	// An overdue list, here in DER, stays in force.
	put(t, files.ClientCRL, ca.revoke(t, time.Now().Add(-time.Hour), bad.Leaf))
	mustReload(t, src, true)
	if err := connect(bad); err == nil {
		t.Error("a revoked certificate is accepted when the list is overdue")
	}
}

// TestRevokedCertificateDoesNotResume: a ticket from before the revocation does not help.
func TestRevokedCertificateDoesNotResume(t *testing.T) {
	ca := newCRLIssuer(t, "devices")
	device := ca.numberedDevice(t, 7)
	soon := time.Now().Add(time.Hour)
	src, files, client := revokingServer(t, ca, crlPEM(ca.revoke(t, soon)))
	server := src.ServerConfig(Options{ClientAuth: tls.RequireAndVerifyClientCert})
	client.Certificates = []tls.Certificate{device}
	client.ClientSessionCache = tls.NewLRUClientSessionCache(1)
	if _, err := handshake(t, server, client); err != nil {
		t.Fatal(err)
	}
	if !resumes(t, server, client) {
		t.Fatal("the session does not resume at all")
	}
	put(t, files.ClientCRL, crlPEM(ca.revoke(t, soon, device.Leaf)))
	mustReload(t, src, true)
	if _, err := handshake(t, server, client); err == nil {
		t.Error("the session of a revoked certificate resumes")
	}
}

// TestBadRevocationListChangesNothing: the previous list stays in force.
func TestBadRevocationListChangesNothing(t *testing.T) {
	ca, other := newCRLIssuer(t, "devices"), newCRLIssuer(t, "others")
	namesake := newCRLIssuer(t, "devices")
	device := ca.numberedDevice(t, 7)
	soon := time.Now().Add(time.Hour)
	src, files, client := revokingServer(t, ca, crlPEM(ca.revoke(t, soon, device.Leaf)))
	for name, list := range map[string][]byte{
		"empty":              {},
		"text":               []byte("no list\n"),
		"another authority":  crlPEM(other.revoke(t, soon)),
		"a namesake":         crlPEM(namesake.revoke(t, soon)),
		"a certificate":      certtest.PEM(ca.cert),
		"half a list":        crlPEM(ca.revoke(t, soon)[:50]),
		"one good, one cut":  append(crlPEM(ca.revoke(t, soon)), crlPEM(ca.revoke(t, soon, device.Leaf))[:60]...),
		"one good, one half": append(crlPEM(ca.revoke(t, soon)), crlPEM(ca.revoke(t, soon)[:50])...),
	} {
		put(t, files.ClientCRL, list)
		if changed, err := src.Reload(); err == nil || changed || !strings.Contains(err.Error(), files.ClientCRL) {
			t.Errorf("%s: changed %v, %v", name, changed, err)
		}
	}
	client.Certificates = []tls.Certificate{device}
	if _, err := handshake(t, src.ServerConfig(Options{ClientAuth: tls.RequireAndVerifyClientCert}), client); err == nil {
		t.Error("a revoked certificate is accepted after a bad reload")
	}
}

func FuzzParseRevoked(f *testing.F) {
	ca := newCRLIssuer(f, "devices")
	list := ca.revoke(f, time.Now().Add(time.Hour), ca.numberedDevice(f, 7).Leaf)
	f.Add(list)
	f.Add(crlPEM(list))
	f.Add(append(crlPEM(list), crlPEM(list[:40])...))
	f.Add([]byte("-----BEGIN X509 CRL-----\n-----END X509 CRL-----\n"))
	f.Fuzz(func(t *testing.T, data []byte) {
		if revoked, err := parseRevoked(data, []*x509.Certificate{ca.cert}); (revoked == nil) == (err == nil) {
			t.Fatalf("neither or both: %v, %v", revoked, err)
		}
	})
}

// TestAcceptsLikeAHandshake: Accepts decides about the chains of a live session as a new
// handshake would.
func TestAcceptsLikeAHandshake(t *testing.T) {
	ca, other := newCRLIssuer(t, "devices"), newCRLIssuer(t, "others")
	soon := time.Now().Add(time.Hour)
	src, files, client := revokingServer(t, ca, crlPEM(ca.revoke(t, soon)))
	server := src.ServerConfig(Options{ClientAuth: tls.RequireAndVerifyClientCert})
	device, neighbour := ca.numberedDevice(t, 7), ca.numberedDevice(t, 8)
	chains := [][]*x509.Certificate{{device.Leaf, ca.cert}}
	connects := func() bool {
		c := client.Clone()
		c.Certificates = []tls.Certificate{device}
		_, err := handshake(t, server, c)
		return err == nil
	}
	for _, step := range []struct {
		name             string
		authorities      []*x509.Certificate
		crl              []byte
		accepts, revokes bool
	}{
		{"as before", []*x509.Certificate{ca.cert}, crlPEM(ca.revoke(t, soon)), true, false},
		{"a neighbour is revoked", []*x509.Certificate{ca.cert}, crlPEM(ca.revoke(t, soon, neighbour.Leaf)), true, false},
		{"it is revoked", []*x509.Certificate{ca.cert}, crlPEM(ca.revoke(t, soon, device.Leaf)), false, true},
		{"another authority", []*x509.Certificate{other.cert}, crlPEM(other.revoke(t, soon)), false, false},
		{"both authorities", []*x509.Certificate{other.cert, ca.cert}, crlPEM(other.revoke(t, soon)), true, false},
	} {
		before := src.Version()
		put(t, files.ClientCA, certtest.PEM(step.authorities...))
		put(t, files.ClientCRL, step.crl)
		if _, err := src.Reload(); err != nil {
			t.Fatal(err)
		}
		if got := src.Accepts(chains); got != step.accepts || got != connects() {
			t.Errorf("%s: Accepts = %v, a handshake succeeds: %v", step.name, got, connects())
		}
		if got := src.Revokes(chains); got != step.revokes {
			t.Errorf("%s: Revokes = %v", step.name, got)
		}
		if !src.Accepts(nil) || src.Revokes(nil) {
			t.Errorf("%s: a client without a certificate is refused", step.name)
		}
		if now := src.Version(); now.Certificates != before.Certificates || now.ClientCRL == before.ClientCRL && step.name != "as before" {
			t.Errorf("%s: the version went from %x to %x", step.name, before, now)
		}
	}
}

// TestRenewedAuthorityIsTheSame: certificates stay valid if their authority is renewed with the
// same key.
func TestRenewedAuthorityIsTheSame(t *testing.T) {
	ca := newCRLIssuer(t, "devices")
	src, files, _ := revokingServer(t, ca, crlPEM(ca.revoke(t, time.Now().Add(time.Hour))))
	chains := [][]*x509.Certificate{{ca.numberedDevice(t, 7).Leaf, ca.cert}}
	renewed := *ca.cert
	renewed.SerialNumber = big.NewInt(4711)
	put(t, files.ClientCA, certtest.PEM(ca.sign(ca.key, &renewed)))
	mustReload(t, src, true)
	if !src.Accepts(chains) {
		t.Error("refused")
	}
}
