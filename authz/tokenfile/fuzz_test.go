package tokenfile

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"

	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/authz"
)

// seeds are files of every kind.
func seeds() []string {
	return []string{
		"", "\n", "# x\n", `{"format":"mqtt-auth-tokens/1"}` + "\n" + line("a") + `{"end":true,"count":1}` + "\n",
		line("a") + "\r\n" + line("b", `"subject":"x"`, `"disabled":true`, `"comment":"\u00e9"`),
		line("a", `"expire_at":1798761600`, `"not_before":"2026-01-01T00:00:00Z"`, `"created_at":1700000000`),
		line("a", `"clientid":["c","d*"]`, `"username":"u"`, `"cidr":["::1","10.0.0.0/8"]`),
		line("a", `"upstream":{"username":"u","password":"p","clientid":"c"}`, `"client_attrs":{"k":"v","l":""}`),
		userLine("a", "u", "a-password") + line("b"), userLine("a", "u", "x") + userLine("b", "u", "x"), userLine("a", "u*", "x"),
		`{"id":"a","token":"plain-token-1"}`, line("a") + line("a"), line("a")[:40], "{}", "\xef\xbb\xbf" + line("a"), "\x00", "\xff",
		`{"end":true,"count":0}` + "\n" + line("a"), `{"id":"a","token_hash":"sha256:` + strings.Repeat("A", 43) + `"}`,
	}
}

// render writes the file again from the result of parse.
func render(s *snapshot) []byte {
	var out bytes.Buffer
	for _, e := range s.entries() {
		var rec record
		rec.set(fieldID, e.id)
		rec.set(fieldSubject, e.subject)
		rec.set(fieldTokenHash, fmt.Sprintf("sha256:%x", e.hash))
		if e.disabled {
			rec.set(fieldDisabled, true)
		}
		if e.expires != 0 {
			rec.set(fieldExpireAt, e.expires)
		}
		if e.notBefore != 0 {
			rec.set(fieldNotBefore, e.notBefore)
		}
		if d := e.detail; d != nil {
			if d.clientIDs != nil {
				rec.set(fieldClientID, d.clientIDs)
			}
			if d.usernames != nil {
				rec.set(fieldUsername, d.usernames)
			}
			if d.addrs != nil {
				rec.set(fieldCIDR, d.addrs)
			}
			if d.certificates != nil {
				rec.set(fieldCertificate, d.certificates)
			}
			if d.attrs != nil {
				rec.set(fieldClientAttrs, d.attrs)
			}
			rec.set(fieldUpstream, map[string]string{
				"username": d.upstream.Username, "password": d.upstream.Password.Reveal(), "clientid": d.upstream.ClientID,
			})
		}
		out.Write(rec.line())
	}
	return out.Bytes()
}

// meaning returns the meaning of each entry, without differences that render makes.
func meaning(s *snapshot) []Entry {
	var all []Entry
	for _, e := range s.entries() {
		g := e.authorization()
		up := g.Upstream
		up.Password = authz.NewToken(up.Password.Reveal())
		all = append(all, Entry{
			ID: e.id, Subject: e.subject, Fingerprint: fmt.Sprintf("%x", e.hash), Disabled: e.disabled,
			Expires: g.Expires, Only: g.Only, Upstream: up, Attrs: g.Attrs,
		})
	}
	return all
}

// FuzzParse: the parser never panics, and a file that it accepts has the same meaning when it
// is written again.
func FuzzParse(f *testing.F) {
	for _, seed := range seeds() {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		s, err := parse(t.Context(), bytes.NewReader(data), &snapshot{})
		if err != nil {
			if broken, ok := errors.AsType[*FormatError](err); !ok || len(broken.Faults) == 0 || len(broken.Faults) > maxFaults {
				t.Fatalf("parse = %v", err)
			}
			if !utf8.ValidString(err.Error()) {
				t.Errorf("the error is no text: %q", err)
			}
			return
		}
		if s.pairs > 0 {
			return // the text of a password_hash is not kept
		}
		again, err := parse(t.Context(), bytes.NewReader(render(s)), &snapshot{})
		if err != nil {
			t.Fatalf("%q was rendered as %q, which is refused: %v", data, render(s), err)
		}
		if diff := cmp.Diff(meaning(s), meaning(again), compareTokens, comparePrefixes, cmp.Comparer(time.Time.Equal)); diff != "" {
			t.Error(diff)
		}
		if d := again.since(s); d.added+d.removed > 0 {
			t.Errorf("rendering added %d and removed %d entries", d.added, d.removed)
		}
	})
}

// FuzzEdit edits a file and checks that every other line stays the same, to the byte, and that
// the result is valid.
func FuzzEdit(f *testing.F) {
	for _, seed := range seeds() {
		for op := range uint8(6) {
			f.Add([]byte(seed), op, "a")
			f.Add([]byte(seed), op, "x")
		}
	}
	f.Fuzz(func(t *testing.T, data []byte, op uint8, name string) {
		d, err := newDocument(bytes.NewReader(data))
		if err != nil {
			return
		}
		touched := map[int]bool{d.snap.end: true}
		for line, e := range d.snap.entries() {
			if e.id == name || e.subject == name {
				touched[line] = true
			}
		}
		if !applyEdit(d, op, name) || !d.changed {
			return
		}
		var out bytes.Buffer
		if err := d.writeTo(&out); err != nil {
			t.Fatal(err)
		}
		edited := out.Bytes()
		if _, err := parse(t.Context(), bytes.NewReader(edited), d.snap); err != nil {
			// A line at its limit can grow over it; edit would refuse to write this.
			if !strings.Contains(err.Error(), "longer than 64 KiB") {
				t.Fatalf("%q became %q: %v", data, edited, err)
			}
			return
		}
		rest := bytes.Split(edited, []byte("\n"))
		n := 0
		for line := range bytes.Lines(data) {
			if n++; touched[n] {
				continue
			}
			line = bytes.TrimSuffix(line, []byte("\n"))
			at := slices.IndexFunc(rest, func(l []byte) bool { return bytes.Equal(l, line) })
			if at < 0 {
				t.Fatalf("line %d of %q is gone, or moved, in %q", n, data, edited)
			}
			rest = rest[at+1:]
		}
	})
}

// applyEdit does the edit number op; it reports whether that was possible.
func applyEdit(d *document, op uint8, name string) bool {
	now := time.Unix(1_790_000_000, 0)
	edits := [...]func() error{
		func() error { _, err := d.create(CreateOptions{Name: name, Comment: "c"}, now); return err },
		func() error { _, err := d.rotate(name, 0, now); return err },
		func() error { _, err := d.rotate(name, time.Hour, now); return err },
		func() error { _, err := d.revoke([]string{name}); return err },
		func() error { _, err := d.setDisabled(true, []string{name}); return err },
		func() error { _, err := d.setDisabled(false, []string{name}); return err },
	}
	return edits[int(op)%len(edits)]() == nil
}
