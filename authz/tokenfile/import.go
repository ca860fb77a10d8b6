package tokenfile

import (
	"context"
	"crypto/sha256"
	"encoding/base32"
	"errors"
	"fmt"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/authz"
	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/authz/internal/strictjson"
	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/authz/passwordhash"
)

// Draft is an entry to be imported.
type Draft struct {
	// Line is where the entry begins in its source, from 1.
	Line int
	// JSON is the entry as an object in the form of a token file. The fields token and password
	// are allowed besides, with the text itself, in the place of token_hash and password_hash.
	// Without an id the entry gets one, made from the device and the token or the user name, so
	// that the same source yields the same ids every time. The header and the end line of a token
	// file may be among the drafts.
	JSON []byte
	// Fault, if not nil, is why there is no entry to be made of the line. It is reported with the
	// faults that are found in other lines.
	Fault *Fault
}

// BatchOptions are the options of [NewBatch].
type BatchOptions struct {
	// Rounds is how often PBKDF2 is applied to passwords that are given as text; zero means as
	// [passwordhash.Make] does. Random passwords need few rounds.
	Rounds int
	// Progress, if not nil, is called from several goroutines with the number of passwords
	// hashed so far, and that of all.
	Progress func(done, all int)
}

// Batch has entries that were checked, to be imported by [Edit.Import].
type Batch struct {
	source string
	items  []item
	// Weak has the lines of tokens that are shorter than 16 bytes. One that is not random can be
	// guessed.
	Weak []int
}

// item is an entry of a batch.
type item struct {
	line     int
	entry    *entry
	record   record // until the line of the file has been made
	text     []byte // the line
	password authz.Token
}

// Len returns the number of entries.
func (b *Batch) Len() int { return len(b.items) }

// NewBatch checks the drafts, which come from the source with that name, by the rules of a token
// file, and computes the hashes of tokens and passwords. A fault yields a [*FormatError] with the
// lines of the source. No token file is needed for that.
func NewBatch(ctx context.Context, source string, drafts []Draft, o BatchOptions) (*Batch, error) {
	b := &Batch{source: source, items: make([]item, 0, len(drafts))}
	p := batchParser{
		batch: b, lines: lineParser{values: &sharedValues{}}, now: stampText(time.Now()),
		ids: make(map[string]int, len(drafts)), hashes: make(map[[sha256.Size]byte]int, len(drafts)),
	}
	for _, d := range drafts {
		fault := d.Fault
		if fault == nil {
			fault = p.take(d)
		}
		if fault != nil {
			p.faults = append(p.faults, Fault{Line: d.Line, Field: fault.Field, Reason: fault.Reason})
		}
		if len(p.faults) == maxFaults {
			break
		}
	}
	if len(p.faults) > 0 {
		return nil, &FormatError{Path: source, Faults: p.faults}
	}
	if err := b.hashPasswords(ctx, o); err != nil {
		return nil, err
	}
	return b, nil
}

// batchParser checks drafts one after the other.
type batchParser struct {
	batch  *Batch
	lines  lineParser
	now    string
	ids    map[string]int            // the line of each
	hashes map[[sha256.Size]byte]int // of tokens and user names
	faults []Fault
}

// take checks a draft and adds it to the batch.
func (p *batchParser) take(d Draft) *Fault {
	x := item{line: d.Line, entry: &entry{}}
	text, fault := p.lines.text(d.JSON)
	if fault != nil {
		return fault
	}
	if fault := x.record.scan(text); fault != nil {
		return fault
	}
	switch rec := &x.record; {
	case rec.has(fieldFormat):
		return (&parser{snap: &snapshot{}}).header(rec)
	case rec.has(fieldEnd, fieldCount):
		return (&parser{snap: &snapshot{}, count: len(p.batch.items)}).endLine(d.Line, rec)
	}
	for _, step := range []func(*item) *Fault{p.hashToken, takePassword, p.complete} {
		if fault := step(&x); fault != nil {
			return fault
		}
	}
	if fault := p.unique(x); fault != nil {
		return fault
	}
	if x.password.IsZero() {
		x.text, x.record = x.record.line(), record{}
		if len(x.text) > maxLine {
			return &Fault{Reason: tooLong}
		}
	}
	p.batch.items = append(p.batch.items, x)
	return nil
}

// hashToken replaces a token by its hash.
func (p *batchParser) hashToken(x *item) *Fault {
	raw := x.record[fieldToken]
	if raw == nil {
		return nil
	}
	text, err := strictjson.Text(raw)
	if err != nil {
		return &Fault{Field: "token", Reason: err.Error()}
	}
	token := authz.NewToken(string(text))
	if err := checkGiven(token); err != nil {
		return &Fault{Field: "token", Reason: err.Error()}
	}
	if x.record.has(fieldTokenHash) {
		return &Fault{Field: "token", Reason: "is next to token_hash; give one of the two"}
	}
	if len(text) < strongToken {
		p.batch.Weak = append(p.batch.Weak, x.line)
	}
	x.record.set(fieldToken, nil)
	x.record.set(fieldTokenHash, fmt.Sprintf("sha256:%x", token.Hash()))
	return nil
}

// anyHash stands for the hash of a password until that has been computed.
var anyHash = []byte(`"$6$AAAA$` + strings.Repeat("A", 86) + `=="`)

// takePassword takes a password out of the record, to be hashed later.
func takePassword(x *item) *Fault {
	raw := x.record[fieldPassword]
	if raw == nil {
		return nil
	}
	text, err := strictjson.Text(raw)
	if err == nil {
		x.password = authz.NewToken(string(text))
		err = checkToken(x.password)
	}
	switch {
	case err != nil:
		return &Fault{Field: "password", Reason: err.Error()}
	case x.record.has(fieldPasswordHash):
		return &Fault{Field: "password", Reason: "is next to password_hash; give one of the two"}
	}
	x.record[fieldPassword], x.record[fieldPasswordHash] = nil, anyHash
	return nil
}

// complete adds what the entry lacks, and decodes it.
func (p *batchParser) complete(x *item) *Fault {
	rec := &x.record
	if !rec.has(fieldCreatedAt) {
		rec.set(fieldCreatedAt, p.now)
	}
	if !rec.has(fieldID) {
		name := rec[fieldSubject]
		if name == nil && rec.has(fieldPasswordHash) {
			name = rec[fieldUsername]
		}
		if name == nil {
			return &Fault{Field: "subject", Reason: "is missing; an entry needs a subject, an id, or a user name and a password"}
		}
		text, err := strictjson.Text(name)
		if err != nil {
			return &Fault{Field: "subject", Reason: err.Error()}
		}
		secret := rec[fieldTokenHash]
		if rec.has(fieldPasswordHash) {
			secret = rec[fieldUsername]
		}
		if secret != nil { // otherwise decode names the fault
			sum := sha256.Sum256(secret)
			rec.set(fieldID, idOf(string(text), strings.ToLower(base32.StdEncoding.EncodeToString(sum[:5]))))
		}
	}
	if fault := p.lines.decode(rec, x.entry); fault != nil {
		return fault
	}
	if name := x.entry.subject; name == "." || name == ".." {
		return &Fault{Field: "subject", Reason: ". and .. cannot be in the path of a URL; choose another"}
	}
	return nil
}

// unique reports an entry that has the id, the token or the user name of an earlier one.
func (p *batchParser) unique(x item) *Fault {
	e := x.entry
	if line, ok := p.hashes[e.hash]; ok {
		field, what := fieldTokenHash, "token"
		if e.isPair() {
			field, what = fieldUsername, "user name"
		}
		return &Fault{Field: field.String(), Reason: fmt.Sprintf("the same %s as in line %d; remove one of them", what, line)}
	}
	if line, ok := p.ids[e.id]; ok {
		return &Fault{Field: "id", Reason: fmt.Sprintf("the same as in line %d; give each entry an id of its own", line)}
	}
	p.ids[e.id], p.hashes[e.hash] = x.line, x.line
	return nil
}

// hashPasswords computes the hashes of passwords, on all processors.
func (b *Batch) hashPasswords(ctx context.Context, o BatchOptions) error {
	var todo []*item
	for i := range b.items {
		if !b.items[i].password.IsZero() {
			todo = append(todo, &b.items[i])
		}
	}
	var next, done atomic.Int64
	errs := make([]error, runtime.GOMAXPROCS(0))
	var running sync.WaitGroup
	for worker := range errs {
		running.Go(func() {
			for ctx.Err() == nil && errs[worker] == nil {
				i := int(next.Add(1)) - 1
				if i >= len(todo) {
					return
				}
				errs[worker] = todo[i].hashPassword(o.Rounds)
				if n := int(done.Add(1)); o.Progress != nil {
					o.Progress(n, len(todo))
				}
			}
		})
	}
	running.Wait()
	return errors.Join(append(errs, ctx.Err())...)
}

func (x *item) hashPassword(rounds int) error {
	hash, err := passwordhash.MakeRounds(x.password, rounds)
	if err != nil {
		return err
	}
	x.record.set(fieldPasswordHash, hash)
	p := lineParser{values: &sharedValues{}}
	x.entry = &entry{}
	if fault := p.decode(&x.record, x.entry); fault != nil {
		return fault
	}
	x.text, x.record, x.password = x.record.line(), record{}, authz.Token{}
	return nil
}

// Existing says what an import does with a device or an id that the file has already.
type Existing int

const (
	// RefuseExisting makes them faults.
	RefuseExisting Existing = iota
	// SkipExisting leaves the file's entries as they are.
	SkipExisting
	// ReplaceExisting takes all entries of the device out of the file. Where the new entry has
	// the same id and says the same, its sessions go on.
	ReplaceExisting
)

// Imported is what an import has done.
type Imported struct {
	// Added is how many entries are new in the file, Removed how many were replaced by them,
	// and Skipped how many of the batch were left out.
	Added, Removed, Skipped int
}

// existsError is the error of an import of names that exist.
type existsError struct{ *FormatError }

func (e existsError) Is(target error) bool { return target == ErrExists }

// Import adds the entries of the batch. A fault yields a [*FormatError] with the lines of the
// batch's source, which is [ErrExists] if only names are in the way that the file has already.
func (e *Edit) Import(b *Batch, existing Existing) (done Imported, err error) {
	d, gone := e.d, make(map[int]bool)
	var faults []Fault
	add := make([]*item, 0, len(b.items))
	others := false // faults that have another cause than that names exist
	for i := range b.items {
		x := &b.items[i]
		old := d.inTheWay(x.entry)
		switch {
		case len(old) == 0:
			add = append(add, x)
		case existing == SkipExisting:
			done.Skipped++
		case existing == ReplaceExisting && !slices.ContainsFunc(old, func(o found) bool { return o.subject != x.entry.subject }):
			for _, o := range old {
				gone[o.line] = true
				d.remove(o)
			}
			add = append(add, x)
		default:
			others = others || existing == ReplaceExisting
			faults = append(faults, Fault{Line: x.line, Reason: fmt.Sprintf("%q exists already, as %s", x.entry.subject, old[0].id)})
		}
	}
	for _, x := range add {
		if other := d.snap.withHash(&x.entry.hash); other != nil && !gone[d.lineOf(other)] {
			others = true
			faults = append(faults, Fault{Line: x.line, Reason: fmt.Sprintf("the token or the user name exists already, as %s", other.id)})
		}
		d.append(x.entry, x.text)
	}
	done.Added, done.Removed = len(add), len(gone)
	return done, b.refusal(faults, others)
}

// refusal returns the error for faults, nil if there are none.
func (b *Batch) refusal(faults []Fault, others bool) error {
	if len(faults) == 0 {
		return nil
	}
	slices.SortStableFunc(faults, func(a, b Fault) int { return a.Line - b.Line })
	err := &FormatError{Path: b.source, Faults: faults[:min(len(faults), maxFaults)]}
	if others {
		return err
	}
	return existsError{err}
}

// inTheWay returns the entries that have the device or the id of a new one as theirs, in
// either place.
func (d *document) inTheWay(e *entry) []found {
	all, _ := d.find(e.subject) // none are none in the way
	if e.id != e.subject {
		more, _ := d.find(e.id)
		all = slices.Concat(all, more)
	}
	return all
}

// lineOf returns the line of an entry of the file.
func (d *document) lineOf(e *entry) int {
	all, _ := d.find(e.id) // which has it
	for _, x := range all {
		if x.entry == e {
			return x.line
		}
	}
	return 0
}
