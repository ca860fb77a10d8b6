package tokenfile

import (
	"context"
	"fmt"
	"os"
	"time"

	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/authz"
	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/authz/internal/strictjson"
)

// Entry is one token of the file.
type Entry struct {
	// ID is the name of the token, and Subject the device that it belongs to.
	ID, Subject string
	// Fingerprint is the token's fingerprint; see [authz.Token.Fingerprint]. For a password it is
	// one of the user name and the stored hash.
	Fingerprint string
	// Password means that the device shows a password, with the one user name in Only, instead
	// of a token.
	Password bool
	Disabled bool
	// Expires is when the token expires, and Created when it was created; zero if the file does
	// not say.
	Expires, Created time.Time
	// Only, Upstream, Role, Gateway, ACL, Limits and Attrs are those of the token's grant.
	Only     authz.Conditions
	Upstream authz.Upstream
	Role     authz.Role
	Gateway  bool
	ACL      *authz.ACL
	Limits   authz.Limits
	Attrs    map[string]string
	Comment  string
	// Line is the number of the entry's line, from 1.
	Line int
}

// The states of an entry. Only a good one lets its device in.
const (
	Good        = "good"
	Disabled    = "disabled"
	Expired     = "expired"
	NotYetValid = "not yet valid"
)

// States returns all states of an entry.
func States() []string { return []string{Good, Disabled, Expired, NotYetValid} }

// State says whether the entry lets its device in at a time, and if not, why.
func (e Entry) State(now time.Time) string {
	switch {
	case e.Disabled:
		return Disabled
	case !e.Expires.IsZero() && !now.Before(e.Expires):
		return Expired
	case now.Before(e.Only.NotBefore):
		return NotYetValid
	}
	return Good
}

// List returns the entries of the file at path in order, including disabled and expired ones.
func List(path string) ([]Entry, error) {
	return entries(path, func(*entry) bool { return true })
}

// Show returns the entry with that id and all entries of the device with that name, or
// [ErrNotFound].
func Show(path, idOrName string) ([]Entry, error) {
	found, err := entries(path, Scope{Names: []string{idOrName}}.selects())
	if err == nil && len(found) == 0 {
		err = fmt.Errorf("%w: %q", ErrNotFound, idOrName)
	}
	return found, err
}

// Each calls do with the entries of the file at path that are in the scope, in the order of the
// file, each with its line. A line is a JSON object without the line end, and valid until do
// returns. It has the hashes of tokens and passwords, and the credentials for the broker in plain
// text. The file is checked before, and not held in memory.
func Each(path string, s Scope, do func(e Entry, line []byte) error) error {
	match := s.selects()
	if err := readThrough(context.Background(), path, func(*entry, int, []byte) error { return nil }); err != nil {
		return err
	}
	return readThrough(context.Background(), path, func(e *entry, number int, line []byte) error {
		if !match(e) {
			return nil
		}
		rec, _ := scanRecord(line) // has been parsed before
		return do(describe(e, number, &rec), line)
	})
}

func entries(path string, match func(*entry) bool) (all []Entry, err error) {
	err = readThrough(context.Background(), path, func(e *entry, number int, line []byte) error {
		if match(e) {
			rec, _ := scanRecord(line) // has been parsed before
			all = append(all, describe(e, number, &rec))
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	return all, nil
}

// describe returns e with the fields that only the record of its line has.
func describe(e *entry, number int, rec *record) Entry {
	g := e.newGrant()
	shown := Entry{
		ID: e.id, Subject: e.subject, Fingerprint: authz.FingerprintOf(e.sessionHash()), Password: e.isPair(), Disabled: e.disabled, Line: number,
		Expires: g.Expires, Only: g.Only, Upstream: g.Upstream, Role: g.Role, Gateway: g.Gateway, ACL: g.ACL, Limits: g.Limits, Attrs: g.Attrs,
	}
	if raw := rec[fieldCreatedAt]; raw != nil {
		created, _ := decodeTime(raw) // parsed before, like the comment
		shown.Created = unix(created)
	}
	if raw := rec[fieldComment]; raw != nil {
		comment, _ := strictjson.Text(raw)
		shown.Comment = string(comment)
	}
	return shown
}

// Lint reads the file at path as [Open] would, and returns problems that are not errors. If
// Open would refuse the file, Lint returns an error, which is a *[FormatError] if the file
// breaks the rules.
func Lint(path string) (problems []string, err error) {
	expired, now := 0, time.Now().Unix()
	if err := readThrough(context.Background(), path, func(e *entry, _ int, _ []byte) error {
		if e.expires != 0 && e.expires <= now {
			expired++
		}
		return nil
	}); err != nil {
		return nil, err
	}
	info, err := os.Stat(path)
	if err != nil {
		return nil, err
	}
	problems = warnings(path, info.Mode())
	if expired > 0 {
		problems = append(problems, fmt.Sprintf("%s: %d tokens have expired; revoke them", path, expired))
	}
	return problems, nil
}
