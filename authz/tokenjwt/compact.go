package tokenjwt

import (
	"crypto/ed25519"
	"encoding/base64"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/go-jose/go-jose/v4"

	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/authz/internal/strictjson"
)

// token is a parsed JWT. Nothing in it can be trusted before a key has verified it.
type token struct {
	signed    *jose.JSONWebSignature
	input     string // the signed text: header and claims in their original form
	algorithm jose.SignatureAlgorithm
	kid       string // empty if it names no key
	typ       string // in its original form
	claims    strictjson.Object
}

// The errors for texts that are not tokens of this source. Of the token they contain only the
// algorithm, the key id and the issuer, which are not secret.
var (
	errForm   = errors.New("not a signed JWT")
	errHeader = errors.New("a JWT whose header is not a JSON object, or has a key twice")
	errClaims = errors.New("a JWT whose claims are not a JSON object, or have a key twice")
)

// parse parses text. It does no work for a text that is not three parts of base64url.
func parse(text string, maxSize int, algorithms []jose.SignatureAlgorithm) (*token, error) {
	if len(text) > maxSize {
		return nil, fmt.Errorf("not a JWT of at most %d bytes", maxSize)
	}
	header, ok := split(text)
	if !ok {
		return nil, errForm
	}
	t := &token{input: text[:strings.LastIndexByte(text, '.')]}
	err := t.readHeader(header, algorithms)
	if err != nil {
		return nil, err
	}
	if t.signed, err = jose.ParseSignedCompact(text, []jose.SignatureAlgorithm{t.algorithm}); err != nil {
		return nil, errHeader // the cause contains the content of the header
	}
	// Verify checks the signature over these bytes, so what is read here is what was signed.
	if t.claims, err = strictjson.Parse(t.signed.UnsafePayloadWithoutVerification()); err != nil {
		return nil, errClaims
	}
	return t, nil
}

// split returns the header of text if text has the form of a compact JWS.
func split(text string) (header []byte, ok bool) {
	if strings.Count(text, ".") != 2 {
		return nil, false
	}
	for part := range strings.SplitSeq(text, ".") {
		if !canonical(part) {
			return nil, false
		}
	}
	header, err := base64.RawURLEncoding.DecodeString(text[:strings.IndexByte(text, '.')])
	return header, err == nil
}

// canonical reports whether part is not empty and is the only base64url form of its bytes.
// Decoders ignore line ends and unused bits at the end, so one token would have many forms.
func canonical(part string) bool {
	for i := range len(part) {
		if sextet(part[i]) < 0 {
			return false
		}
	}
	switch len(part) % 4 {
	case 0:
		return part != ""
	case 2:
		return sextet(part[len(part)-1])&0x0f == 0
	case 3:
		return sextet(part[len(part)-1])&0x03 == 0
	}
	return false
}

// sextet returns the value of c in base64url, or -1 (RFC 4648 section 5).
func sextet(c byte) int {
	switch {
	case 'A' <= c && c <= 'Z':
		return int(c - 'A')
	case 'a' <= c && c <= 'z':
		return int(c-'a') + 26
	case '0' <= c && c <= '9':
		return int(c-'0') + 52
	case c == '-':
		return 62
	case c == '_':
		return 63
	}
	return -1
}

// readHeader returns an error unless the header is acceptable. Members that refer to keys
// elsewhere (jku, x5u, x5c) are allowed but never followed.
func (t *token) readHeader(text []byte, algorithms []jose.SignatureAlgorithm) error {
	header, err := strictjson.Parse(text)
	if err != nil {
		return errHeader
	}
	// crit and b64 change how the rest is read; a token with its own key is a proof of
	// possession, not an access token; zip and enc belong to JWE.
	for _, name := range []string{"crit", "b64", "jwk", "zip", "enc"} {
		if _, ok := header.Get(name); ok {
			return fmt.Errorf("a JWT with %q in its header, which is not accepted", name)
		}
	}
	alg, algOK := textOf(header, "alg")
	kid, kidOK := textOf(header, "kid")
	typ, typOK := textOf(header, "typ")
	t.algorithm, t.kid, t.typ = jose.SignatureAlgorithm(alg), kid, typ
	switch {
	case !algOK || !kidOK || !typOK:
		return errors.New("a JWT whose alg, kid or typ is not text")
	case !slices.Contains(algorithms, t.algorithm):
		return fmt.Errorf("a JWT with algorithm %s, which is not accepted", quoted(alg))
	}
	return nil
}

// textOf returns the member, or "" if there is none. ok is false if it is not a string.
func textOf(object strictjson.Object, name string) (text string, ok bool) {
	value, present := object.Get(name)
	if !present {
		return "", true
	}
	text, ok = value.(string)
	return text, ok
}

// verifiedBy reports whether one of the keys verifies the token's signature.
func (t *token) verifiedBy(keys []key) bool {
	return slices.ContainsFunc(keys, func(k key) bool {
		if public, ok := k.material.(ed25519.PublicKey); ok && t.algorithm == ed25519Name {
			return ed25519.Verify(public, []byte(t.input), t.signed.Signatures[0].Signature)
		}
		_, err := t.signed.Verify(k.material)
		return err == nil
	})
}
