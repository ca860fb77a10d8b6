package passwordhash

import (
	"crypto/pbkdf2"
	"crypto/rand"
	"crypto/sha256"
	"crypto/sha512"
	"crypto/subtle"
	"encoding/base64"
	"errors"
	"fmt"
	"hash"
	"strconv"
	"strings"

	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/authz"
)

const (
	// maxRounds is the largest number of PBKDF2 rounds that is accepted.
	maxRounds = 2_000_000
	// madeRounds is the number of rounds in a hash of Make.
	madeRounds = 210_000
	// minDigest and maxDigest are the lengths in bytes that a digest may have.
	minDigest, maxDigest = 16, 64
)

// pbkdf2Hash is PBKDF2 (RFC 8018) with HMAC.
type pbkdf2Hash struct {
	sha256 bool // instead of SHA-512
	rounds int
	salts  [][]byte // several if it is not known which one was meant
	digest []byte
}

func (p *pbkdf2Hash) matches(password string) (bool, error) {
	newHash := sha512.New
	if p.sha256 {
		newHash = sha256.New
	}
	for _, salt := range p.salts {
		digest, err := derive(newHash, password, salt, p.rounds, len(p.digest))
		if err != nil {
			return false, err
		}
		if subtle.ConstantTimeCompare(digest, p.digest) == 1 {
			return true, nil
		}
	}
	return false, nil
}

func derive(newHash func() hash.Hash, password string, salt []byte, rounds, length int) ([]byte, error) {
	return pbkdf2.Key(newHash, password, salt, rounds, length)
}

func (p *pbkdf2Hash) cost() cost { return cost{processors: 1} }

// Make returns a hash of the password with a salt of its own, for [Parse]: PBKDF2 with
// SHA-512 and 210,000 rounds, in the form of Mosquitto. That takes about a tenth of a second
// of a processor, and passwords may have any length.
func Make(password authz.Token) (string, error) { return MakeRounds(password, 0) }

// MakeRounds is Make with another number of rounds, at most 2,000,000. Zero means that of Make.
// Fewer are enough for random passwords, which cannot be guessed however fast a guess is.
func MakeRounds(password authz.Token, rounds int) (string, error) {
	switch {
	case rounds == 0:
		rounds = madeRounds
	case rounds < 0 || rounds > maxRounds:
		return "", fmt.Errorf("%d rounds of PBKDF2; 1 to %d are allowed", rounds, maxRounds)
	}
	salt := make([]byte, 16)
	_, _ = rand.Read(salt) // never fails
	digest, err := derive(sha512.New, password.Reveal(), salt, rounds, sha512.Size)
	if err != nil {
		return "", err
	}
	return fmt.Sprintf("$7$%d$%s$%s", rounds, base64.StdEncoding.EncodeToString(salt), base64.StdEncoding.EncodeToString(digest)), nil
}

// parsePasslib parses ROUNDS$SALT$HASH, in which salt and hash have . in the place of +.
func parsePasslib(sha256 bool, rest string) (scheme, error) {
	parts := strings.Split(rest, "$")
	if len(parts) != 3 {
		return nil, errors.New("PBKDF2 in this spelling must have rounds, salt and hash with $ between them")
	}
	rounds, err := parseRounds(parts[0])
	if err != nil {
		return nil, err
	}
	plus := strings.NewReplacer(".", "+", "+", "!") // a + is not of this spelling
	salt, digest, err := saltAndDigest(base64.RawStdEncoding, plus.Replace(parts[1]), plus.Replace(parts[2]))
	if err != nil {
		return nil, err
	}
	return &pbkdf2Hash{sha256: sha256, rounds: rounds, salts: [][]byte{salt}, digest: digest}, nil
}

// parseMosquittoPBKDF2 parses ROUNDS$SALT$HASH.
func parseMosquittoPBKDF2(rest string) (scheme, error) {
	parts := strings.Split(rest, "$")
	if len(parts) != 3 {
		return nil, errors.New("$7$ must be followed by rounds, salt and hash with $ between them")
	}
	rounds, err := parseRounds(parts[0])
	if err != nil {
		return nil, err
	}
	salt, digest, err := saltAndDigest(base64.StdEncoding, parts[1], parts[2])
	if err != nil {
		return nil, err
	}
	return &pbkdf2Hash{rounds: rounds, salts: [][]byte{salt}, digest: digest}, nil
}

// parseGoAuth parses ALGORITHM$ROUNDS$SALT$HASH.
func parseGoAuth(rest string) (scheme, error) {
	parts := strings.Split(rest, "$")
	if len(parts) != 4 {
		return nil, errors.New("PBKDF2$ must be followed by algorithm, rounds, salt and hash with $ between them")
	}
	if parts[0] != "sha512" && parts[0] != "sha256" {
		return nil, errors.New("PBKDF2 with another algorithm than sha512 or sha256 is not supported")
	}
	return goAuth(base64.StdEncoding, parts[0] == "sha256", parts[1], parts[2], parts[3])
}

// parsePHC512 parses i=ROUNDS,l=LENGTH$SALT$HASH of mosquitto-go-auth, or the spelling of passlib.
func parsePHC512(rest string) (scheme, error) {
	if !strings.HasPrefix(rest, "i=") {
		return parsePasslib(false, rest)
	}
	parts := strings.Split(rest, "$")
	if len(parts) != 3 {
		return nil, errors.New("$pbkdf2-sha512$ must be followed by i=ROUNDS,l=LENGTH, salt and hash with $ between them")
	}
	p, err := parameters(parts[0], "i", "l")
	if err != nil {
		return nil, err
	}
	s, err := goAuth(base64.RawStdEncoding, false, p["i"], parts[1], parts[2])
	if err == nil && p["l"] != strconv.Itoa(len(s.(*pbkdf2Hash).digest)) {
		return nil, errors.New("the hash does not have the length l")
	}
	return s, err
}

// goAuth returns a hash whose salt may be base64 or plain text.
func goAuth(encoding *base64.Encoding, sha256 bool, rounds, salt, digest string) (scheme, error) {
	h := &pbkdf2Hash{sha256: sha256}
	var err error
	if h.rounds, err = parseRounds(rounds); err != nil {
		return nil, err
	}
	if h.digest, err = decodeDigest(encoding, digest); err != nil {
		return nil, err
	}
	if salt == "" {
		return nil, errors.New("no salt")
	}
	if decoded, err := encoding.Strict().DecodeString(salt); err == nil {
		h.salts = append(h.salts, decoded)
	}
	h.salts = append(h.salts, []byte(salt))
	return h, nil
}

func parseRounds(text string) (int, error) {
	n, err := parseNumber(text)
	switch {
	case err != nil:
		return 0, fmt.Errorf("the number of rounds: %w", err)
	case n > maxRounds:
		return 0, fmt.Errorf("PBKDF2 with %d rounds, at most %d are allowed", n, maxRounds)
	}
	return n, nil
}

// parseNumber parses a whole number of 1 or more without sign or leading zeros.
func parseNumber(text string) (int, error) {
	n, err := strconv.ParseUint(text, 10, 31)
	if err != nil || n == 0 || strconv.FormatUint(n, 10) != text {
		return 0, errors.New("not a whole number from 1 to 2147483647")
	}
	return int(n), nil
}

// parameters parses name=value,name=value with the given names in their order.
func parameters(text string, names ...string) (map[string]string, error) {
	parts := strings.Split(text, ",")
	all := make(map[string]string, len(names))
	for i, part := range parts {
		name, value, ok := strings.Cut(part, "=")
		if !ok || i >= len(names) || name != names[i] {
			break
		}
		all[name] = value
	}
	if len(all) != len(names) || len(parts) != len(names) {
		return nil, fmt.Errorf("the parameters must be %s=", strings.Join(names, "=,"))
	}
	return all, nil
}

func saltAndDigest(encoding *base64.Encoding, salt, digest string) (s, d []byte, err error) {
	if s, err = encoding.Strict().DecodeString(salt); err != nil || len(s) == 0 {
		return nil, nil, errors.New("the salt is missing or not base64")
	}
	d, err = decodeDigest(encoding, digest)
	return s, d, err
}

func decodeDigest(encoding *base64.Encoding, digest string) ([]byte, error) {
	d, err := encoding.Strict().DecodeString(digest)
	switch {
	case err != nil:
		return nil, errors.New("the hash is not base64: it is incomplete or belongs to another program")
	case len(d) < minDigest || len(d) > maxDigest:
		return nil, fmt.Errorf("the hash has %d bytes; %d to %d are allowed", len(d), minDigest, maxDigest)
	}
	return d, nil
}
