package tokenfile

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"slices"
	"strconv"
	"sync"

	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/authz/internal/strictjson"
)

const (
	formatName = "mqtt-auth-tokens/1"
	maxLine    = 64 << 10 // bytes, without the line end
	// maxShared bounds the distinct subjects and details that are stored while parsing. A fleet
	// has a few that all devices share, or a different one for each device, which need not be
	// stored.
	maxShared = 4096
)

const tooLong = "longer than 64 KiB"

// parser puts one version of the file together from its blocks.
type parser struct {
	snap   *snapshot
	old    *snapshot       // the version before, whose blocks are used again; may be empty
	used   map[*block]bool // the blocks of old that this version has
	lines  lineParser      // for what depends on the lines before
	next   placed          // where the next block stands
	faults []Fault
	headed bool    // the header has been read
	count  int     // lines with an entry, good or bad
	visit  visitor // see parseThrough
	sums   [2][]uint64
}

// visitor is called with an entry, the number of its line, and the line without its end.
type visitor func(e *entry, number int, line []byte) error

// errSameSums means that two entries probably have the same id or the same token.
var errSameSums = errors.New("the same sum twice")

// parseThrough parses a token file from r like parse, and calls visit with each entry before the
// first fault instead of keeping it. Of each entry it keeps two sums, which tell whether two entries
// have the same id or token: the error is errSameSums if they probably have.
func parseThrough(ctx context.Context, r io.Reader, visit visitor) error {
	p := parser{snap: &snapshot{}, old: &snapshot{}, next: placed{line: 1}, visit: visit}
	p.lines.values = &sharedValues{}
	err := readBlocks(ctx, r, p.old, p.lines.values, p.take)
	switch {
	case err != nil && !errors.Is(err, errFaults):
		return err
	case len(p.faults) > 0:
		return &FormatError{Faults: p.faults}
	case ctx.Err() != nil:
		return ctx.Err()
	}
	for _, sums := range p.sums {
		slices.Sort(sums)
		if n := len(sums); len(slices.Compact(sums)) < n {
			return errSameSums
		}
	}
	return nil
}

// parse reads a token file from r. A file that breaks the rules yields a *FormatError,
// without its path.
//
// What the file has in common with an older version, which may be empty, is shared with it and not
// parsed again. A *FormatError then says whether its faults are incomplete.
func parse(ctx context.Context, r io.Reader, old *snapshot) (*snapshot, error) {
	p := parser{snap: &snapshot{blank: true}, old: old, used: make(map[*block]bool), next: placed{line: 1}}
	p.snap.blocks = make([]placed, 0, len(old.blocks)+1)
	p.lines.values = &sharedValues{}
	err := readBlocks(ctx, r, old, p.lines.values, p.take)
	if err != nil && !errors.Is(err, errFaults) {
		return nil, err
	}
	if len(old.blocks) == 0 {
		p.indexAll()
	} else if len(p.faults) == 0 {
		p.indexChanges()
	}
	if len(p.faults) > 0 {
		return nil, &FormatError{Faults: p.faults, incomplete: err != nil && len(old.blocks) > 0}
	}
	if ctx.Err() != nil {
		return nil, ctx.Err()
	}
	return p.snap, nil
}

// errFaults ends the reading because there are enough faults.
var errFaults = errors.New("faults")

// take adds the next block.
func (p *parser) take(j *job) error {
	first := p.next.line == 1
	if first || !j.block.plain || p.snap.end != 0 || p.used[j.block] {
		p.inOrder(j)
	} else {
		p.count += j.count
	}
	b := p.next
	b.block = j.block
	if p.visit == nil {
		p.used[j.block] = true
		p.snap.blocks = append(p.snap.blocks, b)
	}
	p.snap.blank = p.snap.blank && b.blank
	p.snap.pairs += b.pairs
	p.next.line, p.next.offset = b.line+b.lines, b.offset+b.size
	for i := range j.faults {
		j.faults[i].Line += b.line
	}
	slices.SortStableFunc(j.faults, func(a, b Fault) int { return a.Line - b.Line })
	p.faults = append(p.faults, j.faults...)
	if len(p.faults) >= maxFaults || len(p.faults) > 0 && len(p.old.blocks) > 0 {
		p.faults = p.faults[:min(len(p.faults), maxFaults)]
		return errFaults
	}
	if p.visit == nil || len(p.faults) > 0 {
		return nil
	}
	for i := range b.entries {
		e := &b.entries[i]
		p.sums[0], p.sums[1] = append(p.sums[0], sumOfID(e)), append(p.sums[1], sumOfHash(e))
	}
	return j.visit(b.line, p.visit)
}

// inOrder parses a block whose lines depend on those before.
func (p *parser) inOrder(j *job) {
	b := &block{sum: j.block.sum, size: j.size, lines: j.lines, blank: true}
	j.block, j.faults = b, nil
	p.lines.begin(b)
	before, n := p.count, 0
	for line := range bytes.Lines(j.data) {
		f := p.line(p.next.line+n, n, line)
		p.count = before + p.lines.count
		if slices.Contains(j.long, n) {
			f = &Fault{Reason: tooLong}
		}
		if f != nil {
			f.Line = n
			j.faults = append(j.faults, *f)
		}
		n++
	}
	p.lines.end(b)
}

// line parses line n, which is number k of its block.
func (p *parser) line(n, k int, line []byte) *Fault {
	if n == 1 && bytes.HasPrefix(line, []byte("\xef\xbb\xbf")) {
		return &Fault{Reason: "starts with a byte order mark; save the file as UTF-8 without one"}
	}
	if p.snap.end != 0 {
		line, f := p.lines.text(line)
		if f == nil && len(line) > 0 {
			f = &Fault{Reason: fmt.Sprintf("is after the end line, line %d", p.snap.end)}
		}
		return f
	}
	f, special := p.lines.line(k, line)
	switch {
	case special == nil:
		return f
	case special.has(fieldFormat):
		return p.header(special)
	}
	return p.endLine(n, special)
}

// indexAll makes the indexes of all entries.
func (p *parser) indexAll() {
	var uniqueIDs, uniqueHashes bool
	var other sync.WaitGroup
	other.Go(func() {
		p.snap.byHash, uniqueHashes = newIndex(p.count, p.snap.all(), sumOfHash, func(a, b *entry) bool { return a.hash == b.hash })
	})
	p.snap.byID, uniqueIDs = newIndex(p.count, p.snap.all(), sumOfID, func(a, b *entry) bool { return a.id == b.id })
	other.Wait()
	if uniqueIDs && uniqueHashes {
		return
	}
	p.faults = append(p.faults, p.duplicates()...)
	slices.SortStableFunc(p.faults, func(a, b Fault) int { return a.Line - b.Line })
	p.faults = p.faults[:min(len(p.faults), maxFaults)]
}

// duplicates returns the faults of the first entries that have the id or the token of another.
func (p *parser) duplicates() (faults []Fault) {
	ids, hashes := make(map[string]int, p.count), make(map[[sha256.Size]byte]int, p.count)
	for line, e := range p.snap.entries() {
		if len(faults) == maxFaults {
			break
		}
		if other, ok := ids[e.id]; ok {
			faults = append(faults, Fault{Line: line, Field: "id",
				Reason: fmt.Sprintf("the same as in line %d; give each entry an id of its own", other)})
			continue
		}
		ids[e.id] = line
		if other, ok := hashes[e.hash]; ok && e.isPair() {
			faults = append(faults, Fault{Line: line, Field: "username",
				Reason: fmt.Sprintf("the same user name as in line %d; remove one of them", other)})
			continue
		} else if ok {
			faults = append(faults, Fault{Line: line, Field: "token_hash",
				Reason: fmt.Sprintf("the same token as in line %d; remove one of them", other)})
			continue
		}
		hashes[e.hash] = line
	}
	return faults
}

// indexChanges makes the indexes from those of the old version, unless so much is new that they
// would be slow.
func (p *parser) indexChanges() {
	if p.old.byID.crowdedBy(p.count) {
		p.indexAll()
		return
	}
	s := p.snap
	s.byID, s.byHash = p.old.byID.clone(), p.old.byHash.clone()
	for e := range p.old.without(s) {
		s.byID.remove(slot{sumOfID(e), e})
		s.byHash.remove(slot{sumOfHash(e), e})
	}
	for e := range s.without(p.old) {
		if s.withID(e.id) != nil || s.withHash(&e.hash) != nil {
			p.faults = p.duplicates()
			return
		}
		s.byID.add(slot{sumOfID(e), e})
		s.byHash.add(slot{sumOfHash(e), e})
	}
}

// header parses the line that names the format.
func (p *parser) header(rec *record) *Fault {
	switch text, err := strictjson.Text(rec[fieldFormat]); {
	case err != nil:
		return &Fault{Field: "format", Reason: err.Error()}
	case string(text) != formatName:
		return &Fault{Field: "format", Reason: "is not " + formatName + ", which is all that this version reads"}
	case !rec.only(fieldFormat):
		return &Fault{Field: "format", Reason: "no other field is allowed next to it"}
	case p.headed || p.count > 0:
		return &Fault{Field: "format", Reason: "must occur once, before the first entry"}
	}
	p.headed = true
	return nil
}

// endLine parses the line with the number of entries.
func (p *parser) endLine(n int, rec *record) *Fault {
	p.snap.end = n
	count, err := strconv.Atoi(string(rec[fieldCount]))
	if string(rec[fieldEnd]) != "true" || err != nil || count < 0 || !rec.only(fieldEnd, fieldCount) {
		return &Fault{Field: "end", Reason: `the end line must read {"end":true,"count":N}, N being the number of entries`}
	}
	if count != p.count {
		return &Fault{Field: "count", Reason: fmt.Sprintf("says %d, but there are %d entries: some were lost, or added by hand", count, p.count)}
	}
	return nil
}
