package tokenhttp

import (
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/authz/certtest"
	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/authz/files"
)

func write(t *testing.T, path, text string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

func TestCredentialsRotate(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "secret")
	for name, c := range map[string]struct {
		o                    Options
		first, second, wrong string
		want, wantSecond     string
	}{
		"bearer": {Options{BearerFile: path}, "one\n", "two", "", "Bearer one", "Bearer two"},
		"basic":  {Options{BasicFile: path}, "proxy:a:b\r\n", "proxy:c", "no colon", "Basic cHJveHk6YTpi", "Basic cHJveHk6Yw=="},
		"secret": {Options{SecretFile: path, Headers: map[string]string{"Authorization": "Key ${secret}"}}, "one", "two", "a\nb", "Key one", "Key two"},
	} {
		t.Run(name, func(t *testing.T) {
			write(t, path, c.first)
			var mu sync.Mutex
			got := ""
			server := serve(t, func(w http.ResponseWriter, r *http.Request) {
				mu.Lock()
				defer mu.Unlock()
				got = r.Header.Get("Authorization")
				w.WriteHeader(http.StatusNoContent)
			})
			c.o.URL = server.URL
			s := sourceOf(t, c.o)
			shown := func() string {
				for _, w := range []*files.Watched[string]{s.bearer, s.basic, s.secret} {
					if w != nil {
						w.Refresh()
					}
				}
				if _, err := s.Authorize(t.Context(), pump()); err != nil {
					t.Fatal(err)
				}
				mu.Lock()
				defer mu.Unlock()
				return got
			}
			if h := shown(); h != c.want {
				t.Errorf("Authorization is %q, want %q", h, c.want)
			}
			write(t, path, c.second)
			if h := shown(); h != c.wantSecond || s.Stats().Credential != nil {
				t.Errorf("after the change Authorization is %q, want %q (%v)", h, c.wantSecond, s.Stats().Credential)
			}
			write(t, path, c.wrong)
			if h := shown(); h != c.wantSecond || s.Stats().Credential == nil {
				t.Errorf("with a bad file Authorization is %q, want %q (%v)", h, c.wantSecond, s.Stats().Credential)
			}
			_ = os.Remove(path)
			if h := shown(); h != c.wantSecond {
				t.Errorf("without the file Authorization is %q, want %q", h, c.wantSecond)
			}
			write(t, path, c.second)
			if shown(); s.Stats().Credential != nil {
				t.Errorf("the fault stays: %v", s.Stats().Credential)
			}
		})
	}
}

// TestUnauthorizedProxy: the service refuses the proxy, not the device.
func TestUnauthorizedProxy(t *testing.T) {
	path := filepath.Join(t.TempDir(), "secret")
	write(t, path, "proxy-secret")
	g, err := asked(t, reply{status: 401}, Options{BearerFile: path}, pump())
	if outcomeOf(g, err) != "error" || !strings.Contains(err.Error(), "own credential") || strings.Contains(err.Error(), "proxy-secret") {
		t.Errorf("the answer is %v", err)
	}
}

// certificate returns a self-signed client certificate in PEM.
func certificate(name string) (cert, key string) {
	c := certtest.SelfSigned(&x509.Certificate{Subject: pkix.Name{CommonName: name}})
	return string(c.PEM()), string(c.KeyPEM())
}

func TestClientCertificateRotates(t *testing.T) {
	dir := t.TempDir()
	certPath, keyPath, caPath := filepath.Join(dir, "cert"), filepath.Join(dir, "key"), filepath.Join(dir, "ca")
	cert, key := certificate("first")
	write(t, certPath, cert)
	write(t, keyPath, key)
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		okJSON(`{"result":"allow","subject":"`+r.TLS.PeerCertificates[0].Subject.CommonName+`"}`).ServeHTTP(w, r)
	}))
	server.TLS = &tls.Config{ClientAuth: tls.RequireAnyClientCert}
	server.StartTLS()
	t.Cleanup(server.Close)
	write(t, caPath, string(certtest.PEM(server.Certificate())))
	s := sourceOf(t, Options{URL: server.URL, CAFile: caPath, CertificateFile: certPath, KeyFile: keyPath})
	for _, want := range []string{"first", "second"} {
		g, err := s.Authorize(t.Context(), pump())
		if err != nil || g.Subject != want {
			t.Fatalf("the service sees %v (%v), want %s", g, err, want)
		}
		cert, key := certificate("second")
		write(t, certPath, cert)
		s.pair.Refresh()
		if _, err := s.pair.Get(); err == nil {
			t.Error("a certificate with another one's key is taken")
		}
		write(t, keyPath, key)
		s.pair.Refresh()
		_ = s.Close() // the certificate is used for new connections
	}
}

func TestTLS(t *testing.T) {
	server := httptest.NewUnstartedServer(okJSON(`{"result":"allow"}`))
	server.Config.ErrorLog = log.New(io.Discard, "", 0)
	server.StartTLS()
	t.Cleanup(server.Close)
	g, err := sourceOf(t, Options{URL: server.URL}).Authorize(t.Context(), pump())
	if outcomeOf(g, err) != "error" || !strings.Contains(err.Error(), "unknown authority") {
		t.Errorf("an untrusted certificate is accepted: %v", err)
	}
	ca := filepath.Join(t.TempDir(), "ca.pem")
	if err := os.WriteFile(ca, certtest.PEM(server.Certificate()), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := sourceOf(t, Options{URL: server.URL, CAFile: ca}).Authorize(t.Context(), pump()); err != nil {
		t.Errorf("a good certificate: %v", err)
	}
	_, err = sourceOf(t, Options{URL: server.URL, CAFile: ca, ServerName: "elsewhere.test"}).Authorize(t.Context(), pump())
	if err == nil || !strings.Contains(err.Error(), "another name") {
		t.Errorf("a certificate for another name: %v", err)
	}
	plain := serve(t, okJSON(`{"result":"allow"}`).ServeHTTP)
	_, err = sourceOf(t, Options{URL: strings.Replace(plain.URL, "http:", "https:", 1), CAFile: ca}).Authorize(t.Context(), pump())
	if err == nil {
		t.Error("an answer without TLS is taken for https")
	}
}
