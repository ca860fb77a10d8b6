package tokenpostgres

import (
	"crypto/sha256"
	"encoding/hex"
	"slices"

	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/authz"
	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/authz/internal/strictjson"
)

// withdrawn returns what the payload of a notification withdraws. It reports false if that is
// not known, because the payload names nothing or cannot be read, or because a name in it does
// not lead to the grants of the query.
func (s *Source) withdrawn(payload string) ([]authz.Revocation, bool) {
	o, err := strictjson.Parse([]byte(payload))
	if err != nil || len(o) != 1 {
		return nil, false
	}
	name, ok := strictjson.Name(o[0].Value)
	if !ok || name == "" {
		return nil, false
	}
	switch o[0].Key {
	case "subject":
		return []authz.Revocation{{Subject: name}}, true
	case "token_id":
		return []authz.Revocation{{TokenID: name}}, true
	case "token_sha256":
		return s.withdrawnToken(name)
	case "username":
		return s.withdrawnUser(name)
	}
	return nil, false
}

// withdrawnToken returns the revocation of a token by its digest in hexadecimal digits.
func (s *Source) withdrawnToken(digest string) ([]authz.Revocation, bool) {
	hash, err := hex.DecodeString(digest)
	if err != nil || len(hash) != sha256.Size || [sha256.Size]byte(hash) == [sha256.Size]byte{} || s.Takes()&authz.Tokens == 0 {
		return nil, false
	}
	return []authz.Revocation{{TokenHash: [sha256.Size]byte(hash)}}, true
}

// withdrawnUser returns the revocation of the pairs of a user. Their grants have the user name
// as the token id or as the subject, unless the row has names of its own.
func (s *Source) withdrawnUser(name string) ([]authz.Revocation, bool) {
	described := s.statement.Load()
	if described == nil || s.Takes() != authz.Pairs || !s.query.uses(paramUsername) {
		return nil, false
	}
	switch {
	case !slices.Contains(described.fields, "token_id"):
		return []authz.Revocation{{TokenID: tokenIDOf(name)}}, true
	case !slices.Contains(described.fields, "subject"):
		return []authz.Revocation{{Subject: name}}, true
	}
	return nil, false
}
