package service

import (
	"crypto/tls"
	"crypto/x509"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/authz/certtest"
)

// client returns a client for the admin side that trusts roots and does not follow redirects.
func client(t *testing.T, roots *x509.CertPool) *http.Client {
	transport := &http.Transport{TLSClientConfig: &tls.Config{RootCAs: roots}}
	t.Cleanup(transport.CloseIdleConnections)
	return &http.Client{Transport: transport, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
}

// signIn signs in at a base URL and returns the status and the cookie.
func signIn(t *testing.T, c *http.Client, base, token string) (int, *http.Cookie) {
	t.Helper()
	resp, err := c.PostForm(base+"/sign-in", url.Values{"token": {token}})
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	for _, cookie := range resp.Cookies() {
		return resp.StatusCode, cookie
	}
	return resp.StatusCode, nil
}

// TestAdminSideUsesTLS: the certificate of the proxy's own CA, one from files, a renewed one, and
// none are in use after a reload, on the same socket.
func TestAdminSideUsesTLS(t *testing.T) {
	withAdmin := func(keys string) string {
		return strings.Replace(bundledConfig, `admin: {`, `admin: {`+keys, 1)
	}
	s, log := startService(t, withAdmin("tls: {auto: true}, "))
	in := s.current.Load()
	address := in.admin.socket.Addr().String()
	token, err := os.ReadFile(in.config.Admin.TokenFile)
	if err != nil {
		t.Fatal(err)
	}
	root, err := os.ReadFile(filepath.Join(in.config.Data, "tls", "ca-root.pem"))
	if err != nil {
		t.Fatal(err)
	}
	own := x509.NewCertPool()
	own.AppendCertsFromPEM(root)
	status, cookie := signIn(t, client(t, own), "https://"+address, string(token))
	if status != 303 || cookie == nil || !cookie.Secure {
		t.Errorf("sign-in by HTTPS: status %d, cookie %v", status, cookie)
	}
	if resp, err := http.Get("http://" + address + "/livez"); err != nil || resp.StatusCode != 400 {
		t.Errorf("plain HTTP: %v, %v", resp, err)
	} else {
		resp.Body.Close()
	}
	if st := s.status(); len(st.Certificates) != 1 || st.Certificates[0].Listener != "admin" {
		t.Errorf("the status has the certificates %+v", st.Certificates)
	}

	dir := t.TempDir()
	ca := certtest.Authority("CA of the admin side")
	install := func(serial string) {
		t.Helper()
		cert := ca.Issue(&x509.Certificate{DNSNames: []string{serial + ".example"}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, NotAfter: time.Now().Add(time.Hour)})
		for name, text := range map[string][]byte{"a.pem": cert.PEM(), "a-key.pem": cert.KeyPEM()} {
			if err := os.WriteFile(filepath.Join(dir, name), text, 0o600); err != nil {
				t.Fatal(err)
			}
		}
	}
	shown := func() string {
		t.Helper()
		resp, err := client(t, ca.Pool()).Get("https://" + address + "/livez")
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		return resp.TLS.PeerCertificates[0].DNSNames[0]
	}
	install("first")
	edit(t, s, withAdmin("tls: {certificate: "+dir+"/a.pem, key: "+dir+"/a-key.pem, min_version: '1.3'}, "))
	if err := reload(t, s); err != nil {
		t.Fatal(err)
	}
	if name := shown(); name != "first.example" {
		t.Errorf("the certificate of %s is shown", name)
	}
	install("second")
	if err := reload(t, s); err != nil {
		t.Fatal(err)
	}
	if name := shown(); name != "second.example" {
		t.Errorf("after its renewal the certificate of %s is shown", name)
	}
	edit(t, s, bundledConfig)
	if err := reload(t, s); err != nil {
		t.Fatal(err)
	}
	if status, cookie := signIn(t, http.DefaultClient, "http://"+address, "a-wrong-token"); status != 401 || cookie != nil {
		t.Errorf("plain HTTP: status %d, cookie %v", status, cookie)
	}
	for _, secret := range []string{strings.TrimSpace(string(token)), "a-wrong-token", cookie.Value} {
		if strings.Contains(log.String(), secret) {
			t.Error("a token or a cookie is in the log")
		}
	}
	if !strings.Contains(log.String(), "a wrong token at the sign-in") {
		t.Error("a wrong sign-in is not logged")
	}
}

// TestPageIsClosedWithoutARole: every route of the page but its assets needs a sign-in, and the
// role metrics is not enough.
func TestPageIsClosedWithoutARole(t *testing.T) {
	s, _ := startService(t, bundledConfig)
	metrics, err := os.ReadFile(s.current.Load().config.Admin.MetricsTokenFile)
	if err != nil {
		t.Fatal(err)
	}
	closed := 0
	for _, route := range s.page.Routes() {
		method, path, ok := strings.Cut(route.Pattern, " ")
		if !ok || strings.HasPrefix(path, "/assets/") {
			continue
		}
		for authorization, want := range map[string]int{"": 401, "Bearer " + strings.TrimSpace(string(metrics)): 403} {
			r, err := http.NewRequestWithContext(t.Context(), method, "http://"+s.current.Load().admin.socket.Addr().String()+strings.TrimSuffix(path, "{$}"), nil)
			if err != nil {
				t.Fatal(err)
			}
			if authorization != "" {
				r.Header.Set("Authorization", authorization)
			}
			resp, err := http.DefaultClient.Do(r)
			if err != nil {
				t.Fatal(err)
			}
			resp.Body.Close()
			if resp.StatusCode != want {
				t.Errorf("%s: status %d, want %d", route.Pattern, resp.StatusCode, want)
			}
		}
		closed++
	}
	if closed < 5 {
		t.Errorf("only %d routes were asked", closed)
	}
}

// TestSignInEndsWhenItsTokenFileChanges: with the next reload of the file.
func TestSignInEndsWhenItsTokenFileChanges(t *testing.T) {
	s, _ := startService(t, bundledConfig)
	base := "http://" + s.current.Load().admin.socket.Addr().String()
	path := s.current.Load().config.Admin.ReadTokenFile
	token, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	c := client(t, nil)
	_, cookie := signIn(t, c, base, string(token))
	ask := func() (int, string) {
		r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, base+"/v1/status", nil)
		if err != nil {
			t.Fatal(err)
		}
		r.AddCookie(cookie)
		resp, err := c.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		body, _ := io.ReadAll(resp.Body)
		return resp.StatusCode, string(body)
	}
	if status, body := ask(); status != 200 {
		t.Fatalf("status %d, %s", status, body)
	}
	if err := os.WriteFile(path, []byte("another-token-of-the-readers\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := reload(t, s); err != nil {
		t.Fatal(err)
	}
	if status, _ := ask(); status != 401 {
		t.Errorf("status %d after the token has changed", status)
	}
	if status, _ := signIn(t, c, base, "another-token-of-the-readers"); status != 303 {
		t.Errorf("status %d with the new token", status)
	}
}
