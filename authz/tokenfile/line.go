package tokenfile

import (
	"bytes"
	"errors"
	"strings"
	"sync"
	"unicode/utf8"

	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/authz/internal/strictjson"
)

// lineParser parses the lines of a block, each by itself.
type lineParser struct {
	values  *sharedValues
	ids     strings.Builder    // see id
	raw     []byte             // scratch for a key of details
	details map[string]*detail // those of values that were used before, without a lock
	record  record             // of the last line
	entries []entry            // of the block
	count   int                // lines of the block with an entry, good or bad
	blank   bool
}

// sharedValues are values that many entries may share. All parsers of a file use the same.
type sharedValues struct {
	subjects shared[string]
	details  shared[*detail] // by the raw JSON of their fields
}

// shared remembers the first values that are stored.
type shared[T any] struct {
	mu     sync.Mutex
	values map[string]T
}

func (s *shared[T]) get(key []byte) (value T, ok bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	value, ok = s.values[string(key)]
	return value, ok
}

// put stores the value unless there is one, and returns the one that is to be used.
func (s *shared[T]) put(key []byte, value T) T {
	s.mu.Lock()
	defer s.mu.Unlock()
	if other, ok := s.values[string(key)]; ok {
		return other
	}
	if s.values == nil {
		s.values = make(map[string]T)
	}
	if len(s.values) < maxShared {
		s.values[string(key)] = value
	}
	return value
}

// begin is called before the lines of b.
func (p *lineParser) begin(b *block) {
	p.entries, p.count, p.blank = p.entries[:0], 0, true
}

// end is called after the lines of b.
func (p *lineParser) end(b *block) {
	if b.blank = p.blank; len(p.entries) == 0 {
		return
	}
	size := 0
	for i := range p.entries {
		size += len(p.entries[i].id)
	}
	var ids strings.Builder
	ids.Grow(size)
	b.entries = make([]entry, len(p.entries))
	for i := range p.entries {
		from, to := &p.entries[i], &b.entries[i]
		ids.WriteString(from.id)
		to.id, to.subject = ids.String()[ids.Len()-len(from.id):], from.subject
		if strings.HasPrefix(to.id, to.subject) {
			to.subject = to.id[:len(to.subject)]
		}
		to.hash, to.expires, to.notBefore = from.hash, from.expires, from.notBefore
		to.detail, to.line, to.disabled = from.detail, from.line, from.disabled
		if to.isPair() {
			b.pairs++
		}
	}
}

// text returns the line without white space around it.
func (p *lineParser) text(line []byte) ([]byte, *Fault) {
	line = bytes.Trim(line, " \t\r\n")
	if len(line) == 0 {
		return nil, nil
	}
	p.blank = false
	switch {
	case bytes.IndexByte(line, 0) >= 0:
		return nil, &Fault{Reason: "contains a NUL byte: the file is damaged, or not UTF-8"}
	case !utf8.Valid(line):
		return nil, &Fault{Reason: "is not valid UTF-8"}
	}
	return line, nil
}

// line parses a line, which is number n of its block. It returns the record of a header or
// an end line, which is valid until the next call.
func (p *lineParser) line(n int, line []byte) (f *Fault, special *record) {
	line, f = p.text(line)
	if f != nil || len(line) == 0 || line[0] == '#' {
		return at(f, n), nil
	}
	rec := &p.record
	if f := rec.scan(line); f != nil {
		return at(f, n), nil
	}
	if rec.has(fieldFormat, fieldEnd, fieldCount) {
		return nil, rec
	}
	p.count++
	p.entries = append(p.entries, entry{line: int32(n)})
	last := len(p.entries) - 1
	if f := p.decode(rec, &p.entries[last]); f != nil {
		p.entries = p.entries[:last]
		return at(f, n), nil
	}
	return nil, nil
}

// at gives the fault, which may be nil, its line.
func at(f *Fault, line int) *Fault {
	if f != nil {
		f.Line = line
	}
	return f
}

// decode fills e from rec, field by field.
func (p *lineParser) decode(rec *record, e *entry) *Fault {
	for f := fieldID; f < numFields; f++ {
		if rec[f] == nil {
			continue
		}
		if err := p.decodeField(f, rec[f], e); err != nil {
			return &Fault{Field: f.String(), Reason: err.Error()}
		}
	}
	switch {
	case e.id == "":
		return &Fault{Field: "id", Reason: "is missing; every entry needs one, to be revoked and logged by"}
	case rec.has(fieldTokenHash) && rec.has(fieldPasswordHash):
		return &Fault{Field: "password_hash", Reason: "is next to token_hash; an entry has one of the two"}
	case !rec.has(fieldTokenHash, fieldPasswordHash):
		return &Fault{Field: "token_hash", Reason: "is missing; " + hashHint}
	case e.notBefore != 0 && e.expires != 0 && e.notBefore >= e.expires:
		return &Fault{Field: "not_before", Reason: "not before expire_at: the token would never be valid"}
	}
	if f := p.decodeDetail(rec, e); f != nil {
		return f
	}
	if rec.has(fieldPasswordHash) {
		return e.pairUp()
	}
	if e.subject == "" {
		e.subject = e.id
	}
	return nil
}

// decodeField decodes one of the fields that most entries have, and checks those that are not
// stored.
func (p *lineParser) decodeField(f field, raw []byte, e *entry) (err error) {
	var text []byte
	switch f {
	case fieldID:
		text, err = decodeName(raw, maxID)
		e.id = p.id(text)
	case fieldSubject:
		text, err = decodeName(raw, maxSubject)
		e.subject = p.subject(text, e.id)
	case fieldTokenHash:
		e.hash, err = decodeHash(raw)
	case fieldToken:
		err = errors.New("a token in plain text; write its hash as token_hash instead: " + hashHint)
	case fieldPassword:
		err = errors.New("a password in plain text; write a hash of it as password_hash instead")
	case fieldDisabled:
		e.disabled, err = decodeBool(raw)
	case fieldExpireAt:
		e.expires, err = decodeTime(raw)
	case fieldNotBefore:
		e.notBefore, err = decodeTime(raw)
	case fieldCreatedAt:
		_, err = decodeTime(raw)
	case fieldComment:
		_, err = strictjson.Text(raw)
	}
	return err
}

// id returns text as a string. It shares its memory with others, because a million small objects
// cost the garbage collector more than a few large ones.
func (p *lineParser) id(text []byte) string {
	const together = 4096
	if p.ids.Cap()-p.ids.Len() < len(text) {
		p.ids.Reset()
		p.ids.Grow(together)
	}
	p.ids.Write(text)
	return p.ids.String()[p.ids.Len()-len(text):]
}

// subject returns text as a string that shares memory if possible: an id often begins with the
// subject, and other tokens may have the same subject.
func (p *lineParser) subject(text []byte, id string) string {
	if strings.HasPrefix(id, string(text)) {
		return id[:len(text)]
	}
	s, ok := p.values.subjects.get(text)
	if !ok {
		s = p.values.subjects.put(text, string(text))
	}
	return s
}

// decodeDetail decodes the rarer fields. It reuses the result for the same text.
func (p *lineParser) decodeDetail(rec *record, e *entry) *Fault {
	p.raw = p.raw[:0]
	for f := fieldClientID; f <= fieldClientAttrs; f++ {
		if rec[f] != nil {
			p.raw = append(append(p.raw, byte(f)), rec[f]...)
		}
	}
	if len(p.raw) == 0 {
		return nil
	}
	if d, ok := p.details[string(p.raw)]; ok {
		e.detail = d
		return nil
	}
	if d, ok := p.values.details.get(p.raw); ok {
		e.detail = d
		if p.details == nil {
			p.details = make(map[string]*detail)
		}
		p.details[string(p.raw)] = d
		return nil
	}
	d := &detail{}
	for f := fieldClientID; f <= fieldClientAttrs; f++ {
		if rec[f] == nil {
			continue
		}
		if err := d.decodeField(f, rec[f]); err != nil {
			return &Fault{Field: f.String(), Reason: err.Error()}
		}
	}
	e.detail = d
	if d.password == nil { // no other entry has the same password
		e.detail = p.values.details.put(p.raw, d)
	}
	return nil
}

func (d *detail) decodeField(f field, raw []byte) (err error) {
	switch f {
	case fieldClientID:
		d.clientIDs, err = decodeStrings(raw, pattern)
	case fieldUsername:
		d.usernames, err = decodeStrings(raw, pattern)
	case fieldPasswordHash:
		d.password, err = decodePassword(raw)
	case fieldCIDR:
		d.addrs, err = decodeStrings(raw, network)
	case fieldCertificate:
		d.certificates, err = decodeStrings(raw, certificate)
	case fieldUpstream:
		d.upstream, err = decodeUpstream(raw)
	case fieldRole:
		d.role, err = decodeRole(raw)
	case fieldGateway:
		d.gateway, err = decodeBool(raw)
	case fieldACL:
		d.acl, err = decodeACL(raw)
	case fieldLimits:
		d.limits, err = decodeLimits(raw)
	case fieldClientAttrs:
		d.attrs, err = decodeMap(raw)
	}
	return err
}
