package denylist

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/authz"
)

// TestDenialSurvivesARestart: name and end stay the same.
func TestDenialSurvivesARestart(t *testing.T) {
	for name, r := range three() {
		path := filePath(t)
		l := open(t, path)
		until := time.Now().Add(time.Hour)
		if err := errors.Join(l.Deny(r, until, true), l.Save()); err != nil {
			t.Fatal(err)
		}
		again := open(t, path)
		if got, want := again.denials[r], l.denials[r]; !got.until.Equal(want.until) || got.until.Before(until) || got.follow != want.follow {
			t.Errorf("%s: %+v became %+v", name, want, got)
		}
		if !refused(t, again.Before(new(source))) {
			t.Errorf("%s: let in after a restart", name)
		}
		if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o600 {
			t.Errorf("%s: the file has mode %v, %v", name, info.Mode(), err)
		}
	}
}

// TestDenialHoldsThoughItCannotBeSaved: it is saved when that is possible again.
func TestDenialHoldsThoughItCannotBeSaved(t *testing.T) {
	path := filepath.Join(t.TempDir(), "data", "denials.jsonl")
	l := open(t, path)
	if err := l.Deny(authz.Revocation{Subject: "pump-7"}, time.Now().Add(time.Hour), false); err != nil {
		t.Fatal(err)
	}
	if err := l.Save(); err == nil || !refused(t, l.Before(new(source))) {
		t.Errorf("Save = %v", err)
	}
	if err := os.Mkdir(filepath.Dir(path), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := l.Save(); err != nil || open(t, path).Len() != 1 {
		t.Errorf("Save = %v", err)
	}
	before, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := l.Save(); err != nil {
		t.Error(err)
	}
	if after, err := os.Stat(path); err != nil || !os.SameFile(before, after) {
		t.Error("Save writes though nothing has changed")
	}
}

func TestOpenRefusesABrokenFile(t *testing.T) {
	const until = `"until":"2100-01-01T00:00:00Z"`
	for text, want := range map[string]string{
		"{\n":                                 ":1: the text ends early: expected a key",
		"\n":                                  ":1: the text ends early: expected one JSON object",
		`{"subject":"a",` + until + "}\n[]\n": ":2: column 1: expected one JSON object",
		`{"subject":"a",` + until + `} {}`:    ":1: column 48: more text after",
		`{"subject":"a","token_id":"b",` + until + `}`: ":1: exactly one of",
		`{` + until + `}`:                                                  ":1: exactly one of",
		`{"subject":"a"}`:                                                  ":1: until is missing",
		`{"subject":"a","until":"tomorrow"}`:                               ":1: until is not a time",
		`{"subject":"a","more":1,` + until + `}`:                           ":1: an unknown key",
		`{"subject":"a","subject":"b",` + until + `}`:                      ":1: column 16: subject: a duplicate key",
		`{"subject":"a","follow":true,` + until + `}`:                      ":1: the denial of a subject",
		`{"token_sha256":"abc",` + until + `}`:                             ":1: token_sha256 is not 64",
		`{"token_sha256":"` + strings.Repeat("0", 64) + `",` + until + `}`: ":1: exactly one of",
		`{"subject":"` + strings.Repeat("a", maxLine) + `",` + until + `}`: ":1: bufio.Scanner: token too long",
	} {
		path := filePath(t)
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := Open(path); err == nil || !strings.Contains(err.Error(), path+want) {
			t.Errorf("%.40q: %v, want %s", text, err, want)
		}
	}
}

func TestOpenWithoutAFile(t *testing.T) {
	if l := open(t, filePath(t)); l.Len() != 0 {
		t.Errorf("%d denials", l.Len())
	}
	if _, err := Open(t.TempDir()); err == nil {
		t.Error("opened a directory")
	}
}

// FuzzParse: a line that is accepted has the same meaning when it is written again, and an
// error contains nothing of the line.
func FuzzParse(f *testing.F) {
	for _, seed := range []string{
		`{"subject":"a","until":"2100-01-01T00:00:00Z"}`, `{"token_id":"a","until":"2100-01-01T00:00:00.5+02:00","follow":true}`,
		`{"token_sha256":"9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08","until":"9999-12-31T23:59:59Z"}`, `{}`, `[`,
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		r, d, err := parse(text)
		if err != nil || !d.until.After(time.Time{}) { // a denial that has ended is not written
			return
		}
		again, err := render(map[authz.Revocation]denial{r: d})
		if err != nil {
			t.Fatalf("%q cannot be written: %v", text, err)
		}
		r2, d2, err := parse(again)
		if err != nil || r2 != r || !d2.until.Equal(d.until) || d2.follow != d.follow {
			t.Errorf("%q became %q: %v", text, again, err)
		}
	})
}
