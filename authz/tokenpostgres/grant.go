package tokenpostgres

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/authz"
	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/authz/passwordhash"
)

// decide returns the grant of a row, after the password has been checked if the device is looked
// up by its name.
func (s *Source) decide(ctx context.Context, found *row, r *authz.Request) (*authz.Grant, error) {
	g := found.grant()
	if s.isPair(found) {
		if err := s.checkPassword(ctx, found, r); err != nil {
			return nil, err
		}
		g.PairHash = authz.PairHash(r.Pair.Username, *found.hash)
	}
	if err := found.denied(time.Now(), s.subject(found, r)); err != nil {
		return nil, err
	}
	if err := s.name(g, found, r); err != nil {
		return nil, fmt.Errorf("%w: the row of this device: %w", authz.ErrUnanswerable, err)
	}
	var err error
	if g.ACL, err = found.acl(); err != nil {
		return nil, fmt.Errorf("%w: the row of this device: column %w", authz.ErrUnanswerable, err)
	}
	return g, nil
}

// grant returns the grant of a row as far as its columns are only copied.
func (r *row) grant() *authz.Grant {
	g := &authz.Grant{
		TokenID: r.tokenID, Subject: r.subject, Upstream: r.upstream, Only: r.only,
		Limits: r.limits, Superuser: r.superuser, Role: r.role, Gateway: r.gateway, Attrs: r.attrs, Expires: r.expires,
	}
	g.Only.NotBefore = r.notBefore
	return g
}

// denied returns why the row lets no device in at that time, or nil. The denial has the subject.
func (r *row) denied(now time.Time, subject string) error {
	switch {
	case r.disabled:
		return &authz.Denial{Reason: authz.Disabled, Subject: subject}
	case !r.expires.IsZero() && !now.Before(r.expires):
		return &authz.Denial{Reason: authz.Expired, Detail: "since " + r.expires.UTC().Format(time.RFC3339), Subject: subject}
	case now.Before(r.notBefore):
		return &authz.Denial{Reason: authz.NotYetValid, Detail: "until " + r.notBefore.UTC().Format(time.RFC3339), Subject: subject, Keep: authz.Keep{TTL: r.notBefore.Sub(now)}}
	}
	return nil
}

// isPair reports whether a row was found by a name, so that the password has to be checked.
func (s *Source) isPair(found *row) bool {
	if s.query.schema {
		return !found.byToken
	}
	return s.Takes() == authz.Pairs
}

// checkPassword compares the password of the pair with the hash of the row.
func (s *Source) checkPassword(ctx context.Context, found *row, r *authz.Request) error {
	if found.hash == nil {
		return &authz.Denial{Reason: authz.WrongPassword, Detail: "no password is set for " + s.called(r), Subject: s.subject(found, r)}
	}
	hash, err := passwordhash.Parse(*found.hash)
	if err != nil {
		return fmt.Errorf("%w: the row of this device: column password_hash: %w", authz.ErrUnanswerable, err)
	}
	good, err := s.workers.Check(ctx, hash, r.Pair.Password)
	switch {
	case err != nil:
		return err
	case !good:
		return &authz.Denial{Reason: authz.WrongPassword, Detail: s.called(r), Subject: s.subject(found, r)}
	}
	return nil
}

// subject returns the subject of a row for a denial: without one of its own, a pair has the name by
// which the row was found.
func (s *Source) subject(found *row, r *authz.Request) string {
	switch {
	case !s.isPair(found) && !r.Token.Empty() && strings.Contains(found.subject, r.Token.Reveal()): // it is logged
		return ""
	case found.subject != "" || !s.isPair(found):
		return found.subject
	case s.query.uses(paramUsername):
		return r.Pair.Username
	}
	return r.Pair.ClientID
}

// called says for the log by which name the device was looked up.
func (s *Source) called(r *authz.Request) string {
	const most = 128
	if s.query.uses(paramUsername) {
		return fmt.Sprintf("user %.*q", most, r.Pair.Username)
	}
	return fmt.Sprintf("client id %.*q", most, r.Pair.ClientID)
}

// name sets the names that the row does not have. A name must not depend on what the device is
// free to choose: that of a pair is the one by which the row was found.
func (s *Source) name(g *authz.Grant, found *row, r *authz.Request) error {
	if !s.isPair(found) {
		hash := r.Token.Hash()
		if g.TokenID == "" {
			g.TokenID = hex.EncodeToString(hash[:8])
		}
		if g.Subject == "" {
			g.Subject = g.TokenID
		}
		// Both are logged.
		if token := r.Token.Reveal(); strings.Contains(g.Subject, token) || strings.Contains(g.TokenID, token) {
			return errors.New("the subject or the token_id contains the token")
		}
		return nil
	}
	by := r.Pair.Username
	if !s.query.uses(paramUsername) {
		by = r.Pair.ClientID
	}
	g.Subject = s.subject(found, r)
	if g.TokenID == "" {
		g.TokenID = tokenIDOf(by)
	}
	if err := checkName(g.Subject, maxSubject); err != nil {
		return fmt.Errorf("its name cannot be a subject: %w", err)
	}
	return nil
}

// tokenIDOf returns the token id of a pair whose row has none: the name, or if it is too long
// its beginning and a digest.
func tokenIDOf(name string) string {
	if len(name) <= maxTokenID {
		return name
	}
	whole := authz.PairHash(name, "")
	suffix := fmt.Sprintf("-%x", whole[:8])
	return strings.ToValidUTF8(name[:maxTokenID-len(suffix)], "") + suffix
}

// acl returns the topic rules of a row, nil if it has none. Those of a superuser leave
// everything to the broker.
func (r *row) acl() (*authz.ACL, error) {
	switch {
	case r.superuser:
		return authz.NewACL(authz.DeferRest)
	case r.rules == nil:
		return nil, nil
	}
	return authz.ParseACL(r.rules, authz.ACLOptions{Rest: r.rest})
}
