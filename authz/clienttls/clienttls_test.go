package clienttls_test

import (
	"bytes"
	"crypto/x509"
	"encoding/pem"
	"slices"
	"strings"
	"testing"

	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/authz/certtest"
	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/authz/clienttls"
)

// TestRootsAreReadWholeOrRefused: an authority that cannot be read is not left out silently.
func TestRootsAreReadWholeOrRefused(t *testing.T) {
	ca, other := certtest.Authority("ca"), certtest.Authority("other")
	junk := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: []byte("junk")})
	for name, c := range map[string]struct {
		content []byte
		says    string
	}{
		"one":           {ca.PEM(), ""},
		"two":           {slices.Concat(ca.PEM(), other.PEM()), ""},
		"with a key":    {slices.Concat(ca.KeyPEM(), ca.PEM()), ""},
		"a key alone":   {ca.KeyPEM(), "no certificate in it"},
		"nothing":       {nil, "no certificate in it"},
		"one in a row":  {slices.Concat(ca.PEM(), junk, other.PEM()), "certificate number 2"},
		"junk, not PEM": {[]byte("junk"), "no certificate in it"},
	} {
		roots, err := clienttls.Roots(c.content)
		if c.says != "" {
			if err == nil || roots != nil || !strings.Contains(err.Error(), c.says) {
				t.Errorf("%s: %v, want %q", name, err, c.says)
			}
			continue
		}
		if err != nil {
			t.Errorf("%s: %v", name, err)
		} else if _, err := ca.Verify(x509.VerifyOptions{Roots: roots}); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestKeyPairBelongsTogether(t *testing.T) {
	own, other := certtest.Authority("own"), certtest.Authority("other")
	encrypted := pem.EncodeToMemory(&pem.Block{Type: "ENCRYPTED PRIVATE KEY", Bytes: []byte("junk")})
	for name, c := range map[string]struct {
		certificate, key []byte
		says             string
	}{
		"a pair":           {own.PEM(), own.KeyPEM(), ""},
		"another's key":    {own.PEM(), other.KeyPEM(), "does not match"},
		"switched":         {own.KeyPEM(), own.PEM(), "switched"},
		"an encrypted key": {own.PEM(), encrypted, "without a passphrase"},
		"nothing":          {nil, nil, "not a certificate and its key"},
	} {
		pair, err := clienttls.KeyPair(c.certificate, c.key)
		if c.says != "" {
			if err == nil || !strings.Contains(err.Error(), c.says) {
				t.Errorf("%s: %v, want %q", name, err, c.says)
			}
			continue
		}
		if err != nil || !bytes.Equal(pair.Certificate[0], own.Raw) {
			t.Errorf("%s: %v", name, err)
		}
	}
}
