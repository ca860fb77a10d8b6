package authz

import "crypto/sha256"

// Pair is the user name and the password of a CONNECT as one credential, and the client
// identifier with them. The zero Pair means that the device did not send a password, or
// neither a user name nor a client identifier.
//
// Unlike the fields of a [Request], those of its Pair are what the device sent, whichever
// of them is the token.
type Pair struct {
	ClientID, Username string
	Password           Token
}

// IsZero reports whether there is no pair.
func (p Pair) IsZero() bool { return p.Password.Empty() || p.Username == "" && p.ClientID == "" }

// PairHash returns the digest that takes the place of a token's in a [Grant] that was given
// for a pair: that of the user name and the hash of the password as the source stores it.
// It changes whenever the password does. Without the stored hash, guesses of the password
// cannot be tested against it.
func PairHash(username, stored string) [sha256.Size]byte {
	return sha256.Sum256([]byte("pair\x00" + username + "\x00" + stored))
}

// Credentials is a set of what a device may show.
type Credentials uint8

// What may be in a set of [Credentials].
const (
	// Tokens is [Request.Token].
	Tokens Credentials = 1 << iota
	// Pairs is [Request.Pair].
	Pairs
)

// Taker is implemented by an [Authorizer] that looks at something else than the token
// alone. Takes may change its answer at any time, for example when a file gets its first
// pair.
type Taker interface {
	Takes() Credentials
}

// Takes returns what a looks at. An Authorizer that is no [Taker] looks at tokens.
func Takes(a Authorizer) Credentials {
	if t, ok := a.(Taker); ok {
		return t.Takes()
	}
	return Tokens
}

// only returns the request without the credentials that are not in c. It reports false if
// none is left.
func (r Request) only(c Credentials) (Request, bool) {
	if c&Tokens == 0 {
		r.Token = Token{}
	}
	if c&Pairs == 0 || r.Pair.IsZero() {
		r.Pair = Pair{}
	}
	return r, !r.Token.IsZero() || !r.Pair.IsZero()
}
