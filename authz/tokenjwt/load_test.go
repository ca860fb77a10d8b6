package tokenjwt

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"io"
	"io/fs"
	"log"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"
)

func TestMaxAge(t *testing.T) {
	for text, want := range map[string]time.Duration{
		"": 0, "public": 0, "max-age=60": time.Minute, "public, Max-Age=60, must-revalidate": time.Minute, `max-age="60"`: time.Minute,
		"max-age=60, no-store": 0, "no-cache": 0, "max-age=0": 0, "max-age=-5": 0, "max-age=x": 0, "max-age": 0, "s-maxage=9": 0,
		"max-age=99999999999999999999": 24 * time.Hour, "max-age=99999999999999999999x": 0,
	} {
		if got := maxAge(http.Header{"Cache-Control": {text}}); got != want {
			t.Errorf("%q: %v, want %v", text, got, want)
		}
	}
	for age, want := range map[string]time.Duration{"10": 50 * time.Second, "90": time.Nanosecond, "x": time.Minute} {
		if got := maxAge(http.Header{"Cache-Control": {"max-age=60"}, "Age": {age}}); got != want {
			t.Errorf("Age %s: %v, want %v", age, got, want)
		}
	}
}

func TestFromURL(t *testing.T) {
	set := named(t, "k1", keyring().p256.Public())
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/good":
			w.Header().Set("Cache-Control", "max-age=77")
			_, _ = w.Write(set)
		case "/moved":
			http.Redirect(w, r, "/good", http.StatusFound)
		case "/largest":
			_, _ = w.Write([]byte(strings.Repeat(" ", maxContent)))
		case "/larger":
			_, _ = w.Write([]byte(strings.Repeat(" ", maxContent+1)))
		case "/created":
			w.WriteHeader(http.StatusCreated)
			_, _ = w.Write(set)
		case "/slow":
			<-r.Context().Done()
		default:
			http.NotFound(w, r)
		}
	}))
	defer server.Close()
	for path, says := range map[string]string{
		"/good": "", "/largest": "", "/moved": "302", "/larger": "more than", "/created": "201", "/none": "404",
	} {
		d, err := fromURL(server.URL+path, TLSFiles{})(t.Context())
		if says == "" && err != nil || says != "" && (err == nil || !strings.Contains(err.Error(), says)) {
			t.Errorf("%s: %v", path, err)
		}
		if path == "/good" && d.maxAge != 77*time.Second {
			t.Errorf("max-age %v", d.maxAge)
		}
	}
	o := strict(Keys{URL: server.URL + "/slow?secret=s3cr3t"})
	o.Timeout = 20 * time.Millisecond
	if _, err := Open(t.Context(), o); err == nil || strings.Contains(err.Error(), "s3cr3t") {
		t.Errorf("Open = %v", err)
	}
}

// TestPrivateAuthority: an issuer may have a certificate of a private authority, and may
// require a client certificate. A change of the files takes effect with the next read.
func TestPrivateAuthority(t *testing.T) {
	set := named(t, "k1", keyring().p256.Public())
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if len(r.TLS.PeerCertificates) == 0 {
			w.WriteHeader(http.StatusForbidden)
			return
		}
		_, _ = w.Write(set)
	}))
	server.TLS = &tls.Config{ClientAuth: tls.RequestClientCert}
	server.Config.ErrorLog = log.New(io.Discard, "", 0)
	server.StartTLS()
	defer server.Close()
	pair := server.TLS.Certificates[0]
	key, err := x509.MarshalPKCS8PrivateKey(pair.PrivateKey)
	if err != nil {
		t.Fatal(err)
	}
	certificate := file(t, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: pair.Certificate[0]}))
	keyFile := file(t, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: key}))
	bad := file(t, []byte("none"))
	for name, c := range map[string]struct {
		tls  TLSFiles
		says string
	}{
		"all":             {TLSFiles{CA: certificate, Certificate: certificate, Key: keyFile}, ""},
		"no authority":    {TLSFiles{Certificate: certificate, Key: keyFile}, "unknown authority"},
		"no certificate":  {TLSFiles{CA: certificate}, "403"},
		"another name":    {TLSFiles{CA: certificate, ServerName: "elsewhere.test"}, "elsewhere.test"},
		"a bad authority": {TLSFiles{CA: bad}, "no certificate in it"},
		"no such file":    {TLSFiles{CA: bad + "x"}, "no such file"},
		"a bad key":       {TLSFiles{CA: certificate, Certificate: certificate, Key: bad}, "not a certificate and its key"},
		"a lone file":     {TLSFiles{Certificate: certificate}, "both the certificate's file and the key's"},
	} {
		s, err := Open(t.Context(), strictWith(Keys{URL: server.URL}, c.tls))
		if c.says == "" && err != nil || c.says != "" && (err == nil || !strings.Contains(err.Error(), c.says)) {
			t.Errorf("%s: %v, want %q", name, err, c.says)
		}
		if err == nil {
			if err := os.WriteFile(certificate, []byte("half"), 0o600); err != nil {
				t.Fatal(err)
			}
			if err := s.Reload(t.Context()); err == nil || s.Stats().Keys != 1 {
				t.Errorf("with half a file: %v and %d keys, want an error and the last good key", err, s.Stats().Keys)
			}
			if err := os.WriteFile(certificate, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: pair.Certificate[0]}), 0o600); err != nil {
				t.Fatal(err)
			}
			if err := s.Reload(t.Context()); err != nil {
				t.Errorf("with the file whole again: %v", err)
			}
			s.Close()
		}
	}
	o := strictWith(Keys{File: bad}, TLSFiles{CA: certificate})
	if _, err := Open(t.Context(), o); err == nil || errors.Is(err, ErrNoKeys) || !strings.Contains(err.Error(), "https") {
		t.Errorf("tls without a URL: %v", err)
	}
}

func strictWith(k Keys, files TLSFiles) Options {
	o := strict(k)
	o.TLS = files
	return o
}

func TestFromFile(t *testing.T) {
	dir := t.TempDir()
	large := filepath.Join(dir, "large")
	if err := os.WriteFile(large, make([]byte, maxContent+1), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(t.Context(), Options{Keys: Keys{File: filepath.Join(dir, "none")}}); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("without a file: %v", err)
	}
	for path, says := range map[string]string{dir: "not a regular file", large: "more than"} {
		if _, err := Open(t.Context(), Options{Keys: Keys{PEM: path}}); err == nil || !strings.Contains(err.Error(), says) {
			t.Errorf("%v, want something with %q", err, says)
		}
	}
	k := keyring()
	path := file(t, publicPEM(t, k.p256.Public()))
	s := opened(t, strict(Keys{PEM: path}))
	if err := os.WriteFile(path, publicPEM(t, k.other.Public()), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := s.Reload(t.Context()); err != nil {
		t.Error(err)
	}
	for want, key := range map[string]any{"granted": k.other, "unknown_token": k.p256} {
		if got := outcome(t, s, request(signed(t, jose.ES256, key, "", claims(nil)))); got != want {
			t.Errorf("%s, want %s", got, want)
		}
	}
}

func TestOptionsAreChecked(t *testing.T) {
	url := Keys{URL: "https://id.example/"}
	for says, o := range map[string]Options{
		"0 places":               {},
		"2 places":               {Keys: Keys{URL: "https://id.example/", File: "x"}},
		"too short":              {Keys: url, Refresh: time.Second},
		"is too short":           {Keys: url, Refresh: -time.Hour},
		"any audience":           {Keys: url, Audiences: []string{"x"}, AnyAudience: true},
		"not valid":              {Keys: Keys{URL: "https://s3cr3t:%zz@id.example/"}},
		"user information":       {Keys: Keys{URL: "https://u:s3cr3t@id.example/"}},
		"begin with https://":    {Keys: Keys{URL: "file:///etc/passwd"}},
		"and a host":             {Keys: Keys{URL: "https:///jwks"}},
		"can issue tokens":       {Keys: Keys{URL: "http://id.example/"}},
		"cannot be used with":    {Keys: url, Algorithms: []string{"HS256"}},
		`"none"`:                 {Keys: url, Algorithms: []string{"none"}},
		`"RS256" cannot be used`: {Keys: Keys{Secret: "x"}, Algorithms: []string{"RS256"}},
		"subject: a path":        {Keys: url, Subject: "a..b"},
		"acl: a JSON pointer":    {Keys: url, ACL: "/~"},
		`attrs: "x": a path`:     {Keys: url, Attrs: map[string]string{"x": "."}},
		`attrs: "x": needs`:      {Keys: url, Attrs: map[string]string{"x": ""}},
		`attrs: "": needs`:       {Keys: url, Attrs: map[string]string{"": "x"}},
	} {
		_, err := Open(t.Context(), o)
		if err == nil || !strings.Contains(err.Error(), says) || strings.Contains(err.Error(), "s3cr3t") {
			t.Errorf("%v, want something with %q", err, says)
		}
	}
	for _, o := range []Options{
		{Keys: Keys{URL: "http://localhost:1/"}}, {Keys: Keys{URL: "http://[::1]/"}}, {Keys: Keys{URL: "http://127.1.2.3/"}},
	} {
		if err := o.check(); err != nil {
			t.Errorf("%s: %v", o.Keys.URL, err)
		}
	}
}

// TestPanicOfTheLoaderLeavesTheKeys: a bug in the code that reads the keys is a failed read,
// and the last valid keys stay in effect.
func TestPanicOfTheLoaderLeavesTheKeys(t *testing.T) {
	set := named(t, "k1", keyring().p256.Public())
	calls := 0
	s := loaded(t, strict(Keys{URL: "https://issuer.test"}), func(context.Context) (document, error) {
		if calls++; calls > 1 {
			panic("key-in-the-value")
		}
		return document{content: set}, nil
	})
	err := s.Reload(t.Context())
	if err == nil || strings.Contains(err.Error(), "key-in-the-value") || s.Stats().Keys != 1 {
		t.Errorf("Reload = %v, and there are %d keys", err, s.Stats().Keys)
	}
}
