package tokenjwt

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"
	"time"

	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/authz"
	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/authz/internal/strictjson"
)

const (
	maxTokenID   = 128          // bytes
	latestSecond = 253402300799 // the end of the year 9999
)

// notKept forbids caching, so that every request is checked again.
func notKept() authz.Keep { return authz.Keep{TTL: -1, Stale: -1} }

// unknown returns the denial of a token that another source may know. The detail says why this
// source does not accept it.
func unknown(format string, args ...any) error {
	return &authz.Denial{Reason: authz.Unknown, Detail: fmt.Sprintf(format, args...), Keep: notKept()}
}

// refused returns the denial of a token with a valid signature.
func refused(detail string) error {
	return &authz.Denial{Reason: authz.NotAuthorized, Detail: detail, Keep: notKept()}
}

// withTokenID adds the token's id and subject to an error of Grant.Check.
func withTokenID(id string, err error, subject string) error {
	d, ok := errors.AsType[*authz.Denial](err)
	if !ok {
		return err
	}
	return &authz.Denial{Reason: d.Reason, Detail: "token " + id + ": " + d.Detail, Subject: subject, Keep: notKept()}
}

// checkIssuer returns an error unless the claims name one of the accepted issuers.
func (o *Options) checkIssuer(claims strictjson.Object) error {
	issuer, ok := textOf(claims, "iss")
	switch {
	case !ok:
		return errors.New("a JWT whose iss is not text")
	case len(o.Issuers) == 0 || slices.Contains(o.Issuers, issuer):
		return nil
	case issuer == "":
		return errors.New("a JWT that names no issuer")
	}
	return fmt.Errorf("a JWT of issuer %s, which is not among the accepted ones", quoted(issuer))
}

// grant returns the grant for a verified token, or a denial.
func (s *Source) grant(t *token, now time.Time) (*authz.Grant, error) {
	id, err := t.id()
	if err != nil {
		return nil, refused("jti: " + err.Error())
	}
	g := &authz.Grant{TokenID: id, Keep: notKept()}
	if err := s.checkUse(t); err != nil {
		return nil, refused("token " + id + ": " + err.Error())
	}
	if err := s.setValidity(g, t.claims); err != nil {
		return nil, refused("token " + id + ": " + err.Error())
	}
	if err := g.Check(authz.Request{}, now); err != nil { // only the times: nothing else is set yet
		_ = s.mapping.fill(g, t.claims) // for the subject; that the token has expired counts
		return nil, withTokenID(id, err, g.Subject)
	}
	if err := s.mapping.fill(g, t.claims); err != nil {
		return nil, refused("token " + id + ": " + err.Error())
	}
	return g, nil
}

// id returns the jti, or a name that is a hash of the signed part. The signature is not
// included, since the holder may be able to change it and keep it valid.
func (t *token) id() (string, error) {
	if value, ok := t.claims.Get("jti"); ok {
		return nameOf(value, maxTokenID)
	}
	sum := sha256.Sum256([]byte(t.input))
	return "jwt-" + hex.EncodeToString(sum[:16]), nil
}

// checkUse checks the type and the audience of the token.
func (s *Source) checkUse(t *token) error {
	if !accepts(t.typ) {
		return errors.New("typ: not an accepted type of token")
	}
	if _, ok := t.claims.Get("cnf"); ok {
		return errors.New("cnf: the token is bound to a key, which the proxy cannot check")
	}
	value, present := t.claims.Get("aud")
	switch {
	case s.options.AnyAudience:
		return nil
	case !present && len(s.options.Audiences) == 0:
		return nil
	case !present:
		return errors.New("aud: missing")
	}
	audiences, err := listOf(value)
	if err != nil {
		return fmt.Errorf("aud: %w", err)
	}
	if !slices.ContainsFunc(audiences, func(a string) bool { return slices.Contains(s.options.Audiences, a) }) {
		return errors.New("aud: the token is for another audience")
	}
	return nil
}

// accepts reports whether typ, a media type (RFC 7515 section 4.1.9), is accepted.
func accepts(typ string) bool {
	const tree = "application/"
	if len(typ) >= len(tree) && strings.EqualFold(typ[:len(tree)], tree) {
		typ = typ[len(tree):]
	}
	return slices.ContainsFunc([]string{"", "JWT", "at+jwt"}, func(t string) bool { return strings.EqualFold(t, typ) })
}

// setValidity sets from when and until when the grant is valid.
func (s *Source) setValidity(g *authz.Grant, claims strictjson.Object) (err error) {
	times := map[string]time.Time{}
	for _, name := range []string{"exp", "nbf", "iat"} {
		value, present := claims.Get(name)
		if !present {
			continue
		}
		if times[name], err = timeOf(value); err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
	}
	var limited bool
	if g.Expires, limited = times["exp"]; !limited && !s.options.AllowNoExpiry {
		return errors.New("exp: missing; tokens that never expire must be allowed first")
	}
	for _, name := range []string{"nbf", "iat"} {
		if t, ok := times[name]; ok && t.Add(-s.options.Leeway).After(g.Only.NotBefore) {
			g.Only.NotBefore = t.Add(-s.options.Leeway)
		}
	}
	return nil
}

// timeOf returns a NumericDate (RFC 7519 section 2). A date after the year 9999 is in
// milliseconds and refused.
func timeOf(value any) (time.Time, error) {
	number, ok := value.(json.Number)
	if !ok {
		return time.Time{}, errors.New("not a number")
	}
	seconds, err := number.Float64()
	if err != nil || seconds < 0 || seconds > latestSecond {
		return time.Time{}, errors.New("not a time in seconds since 1970")
	}
	whole, fraction := math.Modf(seconds)
	return time.Unix(int64(whole), int64(fraction*1e9)), nil
}
