package authz

import (
	"crypto/sha256"
	"crypto/subtle"
	"encoding/hex"
	"fmt"
	"log/slog"
)

// Token is a secret of a device or for a broker: an access token or a password. The zero Token
// means that there is none. It differs from a Token with the empty string; see [Token.IsZero].
//
// However it is printed, marshaled or logged, the output is its [Token.Fingerprint]. Compare
// tokens with [Token.Equal], which runs in constant time; == reports only whether one is a copy
// of the other.
type Token struct {
	// The secret is behind a pointer because fmt calls no methods on a token in an unexported
	// field, or for an unknown verb. It then prints the memory, but does not follow pointers
	// below the top level.
	secret *string
}

var (
	_ fmt.Formatter  = Token{}
	_ slog.LogValuer = Token{}
)

// NewToken returns a Token with the secret, which may contain any bytes.
func NewToken(secret string) Token { return Token{secret: &secret} }

// IsZero reports whether there is no token at all.
func (t Token) IsZero() bool { return t.secret == nil }

// Empty reports whether the token has no bytes or there is none.
func (t Token) Empty() bool { return t.Reveal() == "" }

// Reveal returns the secret. The result may be sent over the network or hashed, but must not
// get into a log, an error, a metric or a test's output.
func (t Token) Reveal() string {
	if t.secret == nil {
		return ""
	}
	return *t.secret
}

// Hash returns the SHA-256 digest of the secret, the form in which tokens are
// stored and revoked ([Revocation.TokenHash]).
func (t Token) Hash() [sha256.Size]byte { return sha256.Sum256([]byte(t.Reveal())) }

// Equal reports whether both tokens hold the same secret, in constant time for
// secrets of equal length.
func (t Token) Equal(o Token) bool {
	return t.IsZero() == o.IsZero() && subtle.ConstantTimeCompare([]byte(t.Reveal()), []byte(o.Reveal())) == 1
}

// Fingerprint returns the first eight hexadecimal digits of [Token.Hash], or "none" if there is
// no token. It is the same in every process, so a log line can be matched with an entry of a
// token file. Thirty-two bits are enough to find an entry, but too few to verify guesses of a
// weak secret.
func (t Token) Fingerprint() string {
	if t.IsZero() {
		return "none"
	}
	return FingerprintOf(t.Hash())
}

// FingerprintOf returns the fingerprint of the token whose SHA-256 digest is
// hash.
func FingerprintOf(hash [sha256.Size]byte) string { return hex.EncodeToString(hash[:4]) }

// String returns the fingerprint.
func (t Token) String() string { return t.Fingerprint() }

// GoString returns the fingerprint.
func (t Token) GoString() string { return "authz.Token(" + t.Fingerprint() + ")" }

// Format prints the fingerprint for every verb, including those that a String method does not
// cover, such as %d.
func (t Token) Format(s fmt.State, verb rune) {
	if verb == 'v' && s.Flag('#') {
		_, _ = s.Write([]byte(t.GoString()))
		return
	}
	_, _ = s.Write([]byte(t.Fingerprint()))
}

// LogValue returns the fingerprint.
func (t Token) LogValue() slog.Value { return slog.StringValue(t.Fingerprint()) }

// MarshalText returns the fingerprint; it also serves as a map key in JSON.
func (t Token) MarshalText() ([]byte, error) { return []byte(t.Fingerprint()), nil }

// MarshalJSON returns the fingerprint as a JSON string.
func (t Token) MarshalJSON() ([]byte, error) { return []byte(`"` + t.Fingerprint() + `"`), nil }
