package tokenfile

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/authz"
)

// document is a token file being edited: its lines and their entries. Lines that are not
// changed keep every byte.
type document struct {
	lines   [][]byte // with their line ends; nil for one that was removed
	snap    *snapshot
	added   [][]byte // lines to insert after the last entry
	changed bool
}

// parseDocument parses data. It refuses a file that breaks the rules.
func parseDocument(data []byte) (*document, error) {
	snap, err := parse(context.Background(), bytes.NewReader(data))
	if err != nil {
		return nil, err
	}
	return &document{lines: slices.Collect(bytes.Lines(data)), snap: snap}, nil
}

// bytes returns the content of the edited file.
func (d *document) bytes() []byte {
	end := len(d.lines)
	if d.snap.end > 0 {
		end = d.snap.end - 1
	}
	var out bytes.Buffer
	for _, line := range d.lines[:end] {
		out.Write(line)
	}
	if n := out.Len(); len(d.added) > 0 && n > 0 && out.Bytes()[n-1] != '\n' {
		out.WriteByte('\n')
	}
	for _, line := range d.added {
		out.Write(line)
	}
	if d.snap.end > 0 {
		out.Write(d.endLine())
		for _, line := range d.lines[d.snap.end:] {
			out.Write(line)
		}
	}
	if len(bytes.TrimSpace(out.Bytes())) == 0 {
		// A file without a line would be refused as the result of a failed write.
		return header()
	}
	return out.Bytes()
}

// endLine returns the end line with the current number of entries.
func (d *document) endLine() []byte {
	count := len(d.added)
	for e := range d.snap.entries() {
		if d.lines[e.line-1] != nil {
			count++
		}
	}
	var rec record
	rec.set(fieldEnd, true)
	rec.set(fieldCount, count)
	return rec.line()
}

// header returns the line that names the format.
func header() []byte {
	var rec record
	rec.set(fieldFormat, formatName)
	return rec.line()
}

// find returns the entries with that id and those of that device.
func (d *document) find(name string) ([]*entry, error) {
	var found []*entry
	for e := range d.snap.entries() {
		if e.id == name || e.subject == name {
			found = append(found, e)
		}
	}
	if len(found) == 0 {
		return nil, ErrNotFound
	}
	return found, nil
}

// record parses the line of e in order to change it.
func (d *document) record(e *entry) record {
	rec, _ := scanRecord(bytes.TrimSpace(d.lines[e.line-1])) // parsed before
	return rec
}

func (d *document) replace(e *entry, rec *record) {
	d.lines[e.line-1] = rec.line()
	d.changed = true
}

func (d *document) remove(e *entry) {
	d.lines[e.line-1] = nil
	d.changed = true
}

func (d *document) add(rec *record) {
	d.added = append(d.added, rec.line())
	d.changed = true
}

// create adds a token for a device.
func (d *document) create(o CreateOptions, now time.Time) (Created, error) {
	if err := o.check(now); err != nil {
		return Created{}, err
	}
	var rec record
	rec.set(fieldSubject, o.Name)
	if !o.Expires.IsZero() {
		rec.set(fieldExpireAt, stampText(o.Expires))
	}
	if len(o.ClientIDs) > 0 {
		rec.set(fieldClientID, o.ClientIDs)
	}
	if o.Comment != "" {
		rec.set(fieldComment, o.Comment)
	}
	if o.Username != "" {
		return d.createUser(&rec, o, now)
	}
	token := o.Token
	if token.IsZero() {
		token = generate()
	}
	if other := d.snap.byHash[token.Hash()]; other != nil {
		return Created{}, fmt.Errorf("the token is in the file already, as %s", other.id)
	}
	made := Created{Name: o.Name, Token: token, Expires: o.Expires.Truncate(time.Second)}
	if len(token.Reveal()) < strongToken {
		made.Warning = fmt.Sprintf("the token is shorter than %d bytes; one that is not random can be guessed", strongToken)
	}
	made.ID = d.issue(&rec, o.Name, token, now)
	return made, nil
}

// issue adds rec as a new token of the device, or as its user name and password if token is
// zero, and returns its id.
func (d *document) issue(rec *record, name string, token authz.Token, now time.Time) (id string) {
	for id = newID(name); d.exists(id); {
		id = newID(name)
	}
	rec.set(fieldID, id)
	if !token.IsZero() {
		rec.set(fieldTokenHash, fmt.Sprintf("sha256:%x", token.Hash()))
	}
	rec.set(fieldCreatedAt, stampText(now))
	d.add(rec)
	return id
}

// exists reports whether id is already the name of a token or a device.
func (d *document) exists(id string) bool {
	_, err := d.find(id)
	return err == nil
}

// rotate gives a device a new token that replaces its last one.
func (d *document) rotate(name string, overlap time.Duration, now time.Time) (Created, error) {
	if overlap < 0 {
		return Created{}, errors.New("the overlap is negative")
	}
	old, model := d.tokensOf(name)
	if len(old) == 0 {
		if d.hasUser(name) {
			return Created{}, errors.New("the device has a user name and a password, and no token; give it another password instead")
		}
		return Created{}, ErrNotFound
	}
	if model == nil {
		return Created{}, errors.New("all tokens of the device are disabled; enable or revoke them first")
	}
	rec := d.record(model)
	expires := d.renewed(model, &rec, now)
	if !expires.IsZero() && !expires.After(now) {
		return Created{}, errors.New("the token has expired, and when it was made is not known; revoke it and create a new one")
	}
	rec.set(fieldSubject, name)
	rec.set(fieldExpireAt, nil)
	if !expires.IsZero() {
		rec.set(fieldExpireAt, stampText(expires))
	}
	made := Created{Name: name, Token: generate(), Expires: expires}
	made.ID = d.issue(&rec, name, made.Token, now)
	for _, e := range old {
		d.retire(e, overlap, now)
	}
	return made, nil
}

// tokensOf returns the entries of a device that have a token, and the last of them that is not disabled, which is
// the model for the next.
func (d *document) tokensOf(name string) (all []*entry, model *entry) {
	for e := range d.snap.entries() {
		if e.subject != name || e.isPair() {
			continue
		}
		all = append(all, e)
		if !e.disabled {
			model = e
		}
	}
	return all, model
}

// renewed returns the expiry of the successor of e: it is valid for as long as e was, or until
// e's expiry if the creation time of e is not known.
func (d *document) renewed(e *entry, rec *record, now time.Time) time.Time {
	if e.expires == 0 {
		return time.Time{}
	}
	if rec[fieldCreatedAt] == nil {
		return unix(e.expires)
	}
	created, _ := decodeTime(rec[fieldCreatedAt]) // parsed before
	return unix(now.Unix() + e.expires - created)
}

// retire lets an old token expire at the end of the overlap, unless it expires before. It
// removes a token that would not be valid in that time.
func (d *document) retire(e *entry, overlap time.Duration, now time.Time) {
	until := now.Add(overlap).Truncate(time.Second)
	switch {
	case !until.After(now), e.expires != 0 && e.expires <= now.Unix(), e.notBefore >= until.Unix():
		d.remove(e)
	case e.expires == 0 || e.expires > until.Unix():
		rec := d.record(e)
		rec.set(fieldExpireAt, stampText(until))
		d.replace(e, &rec)
	}
}

// setDisabled disables or enables tokens. It returns the ids of all tokens that name stands
// for.
func (d *document) setDisabled(name string, off bool) ([]string, error) {
	found, err := d.find(name)
	if err != nil {
		return nil, err
	}
	for _, e := range found {
		if e.disabled == off {
			continue
		}
		rec := d.record(e)
		rec.set(fieldDisabled, nil)
		if off {
			rec.set(fieldDisabled, true)
		}
		d.replace(e, &rec)
	}
	return ids(found), nil
}

// setExpiry changes the expiry of tokens. It returns the ids of all tokens that name stands
// for.
func (d *document) setExpiry(name string, expires time.Time) ([]string, error) {
	found, err := d.find(name)
	if err != nil {
		return nil, err
	}
	for _, e := range found {
		if unix(e.expires).Equal(expires.Truncate(time.Second)) {
			continue
		}
		rec := d.record(e)
		rec.set(fieldExpireAt, nil)
		if !expires.IsZero() {
			rec.set(fieldExpireAt, stampText(expires))
		}
		d.replace(e, &rec)
	}
	return ids(found), nil
}

// revoke removes tokens and returns their ids.
func (d *document) revoke(name string) ([]string, error) {
	found, err := d.find(name)
	if err != nil {
		return nil, err
	}
	for _, e := range found {
		d.remove(e)
	}
	return ids(found), nil
}

func ids(entries []*entry) []string {
	all := make([]string, len(entries))
	for i, e := range entries {
		all[i] = e.id
	}
	return all
}

// stampText returns a time in the form of the file.
func stampText(t time.Time) string { return t.UTC().Format(time.RFC3339) }
