package tokenfile

import (
	"bufio"
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/authz"
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

// parser parses one version of the file, line by line.
type parser struct {
	snap     *snapshot
	faults   []Fault
	subjects map[string]string  // shared by many entries
	details  map[string]*detail // the same, by the raw JSON of their fields
	raw      []byte             // scratch for a key of details
	headed   bool               // the header has been read
	entries  int                // lines with an entry, valid or not
}

// parse reads a token file from r. If the file breaks the rules, it returns a *FormatError
// without a path.
func parse(ctx context.Context, r io.Reader) (*snapshot, error) {
	p := parser{
		snap:     &snapshot{byHash: make(map[[sha256.Size]byte]*entry), byID: make(map[string]*entry), blank: true},
		subjects: make(map[string]string),
		details:  make(map[string]*detail),
	}
	if err := p.lines(ctx, r); err != nil {
		return nil, err
	}
	if len(p.faults) > 0 {
		return nil, &FormatError{Faults: p.faults}
	}
	return p.snap, nil
}

// lines reads all lines, or until there are enough faults.
func (p *parser) lines(ctx context.Context, r io.Reader) error {
	in := bufio.NewReaderSize(r, maxLine+2) // with room for CR and LF
	for n := 1; len(p.faults) < maxFaults; n++ {
		if n%1024 == 0 && ctx.Err() != nil {
			return ctx.Err()
		}
		line, err := in.ReadSlice('\n')
		long := errors.Is(err, bufio.ErrBufferFull)
		for errors.Is(err, bufio.ErrBufferFull) {
			_, err = in.ReadSlice('\n')
		}
		if err != nil && err != io.EOF {
			return err
		}
		if long || len(bytes.TrimRight(line, "\r\n")) > maxLine {
			p.fault(n, "", "longer than 64 KiB")
		} else {
			p.line(n, line)
		}
		if err == io.EOF {
			return nil
		}
	}
	return nil
}

func (p *parser) fault(line int, f string, reason string) {
	p.faults = append(p.faults, Fault{Line: line, Field: f, Reason: reason})
}

// line parses line n.
func (p *parser) line(n int, line []byte) {
	if n == 1 && bytes.HasPrefix(line, []byte("\xef\xbb\xbf")) {
		p.fault(n, "", "starts with a byte order mark; save the file as UTF-8 without one")
		return
	}
	line = bytes.Trim(line, " \t\r\n")
	if len(line) == 0 {
		return
	}
	p.snap.blank = false
	switch {
	case bytes.IndexByte(line, 0) >= 0:
		p.fault(n, "", "contains a NUL byte: the file is damaged, or not UTF-8")
	case !utf8.Valid(line):
		p.fault(n, "", "is not valid UTF-8")
	case p.snap.end != 0:
		p.fault(n, "", fmt.Sprintf("is after the end line, line %d", p.snap.end))
	case line[0] != '#':
		if f := p.object(n, line); f != nil {
			f.Line = n
			p.faults = append(p.faults, *f)
		}
	}
}

// object parses a line that is neither blank nor a comment.
func (p *parser) object(n int, line []byte) *Fault {
	rec, f := scanRecord(line)
	switch {
	case f != nil:
		return f
	case rec.has(fieldFormat):
		return p.header(&rec)
	case rec.has(fieldEnd, fieldCount):
		return p.endLine(n, &rec)
	}
	p.entries++
	e := p.snap.add()
	e.line = int32(n)
	if f := p.decode(&rec, e); f != nil {
		return f
	}
	if other := p.snap.byID[e.id]; other != nil {
		return &Fault{Field: "id", Reason: fmt.Sprintf("the same as in line %d; give each entry an id of its own", other.line)}
	}
	p.snap.byID[e.id] = e
	if e.isPair() {
		p.snap.pairs++
	}
	if other := p.snap.byHash[e.hash]; other != nil && e.isPair() {
		return &Fault{Field: "username", Reason: fmt.Sprintf("the same user name as in line %d; remove one of them", other.line)}
	} else if other != nil {
		return &Fault{Field: "token_hash", Reason: fmt.Sprintf("the same token as in line %d; remove one of them", other.line)}
	}
	p.snap.byHash[e.hash] = e
	return nil
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
	case p.headed || p.entries > 0:
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
	if count != p.entries {
		return &Fault{Field: "count", Reason: fmt.Sprintf("says %d, but there are %d entries: some were lost, or added by hand", count, p.entries)}
	}
	return nil
}

// decode fills e from rec, field by field.
func (p *parser) decode(rec *record, e *entry) *Fault {
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
func (p *parser) decodeField(f field, raw []byte, e *entry) (err error) {
	var text []byte
	switch f {
	case fieldID:
		text, err = decodeName(raw, maxID)
		e.id = string(text)
	case fieldSubject:
		text, err = decodeName(raw, maxSubject)
		e.subject = p.subject(text, e.id)
	case fieldTokenHash:
		e.hash, err = decodeHash(raw)
	case fieldToken:
		err = errors.New("a token in plain text; write its hash as token_hash instead: " + hashHint)
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

// subject returns text as a string that shares memory if possible: an id often begins with the
// subject, and other tokens may have the same subject.
func (p *parser) subject(text []byte, id string) string {
	if strings.HasPrefix(id, string(text)) {
		return id[:len(text)]
	}
	s, ok := p.subjects[string(text)]
	if !ok {
		s = string(text)
		if len(p.subjects) < maxShared {
			p.subjects[s] = s
		}
	}
	return s
}

// decodeDetail decodes the rarer fields. It reuses the result for the same text.
func (p *parser) decodeDetail(rec *record, e *entry) *Fault {
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
	if len(p.details) < maxShared && d.password == nil { // no other entry has the same password

		p.details[string(p.raw)] = d
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
	case fieldACL:
		d.acl, err = authz.ParseACL(raw, authz.ACLOptions{})
	case fieldClientAttrs:
		d.attrs, err = decodeMap(raw)
	}
	return err
}
