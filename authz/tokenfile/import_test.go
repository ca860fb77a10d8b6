package tokenfile

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// batch checks the entries, each on a line of its own.
func batch(t *testing.T, entries ...string) *Batch {
	t.Helper()
	var drafts []Draft
	for i, e := range entries {
		drafts = append(drafts, Draft{Line: i + 1, JSON: []byte(e)})
	}
	b, err := NewBatch(t.Context(), "source", drafts, BatchOptions{Rounds: 1})
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// TestImportAndNamesThatExist: they are faults, or stay, or are replaced.
func TestImportAndNamesThatExist(t *testing.T) {
	const pump, valve = `{"subject":"pump","token":"token-of-the-pump-1"}`, `{"subject":"valve","token":"token-of-a-valve-1"}`
	for _, tc := range []struct {
		file     string
		existing Existing
		done     Imported
		want     string // an error, or else the subjects
	}{
		{line("x"), RefuseExisting, Imported{2, 0, 0}, "x pump valve"},
		{line("pump"), RefuseExisting, Imported{}, `source:1: "pump" exists already, as pump`},
		{line("pump") + line("y", `"subject":"pump"`) + line("z"), SkipExisting, Imported{1, 0, 1}, "pump pump z valve"},
		{line("pump") + line("y", `"subject":"pump"`) + line("z"), ReplaceExisting, Imported{2, 2, 0}, "z pump valve"},
		{line("pump", `"subject":"other"`), ReplaceExisting, Imported{}, `source:1: "pump" exists already, as pump`},
	} {
		path := tokenPath(t)
		put(t, path, tc.file)
		var done Imported
		err := Update(path, false, func(e *Edit) (err error) {
			done, err = e.Import(batch(t, pump, valve), tc.existing)
			return err
		})
		if err != nil {
			if !strings.Contains(err.Error(), tc.want) || text(t, path) != tc.file {
				t.Errorf("%s: %v, want %s", tc.file, err, tc.want)
			}
			if errors.Is(err, ErrExists) != (tc.existing == RefuseExisting) {
				t.Errorf("%v is or is not ErrExists", err)
			}
			continue
		}
		entries, err := List(path)
		if err != nil {
			t.Fatal(err)
		}
		var subjects []string
		for _, e := range entries {
			subjects = append(subjects, e.Subject)
		}
		if got := strings.Join(subjects, " "); got != tc.want || done != tc.done {
			t.Errorf("%s: %s with %+v, want %s with %+v", tc.file, got, done, tc.want, tc.done)
		}
	}
}

// TestImportOfATokenThatIsThere: a token of the file is refused under another device, also in the
// place of others, unless its own entry is replaced too.
func TestImportOfATokenThatIsThere(t *testing.T) {
	path := tokenPath(t)
	put(t, path, line("a"), line("b"))
	for entry, want := range map[string]string{
		`{"subject":"new","token":"token-of-a"}`: "exists already, as a",
		`{"subject":"b","token":"token-of-a"}`:   "exists already, as a",
		`{"subject":"a","token":"token-of-a"}`:   "",
	} {
		err := Update(path, false, func(e *Edit) error {
			_, err := e.Import(batch(t, entry), ReplaceExisting)
			return err
		})
		if want == "" && err != nil || want != "" && (err == nil || !strings.Contains(err.Error(), want)) {
			t.Errorf("%s: %v, want %q", entry, err, want)
		}
	}
}

// TestRepeatedImportEndsNoSession: the same source makes the same entries, so that a running
// proxy sees no change in those that it has replaced.
func TestRepeatedImportEndsNoSession(t *testing.T) {
	path := tokenPath(t)
	hash := strings.Trim(string(anyHash), `"`)
	synctest.Test(t, func(t *testing.T) {
		run := func(entries ...string) {
			t.Helper()
			if err := Update(path, true, func(e *Edit) error {
				_, err := e.Import(batch(t, entries...), ReplaceExisting)
				return err
			}); err != nil {
				t.Fatal(err)
			}
		}
		entries := []string{`{"subject":"a","token":"token-of-the-a-1"}`, fmt.Sprintf(`{"username":"u","password_hash":%q}`, hash)}
		run(entries...)
		before := snapshotOf(t, path)
		time.Sleep(time.Hour)
		run(entries...)
		if d := snapshotOf(t, path).since(before); d.added+d.removed+d.changed != 0 {
			t.Errorf("the second import makes the difference %+v", d)
		}
		run(`{"subject":"a","token":"another-token-of-a"}`)
		if d := snapshotOf(t, path).since(before); len(d.ended) != 1 {
			t.Errorf("another token makes the difference %+v", d)
		}
	})
}

// TestPasswordsInPlainTextAreNoEntries: a password belongs to an import, not to a file.
func TestPasswordsInPlainTextAreNoEntries(t *testing.T) {
	_, err := parseText(`{"id":"a","username":"u","password":"hunter22"}`)
	if err == nil || !strings.Contains(err.Error(), "password: a password in plain text") || strings.Contains(err.Error(), "hunter") {
		t.Errorf("%v", err)
	}
}

// TestIndexGrowsWithTheFile: a version with many more entries than the last has an index of its
// size; in that of the last one each search would look at all of them.
func TestIndexGrowsWithTheFile(t *testing.T) {
	old, err := parseText(line("first"))
	if err != nil {
		t.Fatal(err)
	}
	var file strings.Builder
	for i := range 2000 {
		file.WriteString(line(fmt.Sprint("n", i)))
	}
	grown, err := parse(t.Context(), strings.NewReader(file.String()), old)
	if err != nil || grown.byID.crowdedBy(grown.len()) || grown.byHash.crowdedBy(grown.len()) {
		t.Errorf("%v, %d entries in %d shards", err, grown.len(), len(grown.byID.shards))
	}
}
