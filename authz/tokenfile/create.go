package tokenfile

import (
	"errors"
	"fmt"
	"time"

	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/authz"
)

// create adds a token for a device.
func (d *document) create(o CreateOptions, now time.Time) (Created, error) {
	if err := o.check(now); err != nil {
		return Created{}, err
	}
	if o.New && d.exists(o.Name) {
		return Created{}, fmt.Errorf("%w: %q", ErrExists, o.Name)
	}
	rec := o.record()
	if o.Username != "" {
		return d.createUser(&rec, o, now)
	}
	token := o.Token
	if token.IsZero() {
		token = generate()
	}
	hash := token.Hash()
	if other := d.snap.withHash(&hash); other != nil {
		return Created{}, fmt.Errorf("the token exists already, as %s", other.id)
	}
	made := Created{Name: o.Name, Token: token, Role: o.Role, Expires: o.Expires.Truncate(time.Second)}
	if len(token.Reveal()) < strongToken {
		made.Warning = fmt.Sprintf("the token is shorter than %d bytes; one that is not random can be guessed", strongToken)
	}
	var err error
	made.ID, err = d.issue(&rec, o.Name, token, now)
	return made, err
}

// record returns the fields of the entry that do not depend on its credential.
func (o CreateOptions) record() (rec record) {
	rec.set(fieldSubject, o.Name)
	for f, t := range map[field]time.Time{fieldExpireAt: o.Expires, fieldNotBefore: o.NotBefore} {
		if !t.IsZero() {
			rec.set(f, stampText(t))
		}
	}
	for f, texts := range map[field][]string{
		fieldClientID: o.ClientIDs, fieldUsername: o.Usernames, fieldCIDR: o.Addrs, fieldCertificate: o.Certificates,
	} {
		if len(texts) > 0 {
			rec.set(f, texts)
		}
	}
	for f, set := range map[field]bool{fieldDisabled: o.Disabled, fieldGateway: o.Gateway} {
		if set {
			rec.set(f, true)
		}
	}
	up := map[string]string{}
	for key, text := range map[string]string{"username": o.Upstream.Username, "password": o.Upstream.Password.Reveal(), "clientid": o.Upstream.ClientID} {
		if text != "" {
			up[key] = text
		}
	}
	for f, m := range map[field]map[string]string{fieldUpstream: up, fieldClientAttrs: o.Attrs} {
		if len(m) > 0 {
			rec.set(f, m)
		}
	}
	if len(o.ACL) > 0 {
		rec[fieldACL] = o.ACL
	}
	if !o.Limits.Equal(authz.Limits{}) {
		rec[fieldLimits] = []byte(o.Limits.String())
	}
	if o.Role != authz.RoleDevice {
		rec.set(fieldRole, o.Role.String())
	}
	if o.Comment != "" {
		rec.set(fieldComment, o.Comment)
	}
	return rec
}

// issue adds rec as a new token of the device, or as its user name and password if token is
// zero, and returns its id.
func (d *document) issue(rec *record, name string, token authz.Token, now time.Time) (id string, err error) {
	for id = newID(name); d.taken[id] || len(d.search(id)) > 0; {
		id = newID(name)
	}
	rec.set(fieldID, id)
	if !token.IsZero() {
		rec.set(fieldTokenHash, fmt.Sprintf("sha256:%x", token.Hash()))
	}
	rec.set(fieldCreatedAt, stampText(now))
	return id, d.add(rec)
}

// exists reports whether id is already the name of a token or a device.
func (d *document) exists(id string) bool {
	_, err := d.find(id)
	return err == nil || d.taken[id]
}

// add adds an entry, after all checks that concern it and what the edit has added before.
func (d *document) add(rec *record) error {
	line := rec.line()
	p := lineParser{values: &sharedValues{}}
	var e entry
	switch fault := p.decode(rec, &e); {
	case len(line) > maxLine:
		return errors.New("the entry would be a line of more than 64 KiB")
	case fault != nil:
		return fault
	case d.hashes[e.hash]:
		return errors.New("the token or the user name is given twice")
	}
	d.append(&e, line)
	return nil
}

// append adds the line of an entry that has been checked.
func (d *document) append(e *entry, line []byte) {
	d.taken[e.id], d.taken[e.subject], d.hashes[e.hash] = true, true, true
	d.added = append(d.added, line)
	d.changed = true
}

// stampText returns a time in the form of the file.
func stampText(t time.Time) string { return t.UTC().Format(time.RFC3339) }
