package passwordhash

import (
	"crypto/sha256"
	"crypto/sha512"
	"crypto/subtle"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"strings"
)

// saltedHash is one round of SHA-256 or SHA-512 over the password and a salt, which may be empty.
type saltedHash struct {
	sha512 bool // instead of SHA-256
	before bool // the salt stands before the password
	salt   []byte
	digest []byte
}

// parseSalted parses salt=prefix$SALT$HASH or salt=suffix$SALT$HASH, in base64 without padding.
func parseSalted(sha512Hash bool, rest string) (scheme, error) {
	parts := strings.Split(rest, "$")
	if len(parts) != 3 || parts[0] != "salt=prefix" && parts[0] != "salt=suffix" {
		return nil, errors.New("$sha256$ and $sha512$ must be followed by salt=prefix or salt=suffix, salt and hash with $ between them")
	}
	h := &saltedHash{sha512: sha512Hash, before: parts[0] == "salt=prefix"}
	var err error
	if h.salt, err = base64.RawStdEncoding.Strict().DecodeString(parts[1]); err != nil {
		return nil, errors.New("the salt is not base64")
	}
	if h.digest, err = decodeDigest(base64.RawStdEncoding, parts[2]); err != nil {
		return nil, err
	}
	if len(h.digest) != h.size() {
		return nil, fmt.Errorf("the hash has %d bytes; it must have %d", len(h.digest), h.size())
	}
	return h, nil
}

func (s *saltedHash) size() int {
	if s.sha512 {
		return sha512.Size
	}
	return sha256.Size
}

func (s *saltedHash) matches(password string) (bool, error) {
	text := password + string(s.salt)
	if s.before {
		text = string(s.salt) + password
	}
	var digest []byte
	if s.sha512 {
		sum := sha512.Sum512([]byte(text))
		digest = sum[:]
	} else {
		sum := sha256.Sum256([]byte(text))
		digest = sum[:]
	}
	return subtle.ConstantTimeCompare(digest, s.digest) == 1, nil
}

func (s *saltedHash) cost() cost { return cost{processors: 1} }

// Salted returns the text of a hash that is one round of sha256 or sha512, for [Parse]. The
// digest is in hexadecimal digits. The salt stands before the password or after it, and may be
// empty.
func Salted(algorithm, salt string, before bool, digest string) (string, error) {
	if algorithm != "sha256" && algorithm != "sha512" {
		return "", fmt.Errorf("one round of %s is not supported; only sha256 and sha512 are", algorithm)
	}
	sum, err := hex.DecodeString(digest)
	if err != nil {
		return "", errors.New("the hash is not hexadecimal")
	}
	position := "suffix"
	if before {
		position = "prefix"
	}
	encoding := base64.RawStdEncoding
	return checked(fmt.Sprintf("$%s$salt=%s$%s$%s", algorithm, position, encoding.EncodeToString([]byte(salt)), encoding.EncodeToString(sum)))
}

// PBKDF2 returns the text of a hash of PBKDF2 with sha256 or sha512, for [Parse]. The digest is in
// hexadecimal digits.
func PBKDF2(algorithm string, rounds int, salt, digest string) (string, error) {
	if algorithm != "sha256" && algorithm != "sha512" {
		return "", fmt.Errorf("PBKDF2 with %s is not supported; with sha256 and sha512 it is", algorithm)
	}
	sum, err := hex.DecodeString(digest)
	if err != nil {
		return "", errors.New("the hash is not hexadecimal")
	}
	text := func(b []byte) string { return strings.ReplaceAll(base64.RawStdEncoding.EncodeToString(b), "+", ".") }
	return checked(fmt.Sprintf("$pbkdf2-%s$%d$%s$%s", algorithm, rounds, text([]byte(salt)), text(sum)))
}

// checked returns text if it is the text of a hash.
func checked(text string) (string, error) {
	_, err := Parse(text)
	return text, err
}
