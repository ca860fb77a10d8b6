package tokenfile

import (
	"bytes"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"net/netip"
	"strconv"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/authz"
	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/authz/internal/strictjson"
)

const (
	maxMembers = 64  // of an object of strings
	maxID      = 128 // bytes, as the others
	maxSubject = 256
	maxComment = 1024
	// minToken and strongToken are lengths in bytes: below the first a token is refused, below
	// the second there is a warning. A proxy on the internet must expect guesses from
	// everywhere: eight characters are the least that rate limits can defend, and sixteen
	// random ones need no defense.
	minToken    = 8
	strongToken = 16
	// latest is the last second that is accepted. A larger number is probably in milliseconds.
	latest = 100_000_000_000
)

func wrongKind(want string, raw []byte) error {
	return fmt.Errorf("want %s, got %s", want, strictjson.Kind(raw))
}

// decodeName returns a string that is a name.
func decodeName(raw []byte, limit int) ([]byte, error) {
	text, err := strictjson.Text(raw)
	if err != nil {
		return nil, err
	}
	return text, checkName(string(text), limit)
}

// checkName checks that a name has 1 to limit bytes of UTF-8 without control characters.
func checkName(name string, limit int) error {
	switch {
	case name == "":
		return errors.New("must not be empty")
	case len(name) > limit:
		return fmt.Errorf("%d bytes long, at most %d are allowed", len(name), limit)
	case isPrintable(name):
		return nil
	case !utf8.ValidString(name):
		return errors.New("must be valid UTF-8")
	case strings.ContainsFunc(name, unicode.IsControl):
		return errors.New("must not contain control characters")
	}
	return nil
}

// isPrintable reports whether text has nothing but printable ASCII characters, as most names do.
func isPrintable(text string) bool {
	for i := range len(text) {
		if text[i] < ' ' || text[i] > '~' {
			return false
		}
	}
	return true
}

func decodeBool(raw []byte) (bool, error) {
	switch string(raw) {
	case "true":
		return true, nil
	case "false":
		return false, nil
	}
	return false, wrongKind("true or false", raw)
}

func decodeRole(raw []byte) (authz.Role, error) {
	name, err := strictjson.Text(raw)
	if err != nil {
		return "", err
	}
	return authz.ParseRole(string(name))
}

// decodeTime returns a time in seconds since 1970, from an integer or from a string in the form
// of RFC 3339.
func decodeTime(raw []byte) (int64, error) {
	if raw[0] == '"' {
		text, err := strictjson.Text(raw)
		if err != nil {
			return 0, err
		}
		var t time.Time
		if err := t.UnmarshalText(text); err != nil || t.Nanosecond() != 0 {
			return 0, errors.New(`want whole seconds since 1970, or a time such as "2027-01-31T12:00:00Z"`)
		}
		return inRange(t.Unix())
	}
	if strictjson.Kind(raw) != "a number" {
		return 0, wrongKind("seconds since 1970 or a time as a string", raw)
	}
	n, err := strconv.ParseInt(string(raw), 10, 64)
	if err != nil {
		return 0, errors.New("want whole seconds since 1970, written without fraction or exponent")
	}
	return inRange(n)
}

func inRange(seconds int64) (int64, error) {
	switch {
	case seconds <= 0:
		return 0, errors.New("a time in 1970 or before; omit the field if there is no limit")
	case seconds > latest:
		return 0, errors.New("too far in the future: milliseconds? Write seconds since 1970")
	}
	return seconds, nil
}

const hashHint = `want "sha256:" and the SHA-256 of the token, as 64 hexadecimal digits or 43 characters of base64url without padding`

// emptyHash is the SHA-256 of no bytes.
var emptyHash = sha256.Sum256(nil)

// decodeHash returns the digest in a token_hash.
func decodeHash(raw []byte) (hash [sha256.Size]byte, err error) {
	text, err := strictjson.Text(raw)
	if err != nil {
		return hash, err
	}
	digest, ok := bytes.CutPrefix(text, []byte("sha256:"))
	if !ok {
		return hash, errors.New(hashHint)
	}
	var n int
	switch len(digest) {
	case hex.EncodedLen(sha256.Size):
		n, err = hex.Decode(hash[:], digest)
	case base64.RawURLEncoding.EncodedLen(sha256.Size):
		n, err = base64.RawURLEncoding.Strict().Decode(hash[:], digest)
	}
	if err != nil || n != sha256.Size {
		return hash, errors.New(hashHint)
	}
	if hash == emptyHash || hash == [sha256.Size]byte{} {
		return hash, errors.New("the hash of an empty text; compute it from the token")
	}
	return hash, nil
}

// checkToken returns an error if a device could not send the token in a CONNECT, or an attacker
// could guess it.
func checkToken(token authz.Token) error {
	switch text := token.Reveal(); {
	case len(text) < minToken:
		return fmt.Errorf("shorter than %d bytes; choose a longer token", minToken)
	case len(text) > 65535:
		return errors.New("longer than the 65535 bytes that MQTT can carry")
	case !utf8.ValidString(text) || strings.ContainsFunc(text, unicode.IsControl):
		return errors.New("contains control characters, such as a line end, or is not UTF-8")
	}
	return nil
}

// decodeStrings returns the values of a string or of a list of strings, which must not be
// empty. f converts each of them.
func decodeStrings[T any](raw []byte, f func(string) (T, error)) ([]T, error) {
	var all []T
	one := func(raw []byte) error {
		text, err := strictjson.Text(raw)
		if err != nil {
			return err
		}
		v, err := f(string(text))
		all = append(all, v)
		return err
	}
	var err error
	switch raw[0] {
	case '"':
		err = one(raw)
	case '[':
		if err = strictjson.EachElement(raw, one); err == nil && len(all) == 0 {
			err = errors.New("an empty list; name at least one, or omit the field")
		}
	default:
		err = wrongKind("a string or a list of strings", raw)
	}
	return all, err
}

// pattern checks a client id or user name that may end in *.
func pattern(text string) (string, error) {
	if err := checkName(text, 65535); err != nil {
		return "", err
	}
	if strings.Contains(text[:len(text)-1], "*") {
		return "", errors.New("a * is allowed only at the end, where it matches any rest")
	}
	return text, nil
}

// certificate checks the name of a client certificate.
func certificate(text string) (string, error) {
	if err := checkName(text, 65535); err != nil {
		return "", err
	}
	return text, authz.CheckCertificateName(text)
}

// network parses an address or an address range.
func network(text string) (netip.Prefix, error) {
	const hint = "want an address or a range, such as 10.1.2.3, 10.0.0.0/8 or 2001:db8::/32"
	if a, err := netip.ParseAddr(text); err == nil && a.Zone() == "" && !a.Is4In6() {
		return a.Prefix(a.BitLen())
	}
	p, err := netip.ParsePrefix(text)
	switch {
	case err != nil || p.Addr().Is4In6():
		return netip.Prefix{}, errors.New(hint)
	case p != p.Masked():
		return netip.Prefix{}, fmt.Errorf("an address inside the range %s; write that, or the address without /%d", p.Masked(), p.Bits())
	}
	return p, nil
}

// decodeMap returns an object of strings, or nil if it is empty.
func decodeMap(raw []byte) (map[string]string, error) {
	if raw[0] != '{' {
		return nil, wrongKind("an object of strings", raw)
	}
	var all map[string]string
	err := strictjson.EachMember(raw, func(key, value []byte) error {
		if len(all) == maxMembers {
			return errors.New("more than 64 keys in one object")
		}
		text, err := strictjson.Text(value)
		if err != nil {
			return err
		}
		if err := checkName(string(key), maxSubject); err != nil {
			return fmt.Errorf("a key: %w", err)
		}
		if all == nil {
			all = make(map[string]string)
		}
		all[string(key)] = string(text)
		return nil
	})
	return all, err
}

// decodeUpstream returns the credentials for the broker.
func decodeUpstream(raw []byte) (up authz.Upstream, err error) {
	all, err := decodeMap(raw)
	if err != nil {
		return up, err
	}
	for key, text := range all {
		switch key {
		case "username":
			up.Username = text
		case "password":
			up.Password = authz.NewToken(text)
		case "clientid":
			up.ClientID = text
		default:
			return up, errors.New("only username, password and clientid are allowed here")
		}
	}
	return up, nil
}

// decodeLimits returns limits. The error does not repeat the name of the field.
func decodeLimits(raw []byte) (authz.Limits, error) {
	limits, err := authz.ParseLimits(raw)
	if err != nil {
		err = errors.New(strings.TrimPrefix(err.Error(), "limits: "))
	}
	return limits, err
}

// decodeACL returns topic rules. The error does not repeat the name of the field.
func decodeACL(raw []byte) (*authz.ACL, error) {
	acl, err := authz.ParseACL(raw, authz.ACLOptions{})
	if err != nil {
		err = errors.New(strings.TrimPrefix(err.Error(), "acl: "))
	}
	return acl, err
}
