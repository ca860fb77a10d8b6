package passwordhash

import (
	"errors"
	"fmt"
	"strings"
	"unicode"

	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/authz"
)

// Hash is a stored hash of a password. [Parse] returns one; the zero Hash matches no password.
// Package fmt prints no part of the stored hash.
type Hash struct {
	// The interface contains a pointer, which package fmt does not follow.
	scheme scheme
}

// scheme is an algorithm with the parameters, the salt and the digest of one hash.
type scheme interface {
	// matches computes the hash of a password and compares.
	matches(password string) (bool, error)
	cost() cost
}

// cost is the time and memory of a check.
type cost struct {
	processors int
	memory     int64 // in bytes
}

// maxText is the length of the longest hash that is parsed, in bytes.
const maxText = 1024

// Parse reads a stored hash. Its error says what is wrong without repeating any of it.
func Parse(text string) (Hash, error) {
	if len(text) > maxText {
		return Hash{}, fmt.Errorf("a hash of more than %d bytes", maxText)
	}
	if strings.ContainsFunc(text, unicode.IsControl) { // base64 ignores line ends
		return Hash{}, errors.New("a hash with control characters")
	}
	for _, f := range []struct {
		prefix string
		parse  func(rest string) (scheme, error)
	}{
		{"$7$", parseMosquittoPBKDF2}, {"$6$", parseMosquittoSHA512},
		{"$2a$", parseBcrypt}, {"$2b$", parseBcrypt}, {"$2y$", parseBcrypt},
		{"$argon2id$", parseArgon2id},
		{"PBKDF2$", parseGoAuth}, {"$pbkdf2-sha512$", parsePHC512},
		{"$pbkdf2-sha256$", func(rest string) (scheme, error) { return parsePasslib(true, rest) }},
		{"$sha256$", func(rest string) (scheme, error) { return parseSalted(false, rest) }},
		{"$sha512$", func(rest string) (scheme, error) { return parseSalted(true, rest) }},
	} {
		rest, ok := strings.CutPrefix(text, f.prefix)
		if !ok {
			continue
		}
		if f.prefix[1] == '2' {
			rest = text // bcrypt reads the version too
		}
		s, err := f.parse(rest)
		if err != nil {
			return Hash{}, err
		}
		return Hash{s}, nil
	}
	return Hash{}, unsupported(text)
}

const supported = "supported are PBKDF2 ($7$, PBKDF2$sha512$, PBKDF2$sha256$, $pbkdf2-sha512$, $pbkdf2-sha256$), " +
	"SHA-512 of Mosquitto ($6$), salted SHA-256 and SHA-512 ($sha256$salt=, $sha512$salt=), bcrypt ($2a$, $2b$, $2y$) and argon2id"

// unsupported returns the error for a hash of another algorithm.
func unsupported(text string) error {
	for _, known := range []struct{ prefix, name string }{
		{"$apr1$", "MD5 of Apache ($apr1$)"}, {"$1$", "MD5 ($1$)"}, {"$5$", "SHA-256 crypt ($5$)"},
		{"{SHA}", "SHA-1 ({SHA})"}, {"{SSHA}", "SHA-1 ({SSHA})"}, {"$2x$", "the faulty bcrypt of old PHP ($2x$)"},
		{"$argon2i$", "argon2i"}, {"$argon2d$", "argon2d"}, {"$y$", "yescrypt ($y$)"}, {"$scrypt$", "scrypt"},
		{"$pbkdf2$", "PBKDF2 with SHA-1 ($pbkdf2$)"},
	} {
		if strings.HasPrefix(text, known.prefix) {
			return fmt.Errorf("%s is not supported; %s", known.name, supported)
		}
	}
	return errors.New("not a hash of a known form, perhaps a password in plain text or a hash of crypt; " + supported)
}

// Matches computes the hash of the password, which may take more than a second and 128 MiB, and
// reports whether it is h. An error means that the hash could not be computed. [Workers.Check]
// bounds how many calls run at once.
func (h Hash) Matches(password authz.Token) (bool, error) {
	text := password.Reveal()
	if h.scheme == nil || strings.IndexByte(text, 0) >= 0 {
		return false, nil
	}
	return h.scheme.matches(text)
}
