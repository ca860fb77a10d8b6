package certs

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"path/filepath"
	"strings"
	"testing"

	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/authz/certtest"
)

func TestParseErrors(t *testing.T) {
	root := newIssuer(t, "root")
	middle := root.subordinate(t, "middle")
	cert, key := middle.server(t, certtest.NewKey())
	_, otherKey := middle.server(t, certtest.NewKey())
	_, rsa := middle.server(t, rsaKey(t))
	middlePEM, rootPEM := certtest.PEM(middle.cert), certtest.PEM(root.cert)
	namesake := certtest.PEM(root.subordinate(t, "middle").cert)
	junk := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: []byte("junk")})
	junkKey := pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: []byte("junk")})
	sealed := pem.EncodeToMemory(&pem.Block{Type: "ENCRYPTED PRIVATE KEY", Bytes: []byte("junk")})
	sealedOld := pem.EncodeToMemory(&pem.Block{Type: "RSA PRIVATE KEY", Bytes: []byte("junk"),
		Headers: map[string]string{"Proc-Type": "4,ENCRYPTED", "DEK-Info": "AES-256-CBC,00"}})

	tests := []struct {
		name          string
		cert, key, ca []byte
		want          []string // file, what is wrong, what to do
	}{
		{"empty", nil, key, rootPEM, []string{"server.pem: ", "holds no certificate", "PEM form"}},
		{"key for certificate", key, key, rootPEM, []string{"server.pem: ", "holds no certificate"}},
		{"damaged base64", bytes.Replace(cert, []byte("MII"), []byte("M!I"), 1), key, rootPEM, []string{"server.pem: ", "cut off or damaged", "then reload"}},
		{"chain cut off", join(cert, middlePEM[:len(middlePEM)/2]), key, rootPEM, []string{"server.pem: ", "cut off or damaged"}},
		{"not a certificate", join(cert, junk), key, rootPEM, []string{"server.pem: certificate 2 cannot be parsed", "issued anew"}},
		{"no key", cert, cert, rootPEM, []string{"server-key.pem: ", "holds no private key", "put it there"}},
		{"key cut off", cert, key[:len(key)-5], rootPEM, []string{"server-key.pem: ", "cut off or damaged"}},
		{"encrypted key", cert, sealed, rootPEM, []string{"server-key.pem: ", "encrypted", "openssl pkey"}},
		{"encrypted old-style key", cert, sealedOld, rootPEM, []string{"server-key.pem: ", "encrypted", "openssl pkey"}},
		{"junk key", cert, junkKey, rootPEM, []string{"server.pem: certificate and key do not match", "server-key.pem", "failed to parse"}},
		{"another key", cert, otherKey, rootPEM, []string{"server.pem: certificate and key do not match", "server-key.pem", "write both files, then reload"}},
		{"key of another kind", cert, rsa, rootPEM, []string{"server.pem: certificate and key do not match", "type", "write both files, then reload"}},
		{"leaf last", join(middlePEM, cert), key, rootPEM, []string{"server.pem: certificate and key do not match", "certificate 2: put that one first"}},
		{"chain out of order", join(cert, rootPEM, middlePEM), key, rootPEM, []string{"server.pem: certificate 1 is not signed by certificate 2", "another issuer", "first, then its issuer"}},
		{"leaf twice", join(cert, cert), key, rootPEM, []string{"server.pem: certificate 1 is not signed by certificate 2"}},
		{"namesake of the issuer", join(cert, namesake), key, rootPEM, []string{"server.pem: certificate 1 is not signed by certificate 2", "verification failure"}},
		{"client authorities empty", cert, key, nil, []string{"devices.pem: ", "holds no certificate"}},
		{"client authorities cut off", cert, key, join(rootPEM, middlePEM[:99]), []string{"devices.pem: ", "cut off or damaged"}},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			dir := t.TempDir()
			f := Files{Certificate: filepath.Join(dir, "server.pem"), Key: filepath.Join(dir, "server-key.pem"), ClientCA: filepath.Join(dir, "devices.pem")}
			put(t, f.Certificate, test.cert)
			put(t, f.Key, test.key)
			put(t, f.ClientCA, test.ca)
			src, err := Load(f)
			if src != nil || err == nil {
				t.Fatalf("Load() = %v, %v", src, err)
			}
			for _, want := range test.want {
				if !strings.Contains(err.Error(), want) {
					t.Errorf("%v\nlacks %q", err, want)
				}
			}
			for line := range strings.Lines(string(test.key)) {
				if line = strings.TrimSpace(line); !strings.HasPrefix(line, "-----") && line != "" && strings.Contains(err.Error(), line) {
					t.Errorf("%v\nholds a line of the key", err)
				}
			}
		})
	}
}

// All forms that openssl writes by default must load.
func TestKeyForms(t *testing.T) {
	root := newIssuer(t, "root")
	ec, rsa := certtest.NewKey(), rsaKey(t)
	sec1, err := x509.MarshalECPrivateKey(ec)
	if err != nil {
		t.Fatal(err)
	}
	ecCert, _ := root.server(t, ec)
	rsaCert, _ := root.server(t, rsa)
	parameters := pem.EncodeToMemory(&pem.Block{Type: "EC PARAMETERS", Bytes: []byte{6, 8, 42, 134, 72, 206, 61, 3, 1, 7}})
	for name, files := range map[string][2][]byte{
		"SEC 1":  {ecCert, join(parameters, pem.EncodeToMemory(&pem.Block{Type: "EC PRIVATE KEY", Bytes: sec1}))},
		"PKCS 1": {rsaCert, pem.EncodeToMemory(&pem.Block{Type: "RSA PRIVATE KEY", Bytes: x509.MarshalPKCS1PrivateKey(rsa)})},
		"text":   {join([]byte("Certificate:\n  Data:\n"), ecCert), certtest.KeyPEM(ec)},
		"CRLF":   {bytes.ReplaceAll(ecCert, []byte("\n"), []byte("\r\n")), certtest.KeyPEM(ec)},
	} {
		if _, err := parseIdentity(Files{}, contents{pairs: []pairContents{{files[0], files[1]}}}); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func FuzzParseIdentity(f *testing.F) {
	root := newIssuer(f, "root")
	cert, key := root.server(f, certtest.NewKey())
	rootPEM := certtest.PEM(root.cert)
	f.Add(cert, key, rootPEM)
	f.Add(join(cert, rootPEM), join(cert, key), []byte(nil))
	f.Add(cert[:len(cert)/2], join([]byte("text\n"), key), rootPEM[:30])
	f.Add([]byte("-----BEGIN CERTIFICATE-----\n-----END CERTIFICATE-----\n"), []byte("-----BEGIN PRIVATE KEY-----\nMA==\n-----END PRIVATE KEY-----"), []byte("\x00"))
	f.Fuzz(func(t *testing.T, cert, key, ca []byte) {
		id, err := parseIdentity(Files{Certificate: "c", Key: "k", ClientCA: "a"}, contents{pairs: []pairContents{{cert, key}}, clientCA: ca})
		if (id == nil) == (err == nil) {
			t.Fatalf("neither or both: %v, %v", id, err)
		}
		if err != nil {
			return
		}
		if id.certificates[0].Leaf == nil || id.clientCAs.Equal(x509.NewCertPool()) {
			t.Error("accepted without a leaf or an authority")
		}
		if _, err := tls.X509KeyPair(cert, key); err != nil {
			t.Errorf("accepted what crypto/tls refuses: %v", err)
		}
	})
}

func join(parts ...[]byte) []byte { return bytes.Join(parts, nil) }
