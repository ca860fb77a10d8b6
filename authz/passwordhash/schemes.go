package passwordhash

import (
	"crypto/sha512"
	"crypto/subtle"
	"encoding/base64"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"golang.org/x/crypto/argon2"
	"golang.org/x/crypto/bcrypt"
)

const (
	maxBcryptCost = 14
	bcryptLength  = 60
	// maxArgonKiB is the largest memory of argon2id; the others bound its time.
	maxArgonKiB, maxArgonPasses, maxArgonLanes = 128 << 10, 16, 16
)

// sha512Hash is what Mosquitto before 1.6 stores: SHA-512 of the password and the salt.
type sha512Hash struct {
	salt   []byte
	digest []byte
}

// parseMosquittoSHA512 parses SALT$HASH.
func parseMosquittoSHA512(rest string) (scheme, error) {
	salt, digest, ok := strings.Cut(rest, "$")
	if !ok {
		return nil, errors.New("$6$ must be followed by salt and hash with $ between them")
	}
	var h sha512Hash
	var err error
	h.salt, h.digest, err = saltAndDigest(base64.StdEncoding, salt, digest)
	if err != nil || len(h.digest) != sha512.Size {
		return nil, errors.New("not the $6$ of Mosquitto; the SHA-512 crypt of operating systems begins like it and is not supported; " + supported)
	}
	return &h, nil
}

func (s *sha512Hash) matches(password string) (bool, error) {
	digest := sha512.Sum512(append([]byte(password), s.salt...))
	return subtle.ConstantTimeCompare(digest[:], s.digest) == 1, nil
}

func (s *sha512Hash) cost() cost { return cost{processors: 1} }

// bcryptHash is a hash as bcrypt writes it.
type bcryptHash struct{ text []byte }

// parseBcrypt parses $2y$NN$ and 53 characters.
func parseBcrypt(text string) (scheme, error) {
	const alphabet = "./ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789"
	if len(text) != bcryptLength || text[6] != '$' || strings.Trim(text[7:], alphabet) != "" {
		return nil, fmt.Errorf("a bcrypt hash has %d characters, which end in 53 of ./A-Za-z0-9: this one was cut or changed", bcryptLength)
	}
	rounds, err := bcrypt.Cost([]byte(text))
	if err != nil || fmt.Sprintf("%02d", rounds) != text[4:6] || rounds < bcrypt.MinCost {
		return nil, fmt.Errorf("the cost of bcrypt is not a number of two digits from 04 to %d", maxBcryptCost)
	}
	if rounds > maxBcryptCost {
		return nil, fmt.Errorf("bcrypt with cost %d, at most %d is allowed", rounds, maxBcryptCost)
	}
	return &bcryptHash{[]byte(text)}, nil
}

func (b *bcryptHash) matches(password string) (bool, error) {
	err := bcrypt.CompareHashAndPassword(b.text, []byte(password))
	if errors.Is(err, bcrypt.ErrMismatchedHashAndPassword) {
		return false, nil
	}
	return err == nil, err
}

func (b *bcryptHash) cost() cost { return cost{processors: 1} }

// argonHash is argon2id (RFC 9106).
type argonHash struct {
	memory, passes uint32 // memory in KiB
	lanes          uint8
	salt, digest   []byte
}

// parseArgon2id parses v=19$m=KIB,t=PASSES,p=LANES$SALT$HASH.
func parseArgon2id(rest string) (scheme, error) {
	parts := strings.Split(rest, "$")
	if len(parts) != 4 || parts[0] != "v="+strconv.Itoa(argon2.Version) {
		return nil, errors.New("$argon2id$ must be followed by v=19, parameters, salt and hash with $ between them")
	}
	p, err := parameters(parts[1], "m", "t", "p")
	if err != nil {
		return nil, fmt.Errorf("argon2id: %w", err)
	}
	n := map[string]int{}
	for name, most := range map[string]int{"m": maxArgonKiB, "t": maxArgonPasses, "p": maxArgonLanes} {
		if n[name], err = parseNumber(p[name]); err != nil {
			return nil, fmt.Errorf("argon2id: %s: %w", name, err)
		}
		if n[name] > most {
			return nil, fmt.Errorf("argon2id with %s=%d, at most %d is allowed", name, n[name], most)
		}
	}
	h := &argonHash{memory: uint32(n["m"]), passes: uint32(n["t"]), lanes: uint8(n["p"])}
	if h.memory < 8*uint32(h.lanes) {
		return nil, errors.New("argon2id needs at least 8 KiB (m) for each lane (p)")
	}
	h.salt, h.digest, err = saltAndDigest(base64.RawStdEncoding, parts[2], parts[3])
	return h, err
}

func (a *argonHash) matches(password string) (bool, error) {
	digest := argon2.IDKey([]byte(password), a.salt, a.passes, a.memory, a.lanes, uint32(len(a.digest)))
	return subtle.ConstantTimeCompare(digest, a.digest) == 1, nil
}

func (a *argonHash) cost() cost {
	return cost{processors: int(a.lanes), memory: int64(a.memory) << 10}
}
