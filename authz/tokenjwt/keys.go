package tokenjwt

import (
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rsa"
	"encoding/json"
	"errors"
	"fmt"
	"slices"

	"github.com/go-jose/go-jose/v4"

	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/authz/internal/strictjson"
)

// ed25519Name is the newer name of EdDSA with a key of Ed25519 (RFC 9864 section 2.2).
// The JOSE library does not know it.
const ed25519Name = jose.SignatureAlgorithm("Ed25519")

const (
	maxKeys  = 64 // usable ones in a set
	maxTries = 16 // keys for one token
)

// key is a key for verifying tokens.
type key struct {
	id         string // empty if it has none
	algorithms []jose.SignatureAlgorithm
	material   any // *rsa.PublicKey, *ecdsa.PublicKey, ed25519.PublicKey or []byte
}

// keySet has the keys from one read. It is immutable.
type keySet struct {
	keys     []key
	ignored  int               // keys that cannot be used
	unusable map[string]string // why, by the id of the key
}

// verdict is the result of checking a signature with a set of keys.
type verdict int

const (
	noKey    verdict = iota // it has no key that could have signed the token
	noneFits                // none of the keys that were tried verifies it
	wrongKey                // the key that the token names does not verify it
	wrongAlg                // the key that the token names is for other algorithms
	badKey                  // the key that the token names cannot be used
	verified
)

// verify returns whether a key of the set verifies t.
func (s *keySet) verify(t *token) verdict {
	var fit []key
	named := false
	for _, k := range s.keys {
		exact := t.kid != "" && k.id == t.kid
		named = named || exact
		if (exact || k.id == "" || t.kid == "") && slices.Contains(k.algorithms, t.algorithm) {
			fit = append(fit, k)
		}
	}
	if named { // a key without an id is used only if no key has that id
		fit = slices.DeleteFunc(fit, func(k key) bool { return k.id != t.kid })
	}
	switch {
	case t.verifiedBy(fit[:min(len(fit), maxTries)]):
		return verified
	case named && len(fit) == 0:
		return wrongAlg
	case named:
		return wrongKey
	case len(fit) > 0:
		return noneFits
	case t.kid != "" && s.unusable[t.kid] != "":
		return badKey
	}
	return noKey
}

// ids returns the ids of the keys that have one.
func (s *keySet) ids() (all []string) {
	if s == nil {
		return nil
	}
	for _, k := range s.keys {
		if k.id != "" {
			all = append(all, k.id)
		}
	}
	return all
}

func rsaAlgorithms() []jose.SignatureAlgorithm {
	return []jose.SignatureAlgorithm{jose.RS256, jose.RS384, jose.RS512, jose.PS256, jose.PS384, jose.PS512}
}

// algorithmsOf returns the algorithms that a public key can be used with, by its type and size.
func algorithmsOf(material any) ([]jose.SignatureAlgorithm, error) {
	switch k := material.(type) {
	case *rsa.PublicKey:
		if bits := k.N.BitLen(); bits < 2048 || bits > 4096 {
			return nil, fmt.Errorf("an RSA key of %d bits; use 2048 to 4096", bits)
		}
		return rsaAlgorithms(), nil
	case *ecdsa.PublicKey:
		switch k.Curve {
		case elliptic.P256():
			return []jose.SignatureAlgorithm{jose.ES256}, nil
		case elliptic.P384():
			return []jose.SignatureAlgorithm{jose.ES384}, nil
		case elliptic.P521():
			return []jose.SignatureAlgorithm{jose.ES512}, nil
		}
	case ed25519.PublicKey:
		return []jose.SignatureAlgorithm{jose.EdDSA, ed25519Name}, nil
	}
	return nil, errors.New("a key of another type than RSA, EC P-256, P-384, P-521 and Ed25519")
}

// narrow keeps only those algorithms of k that are allowed.
func (k *key) narrow(allowed []jose.SignatureAlgorithm) error {
	k.algorithms = slices.DeleteFunc(k.algorithms, func(a jose.SignatureAlgorithm) bool { return !slices.Contains(allowed, a) })
	if len(k.algorithms) == 0 {
		return errors.New("a key for none of the allowed algorithms")
	}
	return nil
}

// parseJWKS parses a JWK Set (RFC 7517 section 5). A set without a usable key is an error: it
// is more likely a mistake than the intention to lock out all devices.
func parseJWKS(content []byte, allowed []jose.SignatureAlgorithm) (*keySet, error) {
	object, err := strictjson.Parse(content)
	if err != nil {
		return nil, fmt.Errorf("not a JWK Set: %w", err)
	}
	value, _ := object.Get("keys")
	members, ok := value.([]any)
	if !ok {
		return nil, errors.New(`not a JWK Set: it has no list "keys"`)
	}
	set, fault := &keySet{unusable: map[string]string{}}, errors.New("the list is empty")
	for i, member := range members {
		k, err := parseJWK(member, allowed)
		if err != nil {
			fault = fmt.Errorf("key %d: %w", i+1, err)
			set.ignored++
			if object, ok := member.(strictjson.Object); ok {
				id, _ := textOf(object, "kid")
				set.unusable[id] = err.Error()
			}
			continue
		}
		set.keys = append(set.keys, k)
	}
	switch {
	case len(set.keys) == 0:
		return nil, fmt.Errorf("no key to verify with: %w", fault)
	case len(set.keys) > maxKeys:
		return nil, fmt.Errorf("%d keys; at most %d are accepted", len(set.keys), maxKeys)
	}
	return set, nil
}

// parseJWK parses one member of a set. Its error never contains a value.
func parseJWK(member any, allowed []jose.SignatureAlgorithm) (key, error) {
	object, ok := member.(strictjson.Object)
	if !ok {
		return key{}, errors.New("not a JSON object")
	}
	id, idOK := textOf(object, "kid")
	alg, algOK := textOf(object, "alg")
	use, useOK := textOf(object, "use")
	switch {
	case !idOK || !algOK || !useOK:
		return key{}, errors.New("kid, alg or use is not text")
	case use != "" && use != "sig" || !forVerifying(object):
		return key{}, errors.New("a key that is not for verifying signatures, by its use or key_ops")
	}
	for _, name := range []string{"k", "d", "p", "q", "dp", "dq", "qi", "oth", "priv"} {
		if _, ok := object.Get(name); ok {
			return key{}, errors.New("a secret or private key; publish public ones only, and replace this one")
		}
	}
	material, err := materialOf(object)
	if err != nil {
		return key{}, err
	}
	k := key{id: id, material: material}
	if k.algorithms, err = algorithmsOf(material); err != nil {
		return key{}, err
	}
	if alg != "" {
		only := []jose.SignatureAlgorithm{jose.SignatureAlgorithm(alg)}
		if only[0] == jose.EdDSA || only[0] == ed25519Name {
			only = []jose.SignatureAlgorithm{jose.EdDSA, ed25519Name} // two names of one algorithm
		}
		if err := k.narrow(only); err != nil {
			return key{}, errors.New("a key whose alg does not go with its type")
		}
	}
	return k, k.narrow(allowed)
}

// forVerifying reports whether key_ops is absent or contains "verify".
func forVerifying(object strictjson.Object) bool {
	value, present := object.Get("key_ops")
	operations, _ := value.([]any)
	return !present || slices.Contains(operations, any("verify"))
}

// materialOf lets the JOSE library parse only the public members, because it refuses keys for
// the content of their certificates, which are not used here.
func materialOf(object strictjson.Object) (any, error) {
	public := map[string]string{}
	for _, name := range []string{"kty", "crv", "x", "y", "n", "e"} {
		if text, ok := textOf(object, name); ok && text != "" {
			public[name] = text
		}
	}
	raw, err := json.Marshal(public)
	if err != nil {
		return nil, errors.New("not a valid key")
	}
	var jwk jose.JSONWebKey
	if jwk.UnmarshalJSON(raw) != nil || !jwk.Valid() {
		return nil, errors.New("a key of a type that is not known, too large, or not valid")
	}
	return jwk.Key, nil
}
