package tokenjwt

import (
	"bytes"
	"crypto/x509"
	"encoding/base64"
	"encoding/pem"
	"errors"
	"fmt"
	"strings"

	"github.com/go-jose/go-jose/v4"
)

// parsePEM parses public keys. All of them must be valid, because each was put into the file on
// purpose.
func parsePEM(content []byte, allowed []jose.SignatureAlgorithm) (*keySet, error) {
	set := &keySet{}
	for rest := content; len(bytes.TrimSpace(rest)) > 0; {
		var block *pem.Block
		if block, rest = pem.Decode(rest); block == nil {
			return nil, errors.New(`not PEM, or something after it; write "-----BEGIN PUBLIC KEY-----" and so on`)
		}
		k, err := publicKey(block)
		if err == nil {
			err = k.narrow(allowed)
		}
		if err != nil {
			return nil, fmt.Errorf("key %d: %w", len(set.keys)+1, err)
		}
		set.keys = append(set.keys, k)
	}
	switch n := len(set.keys); {
	case n == 0:
		return nil, errors.New("empty")
	case n > maxTries: // they have no ids, so each is tried
		return nil, fmt.Errorf("%d keys; at most %d can be tried; use a JWK Set", n, maxTries)
	}
	return set, nil
}

func publicKey(block *pem.Block) (k key, err error) {
	switch {
	case block.Type == "PUBLIC KEY":
		k.material, err = x509.ParsePKIXPublicKey(block.Bytes)
	case block.Type == "RSA PUBLIC KEY":
		k.material, err = x509.ParsePKCS1PublicKey(block.Bytes)
	case strings.HasSuffix(block.Type, "PRIVATE KEY"):
		return k, errors.New("a private key; write the public one with: openssl pkey -pubout")
	case block.Type == "CERTIFICATE":
		return k, errors.New("a certificate; write its key with: openssl x509 -noout -pubkey")
	default:
		return k, errors.New("not a public key")
	}
	if err != nil {
		return k, errors.New("not a valid public key")
	}
	k.algorithms, err = algorithmsOf(k.material)
	return k, err
}

// parseSecret parses the key of an HMAC, which must be at least as long as the hash (RFC 7518
// section 3.2).
func parseSecret(content []byte, allowed []jose.SignatureAlgorithm) (*keySet, error) {
	secret := content
	if line, ok := bytes.CutSuffix(content, []byte("\n")); ok {
		secret = bytes.TrimSuffix(line, []byte("\r"))
	}
	if encoded, ok := bytes.CutPrefix(secret, []byte("base64:")); ok {
		decoded, err := base64.StdEncoding.Strict().DecodeString(string(encoded))
		if err != nil {
			return nil, errors.New("the text after base64: is not standard base64 with padding")
		}
		secret = decoded
	}
	// If a public key were used as the secret, anyone could sign tokens.
	if block, _ := pem.Decode(secret); block != nil {
		return nil, errors.New("a key in PEM is not a secret; name it as the PEM file")
	}
	k := key{material: bytes.Clone(secret)}
	for _, hash := range []struct {
		alg  jose.SignatureAlgorithm
		size int
	}{{jose.HS256, 32}, {jose.HS384, 48}, {jose.HS512, 64}} {
		if len(secret) >= hash.size {
			k.algorithms = append(k.algorithms, hash.alg)
		}
	}
	if len(k.algorithms) == 0 {
		return nil, fmt.Errorf("a secret of %d bytes; use at least 32", len(secret))
	}
	return &keySet{keys: []key{k}}, k.narrow(allowed)
}
