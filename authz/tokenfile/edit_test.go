package tokenfile

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/authz"
	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/authz/files"
)

func text(t testing.TB, path string) string {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

func modeOf(t testing.TB, path string) fs.FileMode {
	t.Helper()
	info, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	return info.Mode().Perm()
}

func TestEditsKeepOtherLines(t *testing.T) {
	const original = "# one\r\n\n{\"format\":\"mqtt-auth-tokens/1\"} \n" +
		`  { "comment" : "caf\u00e9", "token_hash":"sha256:9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08" ,"id":"a"}` + "\n" +
		"# two\n" + `{"id":"b","token_hash":"sha256:a665a45920422f9d417e4867efdc4fb8a04a1f3fff1fa07e998e86f7f7a27ae3","disabled":false,"client_attrs":{"k": "v"}}` + "\n\n" +
		`{"end":true,"count":2}` + "\n\n"
	for _, tc := range []struct {
		name string
		edit func(path string) error
		want string // the lines that differ, old > new
	}{
		{"disable", func(p string) error { _, err := Disable(p, "b"); return err },
			`{"id":"b","token_hash":"sha256:a665a45920422f9d417e4867efdc4fb8a04a1f3fff1fa07e998e86f7f7a27ae3","disabled":false,"client_attrs":{"k": "v"}} > {"id":"b","token_hash":"sha256:a665a45920422f9d417e4867efdc4fb8a04a1f3fff1fa07e998e86f7f7a27ae3","disabled":true,"client_attrs":{"k": "v"}}`},
		{"disable a line that is spelled oddly", func(p string) error { _, err := Disable(p, "a"); return err },
			`  { "comment" : "caf\u00e9", "token_hash":"sha256:9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08" ,"id":"a"} > ` +
				`{"id":"a","token_hash":"sha256:9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08","disabled":true,"comment":"caf\u00e9"}`},
		{"enable what is on", func(p string) error { _, err := Enable(p, "b"); return err }, ""},
		{"revoke", func(p string) error { _, err := Revoke(p, "a"); return err },
			`  { "comment" : "caf\u00e9", "token_hash":"sha256:9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08" ,"id":"a"} > ; {"end":true,"count":2} > {"end":true,"count":1}`},
		{"revoke nobody", func(p string) error {
			if _, err := Revoke(p, "c"); !errors.Is(err, ErrNotFound) {
				return fmt.Errorf("not ErrNotFound: %w", err)
			}
			return nil
		}, ""},
	} {
		t.Run(tc.name, func(t *testing.T) {
			path := tokenPath(t)
			put(t, path, original)
			before := files.StampOf(path)
			if err := tc.edit(path); err != nil {
				t.Fatal(err)
			}
			if files.StampOf(path).Equal(before) != (tc.want == "") {
				t.Error("the file is written if and only if there is a change")
			}
			want := original
			for pair := range strings.SplitSeq(tc.want, "; ") {
				if old, now, ok := strings.Cut(pair, " > "); ok && now != "" {
					want = strings.Replace(want, old+"\n", now+"\n", 1)
				} else if ok {
					want = strings.Replace(want, old+"\n", "", 1)
				}
			}
			if (want == original) != (tc.want == "") {
				t.Fatal("the case describes no change")
			}
			if diff := cmp.Diff(want, text(t, path)); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestRevokeTheLast(t *testing.T) {
	path := tokenPath(t)
	put(t, path, line("a"))
	f := mustOpen(t, path, Options{})
	if ids, err := Revoke(path, "a"); err != nil || len(ids) != 1 {
		t.Fatalf("Revoke = %q, %v", ids, err)
	}
	if got := text(t, path); got != `{"format":"mqtt-auth-tokens/1"}`+"\n" {
		t.Errorf("the file has %q", got)
	}
	if err := f.Reload(t.Context()); err != nil || f.Status().Entries != 0 {
		t.Errorf("Reload = %v, %d entries", err, f.Status().Entries)
	}
}

func TestEditsNameIDsAndDevices(t *testing.T) {
	path := tokenPath(t)
	put(t, path, line("a", `"subject":"x"`), line("b", `"subject":"x"`), line("x", `"subject":"y"`), line("c"))
	for _, tc := range []struct {
		name string
		want []string
	}{{"a", []string{"a"}}, {"x", []string{"a", "b", "x"}}, {"y", []string{"x"}}, {"c", []string{"c"}}} {
		for _, edit := range []func(string, string) ([]string, error){Disable, Disable, Enable, Enable} {
			if ids, err := edit(path, tc.name); err != nil || !cmp.Equal(ids, tc.want) {
				t.Errorf("%s: %q, %v; want %q", tc.name, ids, err, tc.want)
			}
		}
		shown, err := Show(path, tc.name)
		if err != nil || len(shown) != len(tc.want) {
			t.Errorf("Show %s = %v, %v", tc.name, shown, err)
		}
	}
	for _, edit := range []func(string, string) ([]string, error){Disable, Enable, Revoke} {
		if ids, err := edit(path, "nobody"); !errors.Is(err, ErrNotFound) || ids != nil {
			t.Errorf("%q, %v; want ErrNotFound", ids, err)
		}
	}
	if _, err := Show(path, "nobody"); !errors.Is(err, ErrNotFound) {
		t.Errorf("Show = %v", err)
	}
	if _, err := Rotate(path, "nobody", 0); !errors.Is(err, ErrNotFound) {
		t.Errorf("Rotate = %v", err)
	}
}

func TestEditsRefuseBrokenFiles(t *testing.T) {
	path := tokenPath(t)
	put(t, path, line("a"), `{"id":"b"}`)
	before := text(t, path)
	for name, edit := range map[string]func() error{
		"create":  func() error { _, err := Create(path, CreateOptions{Name: "x"}); return err },
		"rotate":  func() error { _, err := Rotate(path, "a", 0); return err },
		"revoke":  func() error { _, err := Revoke(path, "a"); return err },
		"disable": func() error { _, err := Disable(path, "a"); return err },
		"enable":  func() error { _, err := Enable(path, "a"); return err },
		"list":    func() error { _, err := List(path); return err },
		"show":    func() error { _, err := Show(path, "a"); return err },
		"lint":    func() error { _, err := Lint(path); return err },
	} {
		err := edit()
		if broken, ok := errors.AsType[*FormatError](err); !ok || broken.Path != path || len(broken.Faults) != 1 {
			t.Errorf("%s: %v", name, err)
		}
	}
	if text(t, path) != before {
		t.Error("the file changed")
	}
	missing := tokenPath(t)
	for name, edit := range map[string]func() error{
		"rotate": func() error { _, err := Rotate(missing, "a", 0); return err },
		"revoke": func() error { _, err := Revoke(missing, "a"); return err },
		"list":   func() error { _, err := List(missing); return err },
		"lint":   func() error { _, err := Lint(missing); return err },
	} {
		if err := edit(); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("%s of a missing file: %v", name, err)
		}
	}
	if left, _ := os.ReadDir(filepath.Dir(missing)); len(left) != 0 {
		t.Errorf("a missing file left %v behind", left)
	}
}

// TestEditsRefuseToBreakTheFile: an edit writes nothing that could not be read again, and names
// every fault with its line.
func TestEditsRefuseToBreakTheFile(t *testing.T) {
	path := tokenPath(t)
	lines := manyLines(3000)
	put(t, path, lines...)
	before := text(t, path)
	err := edit(path, false, func(d *document) error {
		d.append(&entry{id: "x"}, []byte("{}\n"))
		d.append(&entry{id: "y"}, []byte(lines[7]))
		return nil
	})
	broken, ok := errors.AsType[*FormatError](err)
	if !ok || !strings.HasPrefix(err.Error(), "the change would break the file: ") {
		t.Fatalf("%v, want a FormatError", err)
	}
	if f := broken.Faults; len(f) != 2 || f[0].Line != len(lines)+1 || f[1].Line != len(lines)+2 || f[1].Field != "id" {
		t.Errorf("%v", err)
	}
	if text(t, path) != before {
		t.Error("the file was changed")
	}
	if left, _ := filepath.Glob(filepath.Join(filepath.Dir(path), ".*")); len(left) > 0 {
		t.Errorf("%q are left", left)
	}
}

func TestListAndLint(t *testing.T) {
	path := tokenPath(t)
	put(t, path, "# x\n",
		line("a", `"subject":"x"`, `"created_at":1700000000`, `"expire_at":1700000001`, `"comment":"caf\u00e9"`, `"disabled":true`),
		line("b", `"clientid":"c*"`, `"username":"u"`, `"cidr":"::1"`, `"not_before":7`, `"upstream":{"username":"v","password":"w"}`, `"client_attrs":{"k":"v"}`),
	)
	got, err := List(path)
	if err != nil {
		t.Fatal(err)
	}
	want := []Entry{
		{ID: "a", Subject: "x", Line: 2, Disabled: true, Comment: "café", Created: time.Unix(1700000000, 0), Expires: time.Unix(1700000001, 0),
			Fingerprint: authz.FingerprintOf(sha256.Sum256([]byte("token-of-a")))},
		{ID: "b", Subject: "b", Line: 3, Fingerprint: authz.FingerprintOf(sha256.Sum256([]byte("token-of-b"))),
			Only:     authz.Conditions{ClientIDs: []string{"c*"}, Usernames: []string{"u"}, Addrs: []netip.Prefix{netip.MustParsePrefix("::1/128")}, NotBefore: time.Unix(7, 0)},
			Upstream: authz.Upstream{Username: "v", Password: authz.NewToken("w")}, Attrs: map[string]string{"k": "v"}},
	}
	if diff := cmp.Diff(want, got, compareTokens, comparePrefixes, cmp.Comparer(time.Time.Equal)); diff != "" {
		t.Error(diff)
	}
	warnings, err := Lint(path)
	if err != nil || len(warnings) != 1 || warnings[0] != path+": 1 tokens have expired; revoke them" {
		t.Errorf("Lint = %q, %v", warnings, err)
	}
	if err := os.Chmod(path, 0o666); err != nil {
		t.Fatal(err)
	}
	if warnings, err := Lint(path); err != nil || len(warnings) != 2 || !strings.Contains(warnings[0], "everyone may write to it (mode 0666)") {
		t.Errorf("Lint = %q, %v", warnings, err)
	}
}

// TestExtend changes the expiry of tokens, by device and by id.
func TestExtend(t *testing.T) {
	path := tokenPath(t)
	put(t, path, line("a", `"subject":"x"`, `"expire_at":4000000000`), line("b", `"subject":"x"`), line("c"))
	ends := func() (all []string) {
		t.Helper()
		entries, err := List(path)
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range entries {
			text := "never"
			if !e.Expires.IsZero() {
				text = e.Expires.UTC().Format(time.DateOnly)
			}
			all = append(all, text)
		}
		return all
	}
	for _, step := range []struct {
		name    string
		expires time.Time
		ids     int
		want    []string
	}{
		{"x", time.Time{}, 2, []string{"never", "never", "never"}},
		{"b", time.Date(2100, 1, 2, 0, 0, 0, 5, time.UTC), 1, []string{"never", "2100-01-02", "never"}},
		{"x", time.Date(2101, 1, 2, 0, 0, 0, 0, time.UTC), 2, []string{"2101-01-02", "2101-01-02", "never"}},
	} {
		ids, err := Extend(path, step.name, step.expires)
		if err != nil || len(ids) != step.ids || !slices.Equal(ends(), step.want) {
			t.Errorf("Extend(%s) = %q, %v; the tokens end %q, want %q", step.name, ids, err, ends(), step.want)
		}
	}
	before := text(t, path)
	if _, err := Extend(path, "a", time.Now().Add(-time.Hour)); err == nil {
		t.Error("a token ends in the past")
	}
	if _, err := Extend(path, "nobody", time.Time{}); !errors.Is(err, ErrNotFound) {
		t.Errorf("Extend = %v", err)
	}
	if text(t, path) != before {
		t.Error("what is refused has changed the file")
	}
}
