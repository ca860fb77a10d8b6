package tokenfile

import (
	"bufio"
	"bytes"
	"cmp"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"iter"
	"maps"
	"slices"
	"time"

	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/authz/files"
)

// document is a token file being edited. Lines that are not changed keep every byte, and are
// not held in memory.
type document struct {
	content io.ReaderAt
	snap    *snapshot
	edits   map[int][]byte // by the number of the line; nil for one that is taken out
	added   [][]byte       // lines to be put after the last entry
	changed bool

	byID      bool                       // names of entries to change are ids alone
	names     names                      // of an edit that looks for several
	searches  int                        // of find
	taken     map[string]bool            // ids and devices of what was added
	hashes    map[[sha256.Size]byte]bool // tokens and user names of what was added
	models    map[string]string          // by the id of what was added: the id from which it has the conditions
	scope     *Scope                     // nil for a whole file; see EditLines
	inScope   func(name string) bool     // of the scope
	line      []byte                     // the last block that was read for record
	lineBlock int64                      // and its offset in the file, from 1
}

// newDocument parses content; a file that breaks the rules is not touched.
func newDocument(content file) (*document, error) {
	snap, err := parseWith(context.Background(), content, &snapshot{}, noDigest{})
	if err != nil {
		return nil, err
	}
	return &document{
		content: content, snap: snap, edits: make(map[int][]byte),
		taken: make(map[string]bool), hashes: make(map[[sha256.Size]byte]bool), models: make(map[string]string),
	}, nil
}

// file is what an edit reads: an open file, or the content of one that is to be created.
type file interface {
	io.ReadSeeker
	io.ReaderAt
}

// writeTo writes the document as it is after the edits.
func (d *document) writeTo(w io.Writer) error {
	if d.snap.end > 0 {
		d.edits[d.snap.end] = bytes.Join(append(d.added, d.endLine()), nil)
	}
	out := &lineWriter{w: bufio.NewWriterSize(w, 1<<20), buffer: make([]byte, 1<<20)}
	lines := slices.Sorted(maps.Keys(d.edits))
	var from, to int64 // offsets of blocks that are not edited and are copied at once
	for _, b := range d.snap.blocks {
		n, _ := slices.BinarySearch(lines, b.line)
		if n < len(lines) && lines[n] < b.line+b.lines {
			err := cmp.Or(out.copy(d.content, from, to), d.writeBlock(out, b))
			if err != nil {
				return err
			}
			from = b.offset + b.size
		}
		to = b.offset + b.size
	}
	if err := out.copy(d.content, from, to); err != nil {
		return err
	}
	if d.snap.end == 0 && len(d.added) > 0 {
		if out.last != 0 && out.last != '\n' {
			_, _ = out.Write([]byte{'\n'})
		}
		_, _ = out.Write(bytes.Join(d.added, nil))
	}
	if !out.text {
		// A file without a line would be refused as the result of a failed write.
		_, _ = out.Write(header())
	}
	return cmp.Or(out.err, out.w.Flush())
}

// writeBlock writes a block of which lines are edited.
func (d *document) writeBlock(out *lineWriter, b placed) error {
	data := make([]byte, b.size)
	if _, err := d.content.ReadAt(data, b.offset); err != nil {
		return err
	}
	n := b.line
	for line := range bytes.Lines(data) {
		if edited, ok := d.edits[n]; ok {
			line = edited
		}
		_, _ = out.Write(line)
		n++
	}
	return nil
}

// lineWriter writes, and remembers what decides how a file ends. After an error it writes
// nothing more.
type lineWriter struct {
	w      *bufio.Writer
	buffer []byte // of copy
	err    error
	last   byte // 0 at the beginning
	text   bool // there was more than white space
}

// copy writes the bytes of content between two offsets.
func (o *lineWriter) copy(content io.ReaderAt, from, to int64) error {
	_, err := io.CopyBuffer(o, io.NewSectionReader(content, from, to-from), o.buffer)
	return err
}

func (o *lineWriter) Write(b []byte) (int, error) {
	if o.err == nil && len(b) > 0 {
		o.last = b[len(b)-1]
		o.text = o.text || len(bytes.TrimSpace(b)) > 0
		_, o.err = o.w.Write(b)
	}
	return len(b), o.err
}

// endLine returns the end line with the current number of entries.
func (d *document) endLine() []byte {
	count := d.snap.len() + len(d.added)
	for line, edited := range d.edits {
		if edited == nil && line != d.snap.end {
			count--
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

// record parses the line of e in order to change it.
func (d *document) record(e found) (record, error) {
	b := d.snap.blockOf(e.line)
	if d.lineBlock != b.offset+1 {
		d.line, d.lineBlock = make([]byte, b.size), b.offset+1
		if _, err := d.content.ReadAt(d.line, b.offset); err != nil {
			return record{}, err
		}
	}
	line, _ := nth(bytes.Lines(d.line), e.line-b.line)
	rec, fault := scanRecord(bytes.TrimSpace(line)) // has been parsed before
	if fault != nil {
		return record{}, files.ErrChanging
	}
	return rec, nil
}

// nth returns element n of the sequence.
func nth[T any](all iter.Seq[T], n int) (element T, ok bool) {
	for x := range all {
		if n == 0 {
			return x, true
		}
		n--
	}
	return element, false
}

func (d *document) replace(e found, rec *record) {
	d.edits[e.line] = rec.line()
	d.changed = true
}

func (d *document) remove(e found) {
	d.edits[e.line] = nil
	d.changed = true
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
		return Created{}, fmt.Errorf("%w: %q", ErrNotFound, name)
	}
	if model == nil {
		return Created{}, errors.New("all tokens of the device are disabled; enable or revoke them first")
	}
	rec, err := d.record(*model)
	if err != nil {
		return Created{}, err
	}
	expires := d.renewed(model.entry, &rec, now)
	if !expires.IsZero() && !expires.After(now) {
		return Created{}, errors.New("the token has expired, and when it was made is not known; revoke it and create a new one")
	}
	rec.set(fieldSubject, name)
	rec.set(fieldExpireAt, nil)
	if !expires.IsZero() {
		rec.set(fieldExpireAt, stampText(expires))
	}
	made := Created{Name: name, Token: generate(), Expires: expires, Role: model.entry.authorization().Role}
	if made.ID, err = d.issue(&rec, name, made.Token, now); err != nil {
		return Created{}, err
	}
	d.models[made.ID] = model.id
	for _, e := range old {
		if err := d.retire(e, overlap, now); err != nil {
			return Created{}, err
		}
	}
	return made, nil
}

// tokensOf returns the entries of a device that have a token, and the last of them that is not
// disabled, which is the model for the next.
func (d *document) tokensOf(name string) (all []found, model *found) {
	named, _ := d.find(name) // none are none of the device
	for _, e := range named {
		if e.subject != name || e.isPair() {
			continue
		}
		all = append(all, e)
		if !e.disabled {
			model = &all[len(all)-1]
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
func (d *document) retire(e found, overlap time.Duration, now time.Time) error {
	until := now.Add(overlap).Truncate(time.Second)
	switch {
	case !until.After(now), e.expires != 0 && e.expires <= now.Unix(), e.notBefore >= until.Unix():
		d.remove(e)
	case e.expires == 0 || e.expires > until.Unix():
		rec, err := d.record(e)
		if err != nil {
			return err
		}
		rec.set(fieldExpireAt, stampText(until))
		d.replace(e, &rec)
	}
	return nil
}

// setDisabled disables or enables tokens. It returns the ids of all tokens that the names stand
// for.
func (d *document) setDisabled(off bool, names []string) ([]string, error) {
	found, err := d.findAll(names)
	if err != nil {
		return nil, err
	}
	for _, e := range found {
		if e.disabled == off {
			continue
		}
		rec, err := d.record(e)
		if err != nil {
			return nil, err
		}
		rec.set(fieldDisabled, nil)
		if off {
			rec.set(fieldDisabled, true)
		}
		d.replace(e, &rec)
	}
	return ids(found), nil
}

// setExpiry changes the expiry of tokens. It returns the ids of all tokens that the names stand
// for.
func (d *document) setExpiry(expires time.Time, names []string) ([]string, error) {
	found, err := d.findAll(names)
	if err != nil {
		return nil, err
	}
	for _, e := range found {
		if unix(e.expires).Equal(expires.Truncate(time.Second)) {
			continue
		}
		rec, err := d.record(e)
		if err != nil {
			return nil, err
		}
		rec.set(fieldExpireAt, nil)
		if !expires.IsZero() {
			rec.set(fieldExpireAt, stampText(expires))
		}
		d.replace(e, &rec)
	}
	return ids(found), nil
}

// revoke removes tokens and returns their ids.
func (d *document) revoke(names []string) ([]string, error) {
	found, err := d.findAll(names)
	if err != nil {
		return nil, err
	}
	for _, e := range found {
		d.remove(e)
	}
	return ids(found), nil
}
