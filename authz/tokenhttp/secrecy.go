package tokenhttp

import (
	"encoding/base64"
	"encoding/hex"
	"net/url"
	"strings"

	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/authz"
)

const (
	// shortSecret is the length in bytes below which a secret may occur in a text by chance.
	shortSecret = 4
	// secretEnd is how much of a secret's beginning or end counts as the secret.
	secretEnd = 8
)

// repeats reports whether text, which comes from the service, contains one of the request's
// secrets, its beginning or its end, in plain text or in a common encoding.
func repeats(text string, r *authz.Request) bool {
	return holds(text, r.Token.Reveal()) || holds(text, r.Password.Reveal())
}

func holds(text, secret string) bool {
	if len(secret) < shortSecret || text == "" {
		return false
	}
	ends := []string{secret}
	if len(secret) > 2*secretEnd {
		ends = []string{secret[:secretEnd], secret[len(secret)-secretEnd:]}
	}
	for _, end := range ends {
		if strings.Contains(text, end) || strings.Contains(text, url.QueryEscape(end)) ||
			strings.Contains(text, url.PathEscape(end)) ||
			strings.Contains(strings.ToLower(text), hex.EncodeToString([]byte(end))) {
			return true
		}
	}
	// Base64 writes three bytes as four, so the encoding of a prefix of whole triples does not
	// depend on what follows it.
	head := []byte(ends[0])[:len(ends[0])/3*3]
	return strings.Contains(text, base64.StdEncoding.EncodeToString(head)) ||
		strings.Contains(text, base64.URLEncoding.EncodeToString(head))
}

// contains reports whether text contains the complete token. A part of it is allowed, because
// tokens often begin with the name of their device.
func contains(text string, token authz.Token) bool {
	return len(token.Reveal()) >= shortSecret && strings.Contains(text, token.Reveal())
}
