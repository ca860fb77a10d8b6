package tokenpostgres

import (
	"crypto/sha256"
	"encoding/hex"
	"slices"

	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/authz"
	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/authz/internal/strictjson"
)

// withdrawal is what a notification says.
type withdrawal struct {
	authz.Revocation
	// altered means that what the token with the id TokenID allows, or its expiry, has changed, and
	// that it may still be valid.
	altered bool
}

// withdrawn returns what the payload of a notification withdraws. It reports false if that is
// not known, because the payload names nothing or cannot be read, or because a name in it does
// not lead to the grants of the query.
func (s *Source) withdrawn(payload string) (w withdrawal, known bool) {
	o, err := strictjson.Parse([]byte(payload))
	if err != nil || len(o) != 1 {
		return w, false
	}
	name, ok := strictjson.Name(o[0].Value)
	if !ok || name == "" {
		return w, false
	}
	switch o[0].Key {
	case "subject":
		w.Subject = name
	case "token_id":
		w.TokenID = name
	case "altered": // of the triggers of the schema
		w.TokenID, w.altered = name, true
		return w, s.query.schema
	case "token_sha256":
		w.TokenHash, ok = s.withdrawnToken(name)
	case "username":
		w.Revocation, ok = s.withdrawnUser(name)
	default:
		return w, false
	}
	return w, ok
}

// withdrawnToken returns the digest of a token from its hexadecimal digits.
func (s *Source) withdrawnToken(digits string) (hash [sha256.Size]byte, ok bool) {
	n, err := hex.Decode(hash[:], []byte(digits[:min(len(digits), hex.EncodedLen(sha256.Size))]))
	ok = err == nil && n == sha256.Size && len(digits) == hex.EncodedLen(n)
	return hash, ok && hash != [sha256.Size]byte{} && s.Takes()&authz.Tokens != 0
}

// withdrawnUser returns the revocation of the pairs of a user. Their grants have the user name
// as the token id or as the subject, unless the row has names of its own.
func (s *Source) withdrawnUser(name string) (r authz.Revocation, ok bool) {
	described := s.statement.Load()
	if described == nil || s.Takes() != authz.Pairs || !s.query.uses(paramUsername) {
		return r, false
	}
	switch {
	case !slices.Contains(described.fields, "token_id"):
		return authz.Revocation{TokenID: tokenIDOf(name)}, true
	case !slices.Contains(described.fields, "subject"):
		return authz.Revocation{Subject: name}, true
	}
	return r, false
}
