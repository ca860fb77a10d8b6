package tokenfile

import (
	"crypto/rand"
	"errors"
	"hash/crc32"
	"strings"

	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/authz"
)

// A generated token is tokenPrefix, 32 random characters (190 bits) and a
// checksum of all that as 6 more. The prefix lets scanners find a token that
// leaked, and the checksum distinguishes a copying mistake from a revoked token.
const (
	tokenPrefix   = "map_"
	tokenRandom   = 32
	tokenChecksum = 6
	base62        = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
)

// generate returns a new token.
func generate() authz.Token {
	text := make([]byte, 0, len(tokenPrefix)+tokenRandom+tokenChecksum)
	text = append(text, tokenPrefix...)
	var random [64]byte
	for len(text) < len(tokenPrefix)+tokenRandom {
		_, _ = rand.Read(random[:]) // never fails
		for _, b := range random {
			// 248 is the largest multiple of 62: the rest would favour some digits.
			if b < 248 && len(text) < len(tokenPrefix)+tokenRandom {
				text = append(text, base62[b%62])
			}
		}
	}
	return authz.NewToken(string(text) + checksum(string(text)))
}

// checksum returns the CRC-32 (IEEE) of text as six base62 digits.
func checksum(text string) string {
	var digits [tokenChecksum]byte
	sum := crc32.ChecksumIEEE([]byte(text))
	for i := len(digits) - 1; i >= 0; i-- {
		digits[i] = base62[sum%62]
		sum /= 62
	}
	return string(digits[:])
}

// WellFormed reports whether token has the form and the checksum of those that
// [Create] makes. It is cheap, and does not check whether the token is good.
func WellFormed(token string) bool {
	body := len(tokenPrefix) + tokenRandom
	return strings.HasPrefix(token, tokenPrefix) && len(token) == body+tokenChecksum && checksum(token[:body]) == token[body:]
}

// checkGiven checks a token that was not generated just now.
func checkGiven(token authz.Token) error {
	text := token.Reveal()
	if strings.HasPrefix(text, tokenPrefix) && !WellFormed(text) {
		return errors.New("begins with " + tokenPrefix + ", but is not such a token: it was cut or mistyped")
	}
	return checkToken(token)
}

// newID returns an id for a token of the device: its name, as far as there is
// room, and six random characters.
func newID(name string) string {
	const suffix = 6
	for len(name) > maxID-1-suffix {
		runes := []rune(name)
		name = string(runes[:len(runes)-1])
	}
	return name + "-" + strings.ToLower(rand.Text()[:suffix])
}
