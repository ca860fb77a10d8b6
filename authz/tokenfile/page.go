package tokenfile

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/authz"
	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/authz/files"
	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/authz/internal/strictjson"
)

// Query selects entries, of which a [Page] has a part. The zero value selects all.
type Query struct {
	// ID selects the entry with that id, Subject those of a device, and Pattern by id and device,
	// see [Edit.Match]. An entry has to be selected by each of these that is not empty.
	ID, Subject, Pattern string
	// State selects the entries in one of [States]; empty means any.
	State string
	// ExpiresWithin selects the entries that have not expired but will within that time; 0 means
	// all.
	ExpiresWithin time.Duration
	// Now is the time for State and ExpiresWithin. It must be set if one of them is.
	Now time.Time
	// After is the id of an entry; only those behind it are selected. Empty means all.
	After string
	// First is how many of the selected entries are left out, and Limit how many a page has at most;
	// 0 means all others.
	First, Limit int
}

// Page is a part of the entries that a [Query] selects.
type Page struct {
	// Entries are in the order in which they were added.
	Entries []Entry
	// Total is how many entries the query selects, wherever they are.
	Total int
	// Last is the id of the last entry of the page, for the next Query.After.
	Last string
	// Faults name the entries of the page that break the rules. A database may have such; they are
	// not among Entries.
	Faults []string
}

// pager applies a query to entries, one after the other.
type pager struct {
	Query
	match func(string) bool
	begun bool // the entry After has passed
	total int
}

func newPager(q Query) *pager {
	p := &pager{Query: q, match: func(string) bool { return true }, begun: q.After == ""}
	if q.Pattern != "" {
		p.match = matcher(q.Pattern)
	}
	return p
}

// takes reports whether the next entry is on the page, and counts it if the query selects it.
func (p *pager) takes(e *entry) bool {
	if !p.begun {
		p.begun = e.id == p.After
		return false
	}
	if p.ID != "" && e.id != p.ID || p.Subject != "" && e.subject != p.Subject || !p.match(e.id) && !p.match(e.subject) ||
		p.State != "" && e.state(p.Now) != p.State || p.ExpiresWithin > 0 && !e.expiresWithin(p.Now, p.ExpiresWithin) {
		return false
	}
	p.total++
	return p.total > p.First && (p.Limit == 0 || p.total <= p.First+p.Limit)
}

// page returns the page with these entries, after all entries of the file have passed.
func (p *pager) page(entries []Entry) (Page, error) {
	if !p.begun {
		return Page{}, fmt.Errorf("%w: %q", ErrNotFound, p.After)
	}
	page := Page{Entries: entries, Total: p.total}
	if len(entries) > 0 {
		page.Last = entries[len(entries)-1].ID
	}
	return page, nil
}

// state is [Entry.State].
func (e *entry) state(now time.Time) string {
	return Entry{Disabled: e.disabled, Expires: unix(e.expires), Only: authz.Conditions{NotBefore: unix(e.notBefore)}}.State(now)
}

// expiresWithin reports whether the entry has not expired but will within that time.
func (e *entry) expiresWithin(now time.Time, within time.Duration) bool {
	end := unix(e.expires)
	return e.expires != 0 && end.After(now) && !end.After(now.Add(within))
}

// ReadPage reads the file at path and returns a page of its entries. It holds the page in memory
// and 16 bytes for each entry of the file. Its errors are those of [List] and, if there is no entry
// Query.After, [ErrNotFound].
func ReadPage(ctx context.Context, path string, q Query) (Page, error) {
	p := newPager(q)
	var entries []Entry
	err := readThrough(ctx, path, func(e *entry, number int, line []byte) error {
		if p.takes(e) {
			rec, _ := scanRecord(line) // has been parsed before
			entries = append(entries, describe(e, number, &rec))
		}
		return nil
	})
	if err != nil {
		return Page{}, err
	}
	return p.page(entries)
}

// Page is [ReadPage] of the file. While the file is as it was when it took effect, its entries are
// in memory, and only the lines of the page are read.
func (f *File) Page(ctx context.Context, q Query) (Page, error) {
	if page, err := f.pageInEffect(q); err == nil {
		return page, nil
	}
	return ReadPage(ctx, f.path, q)
}

// pageInEffect returns a page of the version in effect, or an error if the file may be another one.
func (f *File) pageInEffect(q Query) (Page, error) {
	content, info, err := files.Open(f.path)
	if err != nil {
		return Page{}, err
	}
	defer func() { _ = content.Close() }()
	f.mu.Lock()
	snap, stamp := f.current.Load(), f.stamp
	f.mu.Unlock()
	if !stamp.Describes(info) {
		return Page{}, files.ErrChanging
	}
	p, d := newPager(q), &document{content: content, snap: snap}
	var entries []Entry
	for number, e := range snap.entries() {
		if !p.takes(e) {
			continue
		}
		rec, err := d.record(found{e, number})
		if err != nil {
			return Page{}, err
		}
		if id, err := strictjson.Text(rec[fieldID]); err != nil || string(id) != e.id {
			return Page{}, files.ErrChanging
		}
		entries = append(entries, describe(e, number, &rec))
	}
	if err := files.Unchanged(content, info); err != nil {
		return Page{}, err
	}
	return p.page(entries)
}

// readThrough parses the file at path and calls visit with each entry, the number of its line and
// the line without its end, which are valid until visit returns. It keeps no entry. The error is
// that of visit, or a [*FormatError] if the file breaks the rules, also where that shows only after
// visit was called.
func readThrough(ctx context.Context, path string, visit visitor) error {
	f, err := open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return err
	}
	_, err = safely(func() (bool, error) { return true, parseThrough(ctx, f, visit) })
	if errors.Is(err, errSameSums) {
		_, err = parseWith(ctx, f, &snapshot{}, noDigest{}) // for the exact faults
	}
	if changed := files.Unchanged(f, info); changed != nil {
		return fmt.Errorf("%s: %w", path, changed)
	}
	return named(err, path)
}

// visit calls visit with each entry of the block.
func (j *job) visit(first int, visit visitor) error {
	n, rest := 0, j.block.entries
	for line := range bytes.Lines(j.data) {
		if len(rest) > 0 && int(rest[0].line) == n {
			if err := visit(&rest[0], first+n, bytes.TrimSpace(line)); err != nil {
				return err
			}
			rest = rest[1:]
		}
		n++
	}
	return nil
}
