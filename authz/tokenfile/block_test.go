package tokenfile

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/authz/files"
)

// manyLines returns a file of n entries, in some tens of blocks.
func manyLines(n int) []string {
	lines := []string{`{"format":"mqtt-auth-tokens/1"}` + "\n"}
	for i := range n {
		lines = append(lines, line(fmt.Sprintf("id-%04d", i), `"client_attrs":{"site":"north"}`))
	}
	return lines
}

// TestNextVersionIsParsedLikeAFirst: whatever has changed, parsing what is new gives the
// same entries, the same lines and the same faults as parsing everything.
func TestNextVersionIsParsedLikeAFirst(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		lines := manyLines(rapid.IntRange(0, 700).Draw(t, "entries"))
		old := mustParse(t, strings.Join(lines, ""))
		for range rapid.IntRange(1, 4).Draw(t, "versions") {
			for range rapid.IntRange(0, 3).Draw(t, "changes") {
				lines = changeLines(t, lines)
			}
			text := []byte(strings.Join(lines, ""))
			next, sum, err := parseFile(context.Background(), bytes.NewReader(text), old)
			whole, wholeSum, wholeErr := parseFile(context.Background(), bytes.NewReader(text), &snapshot{})
			if fmt.Sprint(err) != fmt.Sprint(wholeErr) || sum != wholeSum {
				t.Fatalf("%v, want %v; or the fingerprints differ", err, wholeErr)
			}
			if err != nil {
				continue // the last good version stays
			}
			sameSnapshots(t, next, whole)
			sameDifferences(t, next.since(old), whole.since(old))
			old = next
		}
	})
}

// changeLines returns the lines after a change, which may make the file a bad one.
func changeLines(t *rapid.T, lines []string) []string {
	lines = slices.Clone(lines)
	at := rapid.IntRange(0, len(lines)-1).Draw(t, "at")
	switch rapid.SampledFrom([]string{"append", "insert", "remove", "change", "double", "move", "comment", "end", "bad", "cut", "repeat"}).Draw(t, "change") {
	case "append":
		return append(lines, line(fmt.Sprintf("new-%d", rand.Uint64())))
	case "insert":
		return slices.Insert(lines, at, line(fmt.Sprintf("new-%d", rand.Uint64())))
	case "remove":
		if len(lines) > 1 {
			return slices.Delete(lines, at, at+1)
		}
	case "change":
		lines[at] = strings.Replace(lines[at], `"north"`, `"south"`, 1)
	case "double":
		return slices.Insert(lines, rapid.IntRange(0, len(lines)).Draw(t, "to"), lines[at])
	case "move":
		moved := lines[at]
		lines = slices.Delete(lines, at, at+1)
		return slices.Insert(lines, rapid.IntRange(0, len(lines)).Draw(t, "to"), moved)
	case "comment":
		return slices.Insert(lines, at, "# "+strings.Repeat("x", rapid.IntRange(0, maxLine+1).Draw(t, "length"))+"\n")
	case "end":
		n := 0
		for _, l := range lines {
			if strings.Contains(l, `"id"`) {
				n++
			}
		}
		return append(lines, fmt.Sprintf(`{"end":true,"count":%d}`+"\n", n))
	case "bad":
		return slices.Insert(lines, at, "{}\n")
	case "repeat":
		return append(lines, lines[at:]...)
	case "cut":
		lines[len(lines)-1] = strings.TrimSuffix(lines[len(lines)-1], "\n")
	}
	return lines
}

func sameSnapshots(t *rapid.T, got, want *snapshot) {
	if got.len() != want.len() || got.byHash.count != want.byHash.count || got.end != want.end || got.blank != want.blank {
		t.Fatalf("%d entries, end %d, blank %v; want %d, %d, %v", got.len(), got.end, got.blank, want.len(), want.end, want.blank)
	}
	lines, seen := map[*entry]int{}, 0
	for number, e := range want.entries() {
		lines[e] = number
	}
	for number, e := range got.entries() {
		seen++
		o := want.withID(e.id)
		if o == nil || e.changeFrom(o) != same || lines[o] != number {
			t.Fatalf("line %d: %q is another entry", number, e.id)
		}
		if got.withID(e.id) != e || got.withHash(&e.hash) != e {
			t.Fatalf("line %d: %q is not found", number, e.id)
		}
	}
	if seen != want.len() {
		t.Fatalf("%d entries are listed, want %d", seen, want.len())
	}
}

func sameDifferences(t *rapid.T, got, want difference) {
	for _, ids := range [][]string{got.ended, got.altered, want.ended, want.altered} {
		slices.Sort(ids)
	}
	if got.added != want.added || got.removed != want.removed || got.changed != want.changed ||
		!slices.Equal(got.ended, want.ended) || !slices.Equal(got.altered, want.altered) {
		t.Fatalf("%+v, want %+v", got, want)
	}
}

// parseFile parses f like a follower, and returns the fingerprint as well.
func parseFile(ctx context.Context, f io.ReadSeeker, old *snapshot) (snap *snapshot, sum string, err error) {
	digest := sha256.New()
	snap, err = parseWith(ctx, f, old, digest)
	if _, rest := io.Copy(digest, f); rest != nil {
		return nil, "", rest
	}
	return snap, hex.EncodeToString(digest.Sum(nil)), err
}

// seeks is a file that counts how often it is read from the beginning.
type seeks struct {
	*strings.Reader
	n int
}

func (s *seeks) Seek(offset int64, whence int) (int64, error) {
	s.n++
	return s.Reader.Seek(offset, whence)
}

// TestDuplicatesAreFoundInOneReading, since the faults of a large file take long to find, and a
// revocation may be waiting.
func TestDuplicatesAreFoundInOneReading(t *testing.T) {
	lines := manyLines(3000)
	old := mustParse(t, strings.Join(lines, ""))
	next := slices.Concat(lines[:100], lines[2000:2050], lines[100:])
	f := &seeks{Reader: strings.NewReader(strings.Join(next, ""))}
	_, _, err := parseFile(t.Context(), f, old)
	broken, ok := errors.AsType[*FormatError](err)
	if !ok || len(broken.Faults) != maxFaults || broken.Faults[0].Line != 2051 || f.n != 1 {
		t.Errorf("%d readings, %v", f.n, err)
	}
}

// TestUnchangedBlocksAreShared: a change of one line costs a block or two, wherever it is.
func TestUnchangedBlocksAreShared(t *testing.T) {
	lines := manyLines(5000)
	old := mustParse(t, strings.Join(lines, ""))
	for name, next := range map[string][]string{
		"appended": append(slices.Clone(lines), line("new")),
		"inserted": slices.Insert(slices.Clone(lines), 1000, line("new")),
		"removed":  slices.Delete(slices.Clone(lines), 1000, 1001),
	} {
		snap, err := parse(t.Context(), strings.NewReader(strings.Join(next, "")), old)
		if err != nil {
			t.Fatal(err)
		}
		anew, shared := 0, old.blockSet()
		for _, b := range snap.blocks {
			if !shared[b.block] {
				anew++
			}
		}
		if anew > 3 || len(snap.blocks) < 20 {
			t.Errorf("%s: %d of %d blocks were parsed again", name, anew, len(snap.blocks))
		}
		snap.since(old)
		if e := snap.withID("id-2000"); e != old.withID("id-2000") {
			t.Errorf("%s: an entry elsewhere is a copy", name)
		}
		if e := snap.withID("new"); e != nil && e.detail == old.withID("id-2000").detail {
			t.Errorf("%s: an entry without attributes has some", name)
		}
	}
}

// TestChangesLeaveNoCopiesOfDetails: what many entries share stays shared after many changes.
func TestChangesLeaveNoCopiesOfDetails(t *testing.T) {
	lines := manyLines(300)
	snap := mustParse(t, strings.Join(lines, ""))
	for i := 1; i < len(lines); i += 10 {
		lines[i] = strings.Replace(lines[i], `"token_hash"`, `"comment":"seen","token_hash"`, 1)
		next, err := parse(t.Context(), strings.NewReader(strings.Join(lines, "")), snap)
		if err != nil {
			t.Fatal(err)
		}
		next.since(snap)
		snap = next
	}
	details := map[*detail]bool{}
	for _, e := range snap.entries() {
		details[e.detail] = true
	}
	if len(details) != 1 {
		t.Errorf("%d copies of the same attributes", len(details))
	}
}

// TestIndexLeavesOlderVersionsAlone: a version is found as it was, whatever comes after it.
func TestIndexLeavesOlderVersionsAlone(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		type version struct {
			index index
			has   map[string]*entry
		}
		empty, _ := newIndex(0, (&snapshot{}).all(), sumOfID, nil)
		versions := []version{{index: empty, has: map[string]*entry{}}}
		for range rapid.IntRange(1, 5).Draw(t, "versions") {
			last := versions[len(versions)-1]
			next := version{index: last.index.clone(), has: map[string]*entry{}}
			for id, e := range last.has {
				next.has[id] = e
			}
			for range rapid.IntRange(0, 600).Draw(t, "steps") {
				id := fmt.Sprint(rand.IntN(1000))
				if e := next.has[id]; e != nil {
					next.index.remove(slot{sumOfID(e), e})
					delete(next.has, id)
				} else {
					e := &entry{id: id}
					next.index.add(slot{sumOfID(e), e})
					next.has[id] = e
				}
			}
			versions = append(versions, next)
		}
		for n, v := range versions {
			for i := range 1000 {
				id := fmt.Sprint(i)
				if e := (&snapshot{byID: v.index}).withID(id); e != v.has[id] {
					t.Fatalf("version %d has another entry %s", n, id)
				}
			}
			if v.index.count != len(v.has) {
				t.Fatalf("version %d counts %d entries, want %d", n, v.index.count, len(v.has))
			}
		}
	})
}

// TestEditOfAFileThatChangesMeanwhile: a writer without the lock may move the lines, so that
// the edit would change another.
func TestEditOfAFileThatChangesMeanwhile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "tokens.jsonl")
	put(t, path, line("a")+line("b"))
	meanwhile := "# " + line("c") + line("b")
	err := edit(path, false, func(d *document) error {
		put(t, path, meanwhile)
		_, err := d.revoke([]string{"a"})
		return err
	})
	if err == nil || !strings.Contains(err.Error(), files.ErrChanging.Error()) {
		t.Errorf("edit = %v", err)
	}
	if text, err := os.ReadFile(path); err != nil || string(text) != meanwhile {
		t.Errorf("the file is %q, %v", text, err)
	}
	if all, err := filepath.Glob(filepath.Join(filepath.Dir(path), ".tokens*")); err != nil || len(all) > 0 {
		t.Errorf("left behind: %q, %v", all, err)
	}
}

// FuzzNextVersion compares the two ways to parse with any text in a large file.
func FuzzNextVersion(f *testing.F) {
	lines := manyLines(400)
	for _, s := range seeds() {
		f.Add(s, uint16(200), uint16(1))
	}
	old := mustParse(f, strings.Join(lines, ""))
	f.Fuzz(func(t *testing.T, text string, at, removed uint16) {
		from := int(at) % len(lines)
		to := min(from+int(removed)%10, len(lines))
		next := []byte(strings.Join(lines[:from], "") + text + strings.Join(lines[to:], ""))
		got, _, err := parseFile(t.Context(), bytes.NewReader(next), old)
		want, _, wantErr := parseFile(t.Context(), bytes.NewReader(next), &snapshot{})
		if fmt.Sprint(err) != fmt.Sprint(wantErr) {
			t.Fatalf("%v, want %v", err, wantErr)
		}
		if err == nil && !slices.EqualFunc(meaning(got), meaning(want), func(a, b Entry) bool { return a.ID == b.ID && a.Fingerprint == b.Fingerprint }) {
			t.Error("the entries differ")
		}
	})
}
