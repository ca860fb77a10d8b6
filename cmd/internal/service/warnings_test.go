package service

import (
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/authz/certtest"
	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/cmd/internal/config"
)

// pair writes a certificate and its key and returns their paths.
func pair(t *testing.T, name string, key crypto.Signer) (certificate, private string) {
	t.Helper()
	dir := t.TempDir()
	certificate, private = filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem")
	writeCertificate(t, certtest.SelfSignedWith(key, &x509.Certificate{DNSNames: []string{name}}), certificate, private)
	return certificate, private
}

func TestCheckAdvisesAgainstRSA(t *testing.T) {
	slow, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	for name, tt := range map[string]struct {
		key  crypto.Signer
		want int
	}{"rsa": {slow, 1}, "ecdsa": {certtest.NewKey(), 0}} {
		certificate, private := pair(t, name, tt.key)
		path := filepath.Join(t.TempDir(), "proxy.yaml")
		text := "data: " + t.TempDir() + "\nlisteners:\n  - address: 127.0.0.1:8883\n    tls: {certificate: " + certificate + ", key: " + private + "}\n"
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		c, err := config.Load(config.Options{Path: path})
		if err != nil {
			t.Fatal(err)
		}
		var told strings.Builder
		for _, w := range Warnings(c) {
			fmt.Fprintln(&told, w)
		}
		if n := strings.Count(told.String(), path+":4: listeners[0].tls.certificate: "+rsaAdvice); n != tt.want {
			t.Errorf("%s: %d warnings, want %d:\n%s", name, n, tt.want, &told)
		}
	}
}

// TestCheckWarnsOfPoolers: where notifications are to be heard.
func TestCheckWarnsOfPoolers(t *testing.T) {
	dir := t.TempDir()
	for name, text := range map[string]string{
		"pooler": "postgres://proxy@127.0.0.1:6432/fleet", "direct": "postgres://proxy@127.0.0.1:5432/fleet", "secret": strings.Repeat("s", 32),
	} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	const query = "query: 'SELECT password_hash FROM users WHERE username = @username'"
	for text, want := range map[string]string{
		"replicas: {bus: postgres, secret_file: secret, dsn_file: pooler}":                                            "replicas.dsn_file",
		"replicas: {bus: postgres, secret_file: secret, dsn_file: direct}":                                            "",
		"auth: {sources: [{postgres: {dsn_file: pooler}}]}":                                                           "auth.sources[0].postgres.listen_dsn_file",
		"auth: {sources: [{postgres: {dsn_file: pooler, listen_dsn_file: direct}}]}":                                  "",
		"auth: {sources: [{postgres: {dsn_file: direct, listen_dsn_file: pooler}}]}":                                  "auth.sources[0].postgres.listen_dsn_file",
		"auth: {sources: [{postgres: {dsn_file: pooler, " + query + "}}]}":                                            "",
		"auth: {sources: [{postgres: {dsn_file: pooler, " + query + ", notify: tokens, prepared_statements: true}}]}": "auth.sources[0].postgres.listen_dsn_file",
	} {
		path := filepath.Join(dir, "proxy.yaml")
		if err := os.WriteFile(path, []byte("data: data\n"+text+"\n"), 0o600); err != nil {
			t.Fatal(err)
		}
		c, err := config.Load(config.Options{Path: path})
		if err != nil {
			t.Fatal(err)
		}
		var told []string
		for _, w := range Warnings(c) {
			if strings.Contains(w.String(), "port 6432") {
				told = append(told, w.String())
			}
		}
		if want == "" && told != nil || want != "" && (len(told) != 1 || !strings.Contains(told[0], "proxy.yaml:2: "+want+": ")) {
			t.Errorf("%s: warnings %q, want one about %q", text, told, want)
		}
	}
}

func TestExposed(t *testing.T) {
	for address, want := range map[string]bool{
		":1883": true, "0.0.0.0:1883": true, "[::]:1883": true, "203.0.113.7:1883": true, "[2001:db8::1]:1883": true,
		"127.0.0.1:1883": false, "[::1]:1883": false, "localhost:1883": false, "10.1.2.3:1883": false, "192.168.1.1:1883": false,
		"[fd00::1]:1883": false, "[::ffff:10.0.0.1]:1883": false, "broker.internal:1883": false, "systemd:mqtt": false,
	} {
		if got := exposed(address); got != want {
			t.Errorf("%s: %v, want %v", address, got, want)
		}
	}
}

func TestWarnings(t *testing.T) {
	dir := t.TempDir()
	write := func(name, text string, mode os.FileMode) {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), mode); err != nil {
			t.Fatal(err)
		}
		if err := os.Chmod(filepath.Join(dir, name), mode); err != nil {
			t.Fatal(err)
		}
	}
	write("proxy.yaml", `
listeners: [{address: ":1883"}, {address: ":8884", proxy_protocol: {trusted: [10.0.0.0/8]}}, {address: ":8883", tls: {certificate: a.pem, key: a-key.pem}}]
admin: {address: ":9883", push_secret_file: push}
`, 0o600)
	write("a.pem", "x", 0o644)
	write("a-key.pem", "x", 0o644)
	write("push", "x", 0o600)
	c, err := config.Load(config.Options{Path: filepath.Join(dir, "proxy.yaml")})
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, w := range warnings(c) {
		got = append(got, w.Key)
	}
	if want := []string{"listeners[0].address", "admin.address", "listeners[2].tls.key"}; !slices.Equal(got, want) {
		t.Errorf("warned about %q, want %q", got, want)
	}
}

// TestEveryFileIsSecretOrPublic: a key of a file that is new is named like a secret, see
// [secret], or it is listed here. Otherwise nothing would warn if everyone may read the file.
func TestEveryFileIsSecretOrPublic(t *testing.T) {
	public := map[string]bool{
		"listeners[].tls.certificate": true, "listeners[].tls.certificates[].certificate": true,
		"admin.tls.certificate": true, "listeners[].tls.client_ca": true, "listeners[].tls.client_crl": true,
		"auth.sources[].http.tls.ca": true, "auth.sources[].http.tls.certificate": true,
		"auth.sources[].jwt.tls.ca": true, "auth.sources[].jwt.tls.certificate": true,
		"auth.sources[].jwt.jwks_file": true, "auth.sources[].jwt.public_key_file": true,
		"upstream.tls.ca": true, "upstream.tls.certificate": true,
		"hooks.tls.ca": true, "hooks.tls.certificate": true,
		// Packages check the mode of these themselves, or make them.
		"auth.sources[].file.path": true, "upstream.password_file": true, "upstream.health.password_file": true,
		"data": true, "telemetry.path": true,
	}
	for _, k := range config.Keys() {
		isFile := k.Type == "path" || strings.HasPrefix(k.Type, "data ")
		if isFile && secret(k.Path) == public[k.Path] {
			t.Errorf("%s: taken for a secret: %v, listed as another file: %v", k.Path, secret(k.Path), public[k.Path])
		}
	}
}

// TestWarningsAboutTheMap: a rule that never decides is named with the one that comes before it.
func TestWarningsAboutTheMap(t *testing.T) {
	path := filepath.Join(t.TempDir(), "proxy.yaml")
	text := `
upstream: {servers: ["tcp://127.0.0.1"]}
topics:
  preset: thingsboard
  map:
    - {device: "v2/#", broker: "short/${subject}/#"}
    - {device: "v2/x", broker: "x/${subject}"}
    - {device: "all", broker: "all"}
`
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	c, err := config.Load(config.Options{Path: path})
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, w := range topicWarnings(c) {
		got = append(got, w.String())
	}
	if len(got) != 2 || !strings.Contains(got[0], ":8: topics.map[2]: has no ${subject}") || !strings.Contains(got[1], ":7: topics.map[1]: never decides, because topics.map[0]") {
		t.Errorf("warnings %q", got)
	}
}
