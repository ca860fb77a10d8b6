package tokenfile

import (
	"bytes"
	"crypto/sha256"
	"maps"
	"slices"

	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/authz/internal/strictjson"
)

// Row is an entry with everything that a store other than a file keeps about it.
type Row struct {
	Entry
	// TokenHash is the SHA-256 of the token. It is zero if the entry has a password.
	TokenHash [sha256.Size]byte
	// PasswordHash is the stored hash of the password. It is empty if the entry has a token.
	PasswordHash string
	// RawACL and RawLimits are the fields acl and limits as JSON, nil without them.
	RawACL, RawLimits []byte
	// SuccessorOf is the id of the entry from which [Edit.Rotate] has taken the conditions. It is
	// empty for every other entry.
	SuccessorOf string
}

// Change is an entry before and after an edit. Both have the same id and the same token or user
// name.
type Change struct {
	Old, New Row
	// Moved means that the entry was removed and added again, so that it is now the last one.
	Moved bool
}

// Changes are what an edit has changed.
type Changes struct {
	Removed []string // ids
	Changed []Change
	Added   []Row // in the order in which they were added
}

// EditLines makes an edit of entries that are kept in another store. lines has those in the scope,
// each a line in the form of a token file, in the order in which they were added. The edit may
// look up nothing outside of the scope, and panics if it does. A line that breaks the rules yields
// a [*FormatError]; an error of change is returned as it is.
func EditLines(lines []byte, s Scope, change func(*Edit) error) (*Changes, error) {
	d, err := newDocument(bytes.NewReader(lines))
	if err != nil {
		return nil, err
	}
	d.scope, d.inScope = &s, s.names()
	if err := change(&Edit{d}); err != nil {
		return nil, err
	}
	return d.changes()
}

// changes returns what the edit has changed.
func (d *document) changes() (*Changes, error) {
	c, gone := &Changes{}, make(map[string]Row)
	var lines LineReader
	for line, e := range d.snap.entries() {
		edited, ok := d.edits[line]
		if !ok {
			continue
		}
		rec, err := d.record(found{e, line})
		if err != nil {
			return nil, err
		}
		old, err := lines.row(rec.line())
		if err != nil {
			return nil, err
		}
		if edited == nil {
			gone[e.id] = old
			continue
		}
		now, err := lines.row(edited)
		if err != nil {
			return nil, err
		}
		c.Changed = append(c.Changed, Change{Old: old, New: now})
	}
	for _, line := range d.added {
		row, err := lines.row(line)
		if err != nil {
			return nil, err
		}
		row.SuccessorOf = d.models[row.ID]
		if old, ok := gone[row.ID]; ok && old.credential() == row.credential() {
			c.Changed = append(c.Changed, Change{Old: old, New: row, Moved: true})
			delete(gone, row.ID)
			continue
		}
		c.Added = append(c.Added, row)
	}
	c.Removed = slices.Collect(maps.Keys(gone))
	return c, nil
}

// credential returns what distinguishes the token or the user name of the row.
func (r *Row) credential() [sha256.Size]byte {
	if r.Password {
		return hashOfUser(r.Only.Usernames[0])
	}
	return r.TokenHash
}

// LineReader reads lines of a token file that are kept elsewhere. It shares memory among the
// entries. The zero value is ready for use, by one goroutine at a time.
type LineReader struct{ parser lineParser }

// Entry returns the entry in a line. The error is a [*Fault] without the number of the line.
func (r *LineReader) Entry(line []byte) (Entry, error) {
	e, rec, err := r.read(line)
	if err != nil {
		return Entry{}, err
	}
	return describe(e, 0, rec), nil
}

// row returns the row of a line.
func (r *LineReader) row(line []byte) (Row, error) {
	e, rec, err := r.read(line)
	if err != nil {
		return Row{}, err
	}
	row := Row{Entry: describe(e, 0, rec), RawACL: rec[fieldACL], RawLimits: rec[fieldLimits]}
	if !row.Password {
		row.TokenHash = e.hash
		return row, nil
	}
	hash, err := strictjson.Text(rec[fieldPasswordHash])
	row.PasswordHash = string(hash)
	return row, err
}

// read returns the entry in a line, and its record, which is valid until the next call.
func (r *LineReader) read(line []byte) (*entry, *record, error) {
	if r.parser.values == nil {
		r.parser.values = &sharedValues{}
	}
	e, rec := &entry{}, &r.parser.record
	if fault := rec.scan(bytes.TrimSpace(line)); fault != nil {
		return nil, nil, fault
	}
	if fault := r.parser.decode(rec, e); fault != nil {
		return nil, nil, fault
	}
	return e, rec, nil
}
