package certs

import (
	"crypto/tls"
	"path/filepath"
	"strings"
	"testing"

	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/authz/certtest"
)

func TestVersions(t *testing.T) {
	root := newIssuer(t, "root")
	src := mustLoad(t, pair(t, root, t.TempDir()))
	const refused = "remote error: tls: protocol version not supported"
	tests := []struct {
		min, client uint16
		want        string
	}{
		{0, tls.VersionTLS13, ""},
		{0, tls.VersionTLS12, ""},
		{0, tls.VersionTLS11, refused},
		{tls.VersionTLS10, tls.VersionTLS11, refused},
		{tls.VersionTLS12, tls.VersionTLS12, ""},
		{tls.VersionTLS13, tls.VersionTLS13, ""},
		{tls.VersionTLS13, tls.VersionTLS12, refused},
	}
	for _, test := range tests {
		client := trust(root.cert)
		client.MinVersion, client.MaxVersion = tls.VersionTLS10, test.client
		state, err := handshake(t, src.ServerConfig(Options{MinVersion: test.min}), client)
		switch {
		case test.want == "" && (err != nil || state.Version != test.client):
			t.Errorf("server from %x, client %x: version %x, %v", test.min, test.client, state.Version, err)
		case test.want != "" && (err == nil || err.Error() != test.want):
			t.Errorf("server from %x, client %x: %v, want %s", test.min, test.client, err, test.want)
		}
	}
}

// resumes connects twice and reports whether the second connection resumes the first.
func resumes(t *testing.T, server, client *tls.Config) bool {
	t.Helper()
	state, err := handshake(t, server, client)
	if err != nil {
		t.Fatal(err)
	}
	return state.DidResume
}

func TestSessionsResumeOverReloads(t *testing.T) {
	for _, version := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
		for _, mutual := range []bool{false, true} {
			t.Run(tls.VersionName(version)+map[bool]string{false: "", true: " mutual"}[mutual], func(t *testing.T) {
				root, devices, dir := newIssuer(t, "root"), newIssuer(t, "devices"), t.TempDir()
				files, options := pair(t, root, dir), Options{}
				client := trust(root.cert)
				client.MaxVersion = version
				client.ClientSessionCache = tls.NewLRUClientSessionCache(1)
				if mutual {
					files.ClientCA = filepath.Join(dir, "devices.pem")
					put(t, files.ClientCA, certtest.PEM(devices.cert))
					options.ClientAuth = tls.RequireAndVerifyClientCert
					client.Certificates = []tls.Certificate{devices.device(t)}
				}
				src := mustLoad(t, files)
				server := src.ServerConfig(options)
				if resumes(t, server, client) {
					t.Fatal("the first connection resumed something")
				}
				if !resumes(t, server, client) {
					t.Error("no resumption before a reload")
				}
				mustReload(t, src, false)
				if !resumes(t, server, client) {
					t.Error("no resumption after a reload of the same")
				}
				pair(t, root, dir)
				mustReload(t, src, true)
				if !resumes(t, server, client) {
					t.Error("no resumption after a new certificate")
				}
			})
		}
	}
}

// Two proxies get the same ticket keys, one after its first handshake and one before. They
// accept each other's tickets until a key is changed.
func TestTicketKeysSetLater(t *testing.T) {
	root, devices, dir := newIssuer(t, "root"), newIssuer(t, "devices"), t.TempDir()
	files := pair(t, root, dir)
	files.ClientCA = filepath.Join(dir, "devices.pem")
	put(t, files.ClientCA, certtest.PEM(devices.cert))
	client := trust(root.cert)
	client.Certificates = []tls.Certificate{devices.device(t)}
	client.ClientSessionCache = tls.NewLRUClientSessionCache(1)

	var proxies []*tls.Config
	for i := range 2 {
		server := mustLoad(t, files).ServerConfig(Options{ClientAuth: tls.VerifyClientCertIfGiven})
		if i == 0 {
			resumes(t, server, client)
		}
		server.SetSessionTicketKeys([][32]byte{{1, 2, 3}})
		proxies = append(proxies, server)
	}
	resumes(t, proxies[0], client)
	if !resumes(t, proxies[1], client) {
		t.Error("the second proxy did not take the first one's ticket")
	}
	proxies[1].SetSessionTicketKeys([][32]byte{{4, 5, 6}})
	if resumes(t, proxies[1], client) {
		t.Error("a ticket outlived its key")
	}
}

func TestClientCertificates(t *testing.T) {
	root, old, fresh, dir := newIssuer(t, "root"), newIssuer(t, "old devices"), newIssuer(t, "new devices"), t.TempDir()
	files := pair(t, root, dir)
	files.ClientCA = filepath.Join(dir, "devices.pem")
	put(t, files.ClientCA, certtest.PEM(old.cert))
	src := mustLoad(t, files)
	server := src.ServerConfig(Options{ClientAuth: tls.RequireAndVerifyClientCert})

	connect := func(client *tls.Config) string {
		if _, err := handshake(t, server, client); err != nil {
			return err.Error()
		}
		return ""
	}
	none, oldDevice, newDevice := trust(root.cert), trust(root.cert), trust(root.cert)
	oldDevice.Certificates = []tls.Certificate{old.device(t)}
	oldDevice.ClientSessionCache = tls.NewLRUClientSessionCache(1)
	newDevice.Certificates = []tls.Certificate{fresh.device(t)}
	const required, refused = "certificate required", "unknown certificate authority"
	if got := connect(none); !strings.Contains(got, required) {
		t.Errorf("no certificate: %q", got)
	}
	if got := connect(oldDevice); got != "" {
		t.Errorf("device of the authority: %q", got)
	}
	// A client sends a certificate only if the server asks for one by its issuer, so the error
	// says that the client sent none.
	if got := connect(newDevice); !strings.Contains(got, required) {
		t.Errorf("device of another authority: %q", got)
	}
	newDevice.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
		return &newDevice.Certificates[0], nil
	}
	if got := connect(newDevice); !strings.Contains(got, refused) {
		t.Errorf("device that insists: %q", got)
	}

	put(t, files.ClientCA, certtest.PEM(fresh.cert))
	mustReload(t, src, true)
	if got := connect(newDevice); got != "" {
		t.Errorf("device of the new authority: %q", got)
	}
	// It still has a session ticket from the time when it was accepted.
	if got := connect(oldDevice); got == "" {
		t.Error("device of the old authority was let in")
	}
}

// Without a file every certificate is refused; the authorities of the public web are not used.
func TestNoClientCATrustsNobody(t *testing.T) {
	root := newIssuer(t, "root")
	src := mustLoad(t, pair(t, root, t.TempDir()))
	server := src.ServerConfig(Options{ClientAuth: tls.RequireAndVerifyClientCert})
	if server.ClientCAs == nil {
		t.Fatal("ClientCAs is nil: crypto/tls takes the system's")
	}
	client := trust(root.cert)
	device := root.device(t)
	client.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return &device, nil }
	if _, err := handshake(t, server, client); err == nil {
		t.Error("a certificate of some authority was let in")
	}
}
