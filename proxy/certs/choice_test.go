package certs

import (
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/authz/certtest"
)

// severalNames returns a source with certificates for localhost (ECDSA), other.test (ECDSA) and
// localhost (RSA), in this order.
func severalNames(t *testing.T, root *issuer) (*Source, Files) {
	t.Helper()
	dir := t.TempDir()
	files := pair(t, root, dir)
	key := certtest.NewKey()
	other := root.sign(key, &x509.Certificate{Subject: pkix.Name{CommonName: "other"}, DNSNames: []string{"other.test"}})
	put(t, filepath.Join(dir, "other.pem"), certtest.PEM(other), certtest.KeyPEM(key))
	cert, rsa := root.server(t, rsaKey(t))
	put(t, filepath.Join(dir, "rsa.pem"), cert)
	put(t, filepath.Join(dir, "rsa-key.pem"), rsa)
	files.Others = []Pair{{Certificate: filepath.Join(dir, "other.pem")}, {filepath.Join(dir, "rsa.pem"), filepath.Join(dir, "rsa-key.pem")}}
	return mustLoad(t, files), files
}

func TestCertificateByName(t *testing.T) {
	root := newIssuer(t, "root")
	src, files := severalNames(t, root)
	if n := len(src.Leaves()); n != 3 || src.Leaves()[0] != src.Leaf() {
		t.Errorf("%d leaves", n)
	}
	server := src.ServerConfig(Options{})
	shown := func(name string, suites ...uint16) (string, x509.PublicKeyAlgorithm) {
		client := &tls.Config{ServerName: name, InsecureSkipVerify: true, CipherSuites: suites}
		if suites != nil {
			client.MaxVersion = tls.VersionTLS12
		}
		state, err := handshake(t, server, client)
		if err != nil {
			t.Fatalf("%q: %v", name, err)
		}
		leaf := state.PeerCertificates[0]
		return leaf.Subject.CommonName, leaf.PublicKeyAlgorithm
	}
	const onlyRSA = tls.TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256
	for _, tt := range []struct {
		name   string
		suites []uint16
		want   string
		key    x509.PublicKeyAlgorithm
	}{
		{"localhost", nil, "server", x509.ECDSA},
		{"other.test", nil, "other", x509.ECDSA},
		{"unknown.test", nil, "server", x509.ECDSA},
		{"", nil, "server", x509.ECDSA},
		{"localhost", []uint16{onlyRSA}, "server", x509.RSA},
		{"unknown.test", []uint16{onlyRSA}, "server", x509.RSA},
	} {
		if got, key := shown(tt.name, tt.suites...); got != tt.want || key != tt.key {
			t.Errorf("%q with suites %x: got %s, %s", tt.name, tt.suites, got, key)
		}
	}

	put(t, files.Others[0].Certificate, []byte("-----BEGIN CERTIFICATE-----\n"))
	if _, err := src.Reload(); err == nil || !strings.Contains(err.Error(), "other.pem: a PEM block is cut off") {
		t.Errorf("half of another certificate: %v", err)
	}
	if got, _ := shown("other.test"); got != "other" {
		t.Errorf("after a failed reload: %s", got)
	}
}

func TestProtocols(t *testing.T) {
	root := newIssuer(t, "root")
	server := mustLoad(t, pair(t, root, t.TempDir())).ServerConfig(Options{Protocols: []string{"mqtt"}})
	for _, tt := range []struct {
		offered []string
		want    string
		refused bool
	}{
		{nil, "", false},
		{[]string{"mqtt"}, "mqtt", false},
		{[]string{"http/1.1", "mqtt"}, "mqtt", false},
		{[]string{"mqttv3.1"}, "", false},
		{[]string{"x-amzn-mqtt-ca"}, "", false},
		{[]string{"h2", "http/1.1"}, "", true},
		{[]string{"http/1.1"}, "", true},
	} {
		client := trust(root.cert)
		client.NextProtos = tt.offered
		state, err := handshake(t, server, client)
		if (err != nil) != tt.refused || err == nil && state.NegotiatedProtocol != tt.want {
			t.Errorf("%q: agreed on %q, %v", tt.offered, state.NegotiatedProtocol, err)
		}
	}
}

func TestCurves(t *testing.T) {
	root := newIssuer(t, "root")
	src := mustLoad(t, pair(t, root, t.TempDir()))
	for _, tt := range []struct {
		curves []tls.CurveID
		client []tls.CurveID
		want   tls.CurveID
	}{
		{nil, nil, tls.X25519MLKEM768},
		{[]tls.CurveID{tls.CurveP256}, nil, tls.CurveP256},
		{[]tls.CurveID{tls.CurveP256}, []tls.CurveID{tls.X25519}, 0},
	} {
		client := trust(root.cert)
		client.CurvePreferences = tt.client
		state, err := handshake(t, src.ServerConfig(Options{Curves: tt.curves}), client)
		if (err == nil) != (tt.want != 0) || err == nil && state.CurveID != tt.want {
			t.Errorf("%v and %v: %v, %v", tt.curves, tt.client, state.CurveID, err)
		}
	}
}

func TestCompatibility(t *testing.T) {
	root := newIssuer(t, "root")
	cert, key := root.server(t, rsaKey(t))
	path := filepath.Join(t.TempDir(), "rsa.pem")
	put(t, path, cert, key)
	src := mustLoad(t, Files{Certificate: path})
	for _, tt := range []struct {
		suite              uint16
		strict, compatible bool
	}{
		{tls.TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256, true, true},
		{tls.TLS_RSA_WITH_AES_128_CBC_SHA, false, true},
		{tls.TLS_RSA_WITH_AES_128_GCM_SHA256, false, true},
		{tls.TLS_ECDHE_RSA_WITH_AES_128_CBC_SHA256, false, true},
		{tls.TLS_RSA_WITH_3DES_EDE_CBC_SHA, false, false},
		{tls.TLS_RSA_WITH_RC4_128_SHA, false, false},
	} {
		client := trust(root.cert)
		client.MaxVersion, client.CipherSuites = tls.VersionTLS12, []uint16{tt.suite}
		for compatible, want := range map[bool]bool{false: tt.strict, true: tt.compatible} {
			if _, err := handshake(t, src.ServerConfig(Options{Compatible: compatible}), client); (err == nil) != want {
				t.Errorf("%s, compatible %v: %v", tls.CipherSuiteName(tt.suite), compatible, err)
			}
		}
	}
	old := trust(root.cert)
	old.MinVersion, old.MaxVersion = tls.VersionTLS10, tls.VersionTLS11
	if _, err := handshake(t, src.ServerConfig(Options{Compatible: true}), old); err == nil {
		t.Error("compatibility lets TLS 1.1 in")
	}
	newest, err := handshake(t, src.ServerConfig(Options{Compatible: true}), trust(root.cert))
	if err != nil || newest.Version != tls.VersionTLS13 {
		t.Errorf("compatibility costs TLS 1.3: %x, %v", newest.Version, err)
	}
}

// ticketServer returns a server with files of its own and the given ticket secret, and with
// client authorities if there are any.
func ticketServer(t *testing.T, root *issuer, secret string, devices ...*issuer) (*tls.Config, *Source, Files) {
	t.Helper()
	dir := t.TempDir()
	files, options := pair(t, root, dir), Options{}
	files.TicketSecret = filepath.Join(dir, "secret")
	put(t, files.TicketSecret, []byte(secret))
	for _, d := range devices {
		files.ClientCA, options.ClientAuth = filepath.Join(dir, "devices.pem"), tls.RequireAndVerifyClientCert
		put(t, files.ClientCA, certtest.PEM(d.cert))
	}
	src := mustLoad(t, files)
	return src.ServerConfig(options), src, files
}

// TestTicketsOfAnotherServer: a ticket is accepted by every server with the same secret and the
// same client authorities, and by no other.
func TestTicketsOfAnotherServer(t *testing.T) {
	root, devices, strangers := newIssuer(t, "root"), newIssuer(t, "devices"), newIssuer(t, "strangers")
	secret, another := strings.Repeat("s", 32), strings.Repeat("a", 32)
	first, _, _ := ticketServer(t, root, secret+"\n")
	second, src, files := ticketServer(t, root, secret)
	other, _, _ := ticketServer(t, root, another)
	for _, version := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
		client := trust(root.cert)
		client.MaxVersion = version
		client.ClientSessionCache = tls.NewLRUClientSessionCache(1)
		resumes(t, first, client)
		if !resumes(t, second, client) {
			t.Errorf("%s: the second server does not take the first one's ticket", tls.VersionName(version))
		}
		if resumes(t, other, client) {
			t.Errorf("%s: a server with another secret takes the ticket", tls.VersionName(version))
		}
	}

	client := trust(root.cert)
	client.ClientSessionCache = tls.NewLRUClientSessionCache(1)
	resumes(t, second, client)
	put(t, files.TicketSecret, []byte(another))
	mustReload(t, src, true)
	if resumes(t, second, client) {
		t.Error("a ticket outlived its secret")
	}
	if !resumes(t, other, client) {
		t.Error("the new secret is not in use")
	}

	ours, _, _ := ticketServer(t, root, secret, devices)
	theirs, _, _ := ticketServer(t, root, secret, strangers)
	client = trust(root.cert)
	client.Certificates = []tls.Certificate{devices.device(t)}
	client.ClientSessionCache = tls.NewLRUClientSessionCache(1)
	resumes(t, ours, client)
	if state, err := handshake(t, theirs, client); err == nil {
		t.Errorf("a ticket let a device in whose authority is not trusted (resumed %v)", state.DidResume)
	}
	client.ClientSessionCache = tls.NewLRUClientSessionCache(1)
	plain := trust(root.cert)
	plain.ClientSessionCache = client.ClientSessionCache
	resumes(t, first, plain)
	if _, err := handshake(t, ours, plain); err == nil {
		t.Error("a ticket of a listener without client certificates opens one with")
	}
}

func TestTicketKeysOverlap(t *testing.T) {
	id := &identity{ticketSecret: []byte(strings.Repeat("s", 32))}
	keys := func(epoch int64) [][32]byte {
		k, err := id.ticketKeys(tls.NoClientCert, epoch)
		if err != nil || len(k) != 3 {
			t.Fatal(k, err)
		}
		return k
	}
	now := epochOf(time.Now())
	mine := keys(now)[0]
	for ahead, want := range map[int64]bool{-2: false, -1: true, 0: true, 1: true, 2: false} {
		if got := slices.Contains(keys(now+ahead), mine); got != want {
			t.Errorf("%d epochs on: a ticket of now is good: %v", ahead, got)
		}
	}
	if epochOf(time.Unix(0, 0).Add(ticketEpoch)) != 1 || epochOf(time.Unix(0, 0).Add(ticketEpoch-time.Second)) != 0 {
		t.Error("an epoch is not as long as it should be")
	}
	elsewhere := &identity{ticketSecret: id.ticketSecret, version: Version{ClientCA: [32]byte{1}}}
	k, err := elsewhere.ticketKeys(tls.NoClientCert, now)
	if err != nil || slices.Contains(k, mine) {
		t.Error("other authorities, same key")
	}
}

func TestBadTicketSecret(t *testing.T) {
	root := newIssuer(t, "root")
	_, src, files := ticketServer(t, root, strings.Repeat("s", 32))
	put(t, files.TicketSecret, []byte(strings.Repeat("s", 31)+"\n"))
	if _, err := src.Reload(); err == nil || !strings.Contains(err.Error(), "31 bytes is too short") || strings.Contains(err.Error(), "sss") {
		t.Errorf("a short secret: %v", err)
	}
	files.TicketSecret += "-missing"
	if _, err := Load(files); err == nil {
		t.Errorf("a missing secret: %v", err)
	}
}

func TestCheck(t *testing.T) {
	root, dir := newIssuer(t, "root"), t.TempDir()
	files := pair(t, root, dir)
	if err := Check(files); err != nil {
		t.Errorf("good files: %v", err)
	}
	files.Certificate = ""
	if _, err := Load(files); err == nil {
		t.Error("Load takes files without a certificate")
	}
	if err := Check(files); err != nil {
		t.Errorf("no certificate yet: %v", err)
	}
	files.ClientCA = filepath.Join(dir, "missing.pem")
	if err := Check(files); err == nil || !strings.Contains(err.Error(), "missing.pem") {
		t.Errorf("missing authorities: %v", err)
	}
}
