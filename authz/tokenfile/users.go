package tokenfile

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/authz"
	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/authz/internal/strictjson"
	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/authz/passwordhash"
)

// password is the password_hash of an entry.
type password struct {
	hash passwordhash.Hash
	text string
	pair [sha256.Size]byte // see authz.PairHash
}

func (p *password) equal(o *password) bool {
	if p == nil || o == nil {
		return p == o
	}
	return p.pair == o.pair
}

// decodePassword parses a password_hash.
func decodePassword(raw []byte) (*password, error) {
	text, err := strictjson.Text(raw)
	if err != nil {
		return nil, err
	}
	hash, err := passwordhash.Parse(string(text))
	return &password{hash: hash, text: string(text)}, err
}

// isPair reports whether the entry has a user name and a password instead of a token.
func (e *entry) isPair() bool { return e.detail != nil && e.detail.password != nil }

// pairUp completes an entry that has a password_hash. Its hash is that of the user name, by
// which it is found.
func (e *entry) pairUp() *Fault {
	names := e.detail.usernames
	if len(names) != 1 || strings.Contains(names[0], "*") {
		return &Fault{Field: "username", Reason: "an entry with password_hash needs one user name, without *"}
	}
	name, p := names[0], e.detail.password
	if len(name) > maxSubject {
		return &Fault{Field: "username", Reason: fmt.Sprintf("more than %d bytes, next to password_hash", maxSubject)}
	}
	if e.subject == "" {
		e.subject = name
	}
	e.hash, p.pair, p.text = hashOfUser(name), authz.PairHash(name, p.text), ""
	return nil
}

// hashOfUser returns the hash of the entry that has this user name and a password.
func hashOfUser(name string) [sha256.Size]byte { return authz.PairHash(name, "") }

// sessionHash returns what stands for the credential in sessions of the entry.
func (e *entry) sessionHash() [sha256.Size]byte {
	if e.isPair() {
		return e.detail.password.pair
	}
	return e.hash
}

// Users is the [authz.Authorizer] of those entries of a [File] that have a user name and a
// password. It is separate because a check computes a password hash, which takes up to a
// second: put a cache in front of it, with Watched set.
type Users struct {
	file    *File
	workers *passwordhash.Workers
}

var (
	_ authz.Authorizer = (*Users)(nil)
	_ authz.Notifier   = (*Users)(nil)
	_ authz.Taker      = (*Users)(nil)
)

// Users returns the Authorizer of the entries with a user name and a password. The workers bound
// the checks.
func (f *File) Users(w *passwordhash.Workers) *Users { return &Users{f, w} }

// HasUsers reports whether any entry in effect has a user name and a password.
func (f *File) HasUsers() bool { return f.current.Load().pairs > 0 }

// Takes implements [authz.Taker].
func (u *Users) Takes() authz.Credentials { return authz.Pairs }

// Notify implements [authz.Notifier]. It is that of the file and reports all of its entries.
func (u *Users) Notify(ctx context.Context, revoked func(authz.Revocation)) error {
	return u.file.Notify(ctx, revoked)
}

// Authorize implements [authz.Authorizer]. It looks at nothing but the pair, since a cache gives
// its answer to all devices that show the same: the caller checks the conditions of the grant. A
// wrong password is the answer also for an entry that is disabled, about which only the device
// itself may know.
func (u *Users) Authorize(ctx context.Context, r authz.Request) (*authz.Grant, error) {
	if err := ctx.Err(); err != nil {
		return nil, fmt.Errorf("token file: %w", err)
	}
	for {
		e := u.find(r.Pair)
		if e == nil {
			return nil, notInFile()
		}
		good, err := u.workers.Check(ctx, e.detail.password.hash, r.Pair.Password)
		now := u.find(r.Pair)
		switch {
		case err != nil:
			return nil, err
		case now == nil || !now.detail.password.equal(e.detail.password): // changed in the meantime
			continue
		case !good:
			return nil, &authz.Denial{Reason: authz.WrongPassword, Detail: "token " + now.id, Subject: now.subject}
		case now.disabled:
			return nil, now.disabledDenial()
		}
		return now.authorization(), nil
	}
}

// find returns the entry with the user name of p, nil if there is none.
func (u *Users) find(p authz.Pair) *entry {
	if p.IsZero() || p.Username == "" {
		return nil
	}
	hash := hashOfUser(p.Username)
	if e := u.file.current.Load().withHash(&hash); e != nil && e.isPair() {
		return e
	}
	return nil
}

// SetPassword gives the entry with that id, or the only one of the device with that name that has
// a user name and a password, another password. Its sessions end. It returns the id.
func (e *Edit) SetPassword(idOrName string, password authz.Token) (id string, err error) {
	hash, err := newPasswordHash(password)
	if err != nil {
		return "", err
	}
	return e.d.setPassword(idOrName, hash)
}

// newPasswordHash returns the password_hash of a password that is being set.
func newPasswordHash(password authz.Token) (string, error) {
	if err := checkToken(password); err != nil {
		return "", fmt.Errorf("the password: %w", err)
	}
	return passwordhash.Make(password)
}

// checkUser checks the user name and the password.
func (o CreateOptions) checkUser() error {
	switch {
	case o.Username == "" && o.Password.IsZero():
		return nil
	case o.Username == "" || o.Password.IsZero():
		return errors.New("a user name and a password belong together; give both or none")
	case !o.Token.IsZero():
		return errors.New("a device shows a token, or a user name and a password; give one of the two")
	case strings.Contains(o.Username, "*"):
		return errors.New("the user name: * is not allowed in it")
	}
	if err := checkName(o.Username, maxSubject); err != nil {
		return fmt.Errorf("the user name: %w", err)
	}
	return nil
}

// createUser adds a user name and a password of a device.
func (d *document) createUser(rec *record, o CreateOptions, now time.Time) (Created, error) {
	user := hashOfUser(o.Username)
	if other := d.snap.withHash(&user); other != nil {
		return Created{}, fmt.Errorf("the user name exists already, as %s; to give it another password, rotate that", other.id)
	}
	hash, err := newPasswordHash(o.Password)
	if err != nil {
		return Created{}, err
	}
	rec.set(fieldUsername, o.Username)
	rec.set(fieldPasswordHash, hash)
	made := Created{Name: o.Name, Username: o.Username, Role: o.Role, Expires: o.Expires.Truncate(time.Second)}
	made.ID, err = d.issue(rec, o.Name, authz.Token{}, now)
	return made, err
}

// hasUser reports whether the device with that name has a user name and a password.
func (d *document) hasUser(name string) bool {
	named, _ := d.find(name) // none are none of the device
	return slices.ContainsFunc(named, func(e found) bool { return e.subject == name && e.isPair() })
}

// setPassword replaces the password_hash of an entry, and returns its id.
func (d *document) setPassword(name, hash string) (id string, err error) {
	all, err := d.find(name)
	if err != nil {
		return "", err
	}
	var with []found
	for _, e := range all {
		if e.isPair() {
			with = append(with, e)
		}
	}
	switch len(with) {
	case 0:
		return "", errors.New("the device has tokens and no password; create one with a user name and a password")
	case 1:
		rec, err := d.record(with[0])
		if err != nil {
			return "", err
		}
		rec.set(fieldPasswordHash, hash)
		d.replace(with[0], &rec)
		return with[0].id, nil
	}
	return "", errors.New("the device has several user names; name the id of one of them")
}
