package tokenfile

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/authz"
	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/authz/authztest"
	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/authz/files"
)

// put writes a token file in place, as editors and provisioning tools do.
func put(t testing.TB, path string, lines ...string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(strings.Join(lines, "")), 0o600); err != nil {
		t.Fatal(err)
	}
}

// swap replaces the old file by a new one.
func swap(t testing.TB, path string, lines ...string) {
	t.Helper()
	put(t, path+".new", lines...)
	if err := os.Rename(path+".new", path); err != nil {
		t.Fatal(err)
	}
}

// writing returns what fills a file with data.
func writing(data []byte) func(*os.File) error {
	return func(f *os.File) error { _, err := f.Write(data); return err }
}

func tokenPath(t testing.TB) string { return filepath.Join(t.TempDir(), "tokens.jsonl") }

func mustOpen(t testing.TB, path string, o Options) *File {
	t.Helper()
	f, err := Open(path, o)
	if err != nil {
		t.Fatal(err)
	}
	return f
}

// with returns a request with the token of the entry id that line makes.
func with(id string) authz.Request { return authz.Request{Token: authz.NewToken("token-of-" + id)} }

func reasonOf(err error) authz.Reason {
	if d, ok := errors.AsType[*authz.Denial](err); ok {
		return d.Reason
	}
	return ""
}

func TestConformance(t *testing.T) {
	future := `"expire_at":"2100-01-01T00:00:00Z"`
	authztest.Run(t, authztest.Suite{
		NamesDevices: true,
		New: func(tb testing.TB) authztest.Fixture {
			path := tokenPath(tb)
			put(tb, path,
				line("good", `"subject":"pump-7"`, future, `"client_attrs":{"site":"north"}`, `"upstream":{"password":"p-a-s-s"}`),
				line("off", `"disabled":true`),
				line("old", `"expire_at":1700000000`),
				line("new", `"not_before":4000000000`),
				line("bound", `"clientid":"pump-7"`),
				line("named", `"username":["u"]`),
				line("placed", `"cidr":"192.0.2.0/24"`),
			)
			f := mustOpen(tb, path, Options{Interval: time.Millisecond})
			return authztest.Fixture{Authorizer: f, Revoke: func() {
				swap(tb, path, line("off", `"disabled":true`), line("old"))
			}}
		},
		Good:    with("good"),
		Unknown: with("nobody"),
		Denied: map[authz.Reason]authz.Request{
			authz.Disabled:      with("off"),
			authz.Expired:       with("old"),
			authz.NotYetValid:   with("new"),
			authz.WrongClientID: with("bound"),
			authz.WrongUsername: with("named"),
			authz.WrongAddress:  with("placed"),
		},
	})
}

func TestAuthorizeNamesTheToken(t *testing.T) {
	path := tokenPath(t)
	put(t, path, line("a", `"disabled":true`), line("b", `"clientid":"c"`), line("c", `"expire_at":1700000000`))
	f := mustOpen(t, path, Options{})
	for id, want := range map[string]string{
		"a": "denied: disabled: token a",
		"b": "denied: wrong_client_id: token b: the token is bound to other client ids",
		"c": "denied: expired: token c: since 2023-11-14T22:13:20Z",
		"x": "denied: unknown_token: not in the token file",
	} {
		_, err := f.Authorize(t.Context(), with(id))
		if err == nil || err.Error() != want {
			t.Errorf("%s: %v, want %s", id, err, want)
		}
		if d, _ := errors.AsType[*authz.Denial](err); d == nil || d.Keep != notKept() {
			t.Errorf("%s: the denial may be kept", id)
		}
	}
	r := with("b")
	r.ClientID, r.Addr = "c", netip.MustParseAddrPort("192.0.2.1:1")
	if g, err := f.Authorize(t.Context(), r); err != nil || g.TokenID != "b" || g.Keep != notKept() {
		t.Errorf("b: %v, %v", g, err)
	}
}

func TestAuthorizeHoldsTheClock(t *testing.T) {
	path := tokenPath(t)
	synctest.Test(t, func(t *testing.T) {
		now := time.Now().Unix()
		put(t, path, line("a", fmt.Sprintf(`"not_before":%d,"expire_at":%d`, now+10, now+20)))
		f := mustOpen(t, path, Options{})
		for _, want := range []authz.Reason{authz.NotYetValid, "", authz.Expired} {
			if _, err := f.Authorize(t.Context(), with("a")); reasonOf(err) != want {
				t.Errorf("after %ds: %v, want %q", time.Now().Unix()-now, err, want)
			}
			time.Sleep(10 * time.Second)
		}
	})
}

func TestOpenRefuses(t *testing.T) {
	dir := t.TempDir()
	bad := filepath.Join(dir, "bad")
	put(t, bad, line("a"), "{}\n")
	reported := false
	o := Options{OnReload: func(Reload) { reported = true }}
	for path, want := range map[string]string{
		filepath.Join(dir, "none"): "no such file or directory",
		bad:                        bad + ":2: id: is missing",
		dir:                        "is not a regular file",
	} {
		f, err := Open(path, o)
		if f != nil || err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("Open = %v, %v; want %s", f, err, want)
		}
	}
	if _, err := Open(filepath.Join(dir, "none"), o); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a missing file is not fs.ErrNotExist: %v", err)
	}
	if reported {
		t.Error("OnReload reported what Open returned")
	}
}

func TestReloadKeepsLastGood(t *testing.T) {
	path := tokenPath(t)
	var reloads []Reload
	put(t, path, line("a"), line("b"))
	f := mustOpen(t, path, Options{OnReload: func(r Reload) { reloads = append(reloads, r) }})
	good := f.Status()
	if want := fmt.Sprintf("%x", sha256.Sum256([]byte(line("a")+line("b")))); good.Fingerprint != want || good.Path != path {
		t.Errorf("Status = %+v, want the fingerprint %s", good, want)
	}

	swap(t, path, line("a"), "{\n")
	err := f.Reload(t.Context())
	var broken *FormatError
	if !errors.As(err, &broken) || broken.Path != path || broken.Faults[0].Line != 2 {
		t.Fatalf("Reload = %v, want the fault of line 2", err)
	}
	if _, err := f.Authorize(t.Context(), with("b")); err != nil {
		t.Errorf("the last good version is gone: %v", err)
	}
	if s := f.Status(); s.Err == nil || s.Entries != 2 || s.Fingerprint != good.Fingerprint || !s.Loaded.Equal(good.Loaded) {
		t.Errorf("Status = %+v", s)
	}
	if err := f.Reload(t.Context()); err == nil {
		t.Error("the same bad file is good when read again")
	}

	swap(t, path, line("a"), line("b"))
	if err := f.Reload(t.Context()); err != nil || f.Status().Err != nil {
		t.Errorf("Reload = %v, Status.Err = %v", err, f.Status().Err)
	}
	swap(t, path, line("a", `"subject":"x"`), line("c"), line("d"))
	if err := f.Reload(t.Context()); err != nil {
		t.Errorf("Reload = %v", err)
	}
	if err := f.Reload(t.Context()); err != nil {
		t.Errorf("Reload = %v", err)
	}
	var got []string
	for _, r := range reloads {
		got = append(got, fmt.Sprintf("%v %d +%d -%d ~%d !%d", r.Err != nil, r.Entries, r.Added, r.Removed, r.Changed, r.Revoked))
	}
	want := []string{"false 2 +2 -0 ~0 !0", "true 2 +0 -0 ~0 !0", "true 2 +0 -0 ~0 !0", "false 2 +0 -0 ~0 !0", "false 3 +2 -1 ~1 !2"}
	if !slices.Equal(got, want) {
		t.Errorf("reloads %q\nwant %q", got, want)
	}
}

func TestReloadOfMissingFile(t *testing.T) {
	path := tokenPath(t)
	put(t, path, line("a"))
	f := mustOpen(t, path, Options{})
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	if err := f.Reload(t.Context()); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("Reload = %v", err)
	}
	if _, err := f.Authorize(t.Context(), with("a")); err != nil {
		t.Errorf("the last good version is gone: %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := f.Reload(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("Reload = %v", err)
	}
}

// meddler is a context that changes the file while it is read: the parser calls its Err from
// time to time.
type meddler struct {
	context.Context
	path  string
	times int
}

func (m *meddler) Err() error {
	if m.times--; m.times >= 0 {
		f, err := os.OpenFile(m.path, os.O_APPEND|os.O_WRONLY, 0)
		if err == nil {
			_, err = f.WriteString("#\n")
			err = errors.Join(err, f.Close())
		}
		if err != nil {
			return err
		}
	}
	return m.Context.Err()
}

func TestReloadOfChangingFile(t *testing.T) {
	path := tokenPath(t)
	synctest.Test(t, func(t *testing.T) {
		put(t, path, line("a"))
		var reloads int
		f := mustOpen(t, path, Options{OnReload: func(Reload) { reloads++ }})
		put(t, path, line("b"), strings.Repeat("\n", 1024)) // one call in each read
		if err := f.Reload(&meddler{t.Context(), path, 100}); !errors.Is(err, files.ErrChanging) {
			t.Errorf("Reload = %v, want %v", err, files.ErrChanging)
		}
		if _, err := f.Authorize(t.Context(), with("a")); err != nil || f.Status().Err != nil || reloads != 1 {
			t.Errorf("a changing file took effect: %v, %v, %d reloads", err, f.Status().Err, reloads)
		}
		ctx, cancel := context.WithTimeout(t.Context(), defaultInterval/2)
		defer cancel()
		if err := f.Reload(&meddler{ctx, path, 100}); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("Reload = %v, want the context's error", err)
		}
		if err := f.Reload(&meddler{t.Context(), path, 4}); err != nil {
			t.Errorf("Reload = %v after the file came to rest", err)
		}
		if _, err := f.Authorize(t.Context(), with("b")); err != nil || reloads != 2 {
			t.Errorf("Authorize = %v, %d reloads", err, reloads)
		}
	})
}

// many returns the lines of the entries from one number to another.
func many(from, to int) (lines []string) {
	for i := from; i < to; i++ {
		lines = append(lines, line(fmt.Sprint("id", i)))
	}
	return lines
}

// TestHalfWrittenFileRevokesNothing: if a version was written in place and lacks most of the
// entries, nothing shows that it is complete.
func TestHalfWrittenFileRevokesNothing(t *testing.T) {
	const comment = "# all gone\n"
	for _, tc := range []struct {
		name     string
		old, now []string
		refused  bool
	}{
		{"the only one", many(0, 1), []string{comment}, false},
		{"one of two", many(0, 2), many(0, 1), false},
		{"sixteen of sixteen", many(0, 16), []string{comment}, false},
		{"seventeen of seventeen", many(0, 17), []string{comment}, true},
		{"seventeen of thirty-three", many(0, 33), many(0, 16), true},
		{"seventeen of thirty-four", many(0, 34), many(0, 17), false},
		{"most of many", many(0, 1000), many(0, 499), true},
		{"half of many", many(0, 1000), many(0, 500), false},
		{"others instead", many(0, 100), many(100, 200), false},
		{"no line", many(0, 1), nil, true},
		{"blank lines", many(0, 1), []string{"\n \n"}, true},
		{"a comment after a comment", []string{comment}, []string{comment, comment}, false},
	} {
		t.Run(tc.name, func(t *testing.T) {
			watchFile(t, tc.old, func(t *testing.T, w *watched) {
				put(t, w.path, tc.now...)
				time.Sleep(time.Minute)
				synctest.Wait()
				r := w.took(t)
				if len(r) != 1 || (r[0].Err != nil) != tc.refused || r[0].Trusted != "" {
					t.Errorf("reloads %+v, want one; refused: %v", r, tc.refused)
				}
			})
		})
	}
}

// TestMassWithdrawalCounts: a version that lacks most of the entries is accepted if something
// shows that it is complete, and the reload says what.
func TestMassWithdrawalCounts(t *testing.T) {
	left := many(0, 15)
	end := append(slices.Clone(left), `{"end":true,"count":15}`+"\n")
	for _, tc := range []struct {
		name     string
		withdraw func(t *testing.T, w *watched)
		trusted  string
	}{
		{"by a rename", func(t *testing.T, w *watched) { swap(t, w.path, left...) }, "it replaced the old file"},
		{"by a link", func(t *testing.T, w *watched) {
			other := filepath.Join(t.TempDir(), "other")
			put(t, other, left...)
			if err := errors.Join(os.Symlink(other, w.path+".link"), os.Rename(w.path+".link", w.path)); err != nil {
				t.Fatal(err)
			}
		}, "it replaced the old file"},
		{"with an end line", func(t *testing.T, w *watched) { put(t, w.path, end...) }, "it has an end line"},
		{"by a reload", func(t *testing.T, w *watched) {
			put(t, w.path, left...)
			if err := w.Reload(t.Context()); err != nil {
				t.Error(err)
			}
		}, "the reload was requested"},
		{"by a rename while an older version is looked at", func(t *testing.T, w *watched) {
			put(t, w.path, many(0, 39)...)
			time.Sleep(defaultInterval)
			swap(t, w.path, left...)
		}, "it replaced the old file"},
		{"one by one", func(t *testing.T, w *watched) {
			// Each edit frees the inode of a file for one of the next.
			for i := 15; i < 40; i++ {
				if _, err := Revoke(w.path, fmt.Sprint("id", i)); err != nil {
					t.Fatal(err)
				}
			}
		}, "it replaced the old file"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			watchFile(t, many(0, 40), func(t *testing.T, w *watched) {
				w.want(t, betweenChecks)
				tc.withdraw(t, w)
				time.Sleep(time.Second)
				synctest.Wait()
				r := w.took(t)
				if len(r) != 1 || r[0].Err != nil || r[0].Removed != 25 || r[0].Trusted != tc.trusted {
					t.Errorf("reloads %+v, want one of which the reason is %q", r, tc.trusted)
				}
				w.mu.Lock()
				defer w.mu.Unlock()
				if len(w.revoked) != 25 {
					t.Errorf("%d tokens are revoked, want 25", len(w.revoked))
				}
			})
		})
	}
}

// TestRefusedWithdrawalCanBeConfirmed: every step that the error advises works.
func TestRefusedWithdrawalCanBeConfirmed(t *testing.T) {
	for name, confirm := range map[string]func(t *testing.T, w *watched) error{
		"reload": func(t *testing.T, w *watched) error { return w.Reload(t.Context()) },
		"rename": func(t *testing.T, w *watched) error { swap(t, w.path, many(0, 15)...); return nil },
		"end line": func(t *testing.T, w *watched) error {
			_, line, _ := strings.Cut(w.Status().Err.Error(), "end it with the line ")
			put(t, w.path, append(many(0, 15), line+"\n")...)
			return nil
		},
	} {
		t.Run(name, func(t *testing.T) {
			watchFile(t, many(0, 40), func(t *testing.T, w *watched) {
				put(t, w.path, many(0, 15)...)
				w.want(t, time.Second)
				shrunk, ok := errors.AsType[*ShrinkError](w.Status().Err)
				if !ok || shrunk.Gone != 25 || shrunk.Left != 15 {
					t.Fatalf("Status has %v", w.Status().Err)
				}
				if err := confirm(t, w); err != nil {
					t.Fatal(err)
				}
				time.Sleep(time.Second)
				if s := w.Status(); s.Err != nil || s.Entries != 15 {
					t.Errorf("Status = %+v", s)
				}
			})
		})
	}
}

// TestRecreatedFileIsNoReplacement: a file that is removed and written again under its name is
// not complete just because it is a different file.
func TestRecreatedFileIsNoReplacement(t *testing.T) {
	watchFile(t, many(0, 40), func(t *testing.T, w *watched) {
		if err := os.Remove(w.path); err != nil {
			t.Fatal(err)
		}
		time.Sleep(defaultInterval / 2) // between two checks, so that each finds a change
		for n := range 15 {
			put(t, w.path, many(0, n)...)
			time.Sleep(defaultInterval)
		}
		w.want(t, time.Minute)
		if _, ok := errors.AsType[*ShrinkError](w.Status().Err); !ok {
			t.Errorf("Status has %v", w.Status().Err)
		}
		put(t, w.path, many(0, 40)...)
		w.want(t, time.Second)
		if err := w.Status().Err; err != nil {
			t.Error(err)
		}
	})
}

// TestReloadRefusesAnEmptyFile: a file without a line is the result of a failed write, however
// it was made.
func TestReloadRefusesAnEmptyFile(t *testing.T) {
	path := tokenPath(t)
	put(t, path, line("a"))
	f := mustOpen(t, path, Options{})
	swap(t, path)
	if err := f.Reload(t.Context()); err == nil || !strings.Contains(err.Error(), `write the line {"end":true,"count":0} into it`) {
		t.Errorf("Reload = %v", err)
	}
	put(t, path, `{"end":true,"count":0}`)
	if err := f.Reload(t.Context()); err != nil {
		t.Error(err)
	}
}

func TestWarnings(t *testing.T) {
	path := tokenPath(t)
	put(t, path, line("a"))
	var last Reload
	f := mustOpen(t, path, Options{OnReload: func(r Reload) { last = r }})
	if len(last.Warnings) != 0 {
		t.Errorf("warnings %q", last.Warnings)
	}
	for mode, want := range map[fs.FileMode]string{
		0o640: "", 0o644: "everyone may read it (mode 0644); chmod 600 it", 0o660: "its group may write to it", 0o602: "everyone may write to it",
	} {
		if err := os.Chmod(path, mode); err != nil {
			t.Fatal(err)
		}
		if err := f.Reload(t.Context()); err != nil {
			t.Fatal(err)
		}
		warnings := f.Status().Warnings
		if got := strings.Join(warnings, "\n"); !strings.Contains(got, want) || want == "" && len(warnings) != 0 || want != "" && len(warnings) != 1 {
			t.Errorf("mode %o: warnings %q, want %q", mode, warnings, want)
		}
		if !slices.Equal(last.Warnings, warnings) {
			t.Errorf("mode %o: OnReload was not told of new warnings", mode)
		}
	}
}

// TestLookupWhileReloading: a lookup uses one version or the other. Every version has a and b
// with the same subject, and none has both states at once.
func TestLookupWhileReloading(t *testing.T) {
	path := tokenPath(t)
	version := func(n int) []string {
		s := fmt.Sprintf(`"subject":"v%d"`, n)
		return []string{line("a", s), line("b", s), line(fmt.Sprint("n", n))}
	}
	put(t, path, version(0)...)
	f := mustOpen(t, path, Options{})
	var done atomic.Bool
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			for !done.Load() {
				snap := f.current.Load()
				a, b := snap.withID("a").authorization(), snap.withID("b").authorization()
				if a.Subject != b.Subject {
					t.Error("a mix of two versions")
				}
				for _, id := range []string{"a", "b"} {
					if g, err := f.Authorize(t.Context(), with(id)); err != nil || g.TokenID != id {
						t.Errorf("%s: %v, %v", id, g, err)
					}
				}
				if _, err := f.Authorize(t.Context(), with("x")); !errors.Is(err, authz.ErrUnknown) {
					t.Errorf("x: %v", err)
				}
			}
		})
	}
	for n := range 50 {
		swap(t, path, version(n)...)
		if err := f.Reload(t.Context()); err != nil {
			t.Error(err)
		}
		f.Status()
	}
	done.Store(true)
	wg.Wait()
}

// TestConfirms: another file confirms a session if it would grant its token to the same device
// under the same conditions.
func TestConfirms(t *testing.T) {
	path := tokenPath(t)
	put(t, path, line("a", `"subject":"pump-7"`, `"expire_at":4000000000`))
	request := with("a")
	grant, err := mustOpen(t, path, Options{}).Authorize(t.Context(), request)
	if err != nil {
		t.Fatal(err)
	}
	for name, tc := range map[string]struct {
		lines       []string
		known, good bool
	}{
		"same":             {[]string{line("a", `"subject":"pump-7"`, `"expire_at":4000000000`)}, true, true},
		"no longer":        {[]string{line("a", `"subject":"pump-7"`)}, true, true},
		"shorter":          {[]string{line("a", `"subject":"pump-7"`, `"expire_at":3900000000`)}, true, false},
		"disabled":         {[]string{line("a", `"subject":"pump-7"`, `"expire_at":4000000000`, `"disabled":true`)}, true, false},
		"other subject":    {[]string{line("a", `"subject":"pump-8"`, `"expire_at":4000000000`)}, true, false},
		"other conditions": {[]string{line("a", `"subject":"pump-7"`, `"expire_at":4000000000`, `"cidr":"192.0.2.0/24"`)}, true, false},
		"other rights":     {[]string{line("a", `"subject":"pump-7"`, `"expire_at":4000000000`, `"acl":[]`)}, true, false},
		"other broker":     {[]string{line("a", `"subject":"pump-7"`, `"expire_at":4000000000`, `"upstream":{"username":"u"}`)}, true, false},
		"unknown":          {[]string{line("b")}, false, false},
	} {
		other := tokenPath(t)
		put(t, other, tc.lines...)
		if known, good := mustOpen(t, other, Options{}).Confirms(request.Token.Hash(), grant); known != tc.known || good != tc.good {
			t.Errorf("%s: known %v, good %v", name, known, good)
		}
	}
}

// TestConfirmsLooksAtAllOfAGrant: a session whose grant differs from that of its token in any
// field is not confirmed, except for how long an answer is kept.
func TestConfirmsLooksAtAllOfAGrant(t *testing.T) {
	path := tokenPath(t)
	put(t, path, line("a"))
	f, request := mustOpen(t, path, Options{}), with("a")
	grant, err := f.Authorize(t.Context(), request)
	if err != nil {
		t.Fatal(err)
	}
	differ := func(name string, set func(*authz.Grant)) {
		other := *grant
		set(&other)
		if _, good := f.Confirms(request.Token.Hash(), &other); good {
			t.Errorf("a session with another %s is confirmed", name)
		}
	}
	fields := reflect.TypeFor[authz.Grant]()
	for i := range fields.NumField() {
		switch field := fields.Field(i); {
		case field.Name == "Keep", field.Name == "Recheck", field.Name == "Expires": // which ends the session itself
		case field.Type.Kind() == reflect.Struct:
			for j := range field.Type.NumField() {
				differ(field.Name+"."+field.Type.Field(j).Name, func(g *authz.Grant) { fill(t, reflect.ValueOf(g).Elem().Field(i).Field(j)) })
			}
		default:
			differ(field.Name, func(g *authz.Grant) { fill(t, reflect.ValueOf(g).Elem().Field(i)) })
		}
	}
}

// fill gives v, a field of a grant, a value that no grant of these tests has.
func fill(t *testing.T, v reflect.Value) {
	switch value := v.Addr().Interface().(type) {
	case *string:
		*value = "other"
	case *authz.Role:
		*value = authz.RoleReader
	case *bool:
		*value = true
	case *int64:
		*value = 1
	case *[32]byte:
		value[0] = 1
	case *authz.Token:
		*value = authz.NewToken("other")
	case **authz.ACL:
		*value = &authz.ACL{}
	case **byte:
		*value = new(byte)
	case **bool:
		*value = new(bool)
	case *map[string]string:
		*value = map[string]string{"k": "other"}
	case *time.Time:
		*value = time.Now()
	case *[]string:
		*value = []string{"other"}
	case *[]netip.Prefix:
		*value = []netip.Prefix{netip.MustParsePrefix("192.0.2.0/24")}
	default:
		t.Fatalf("no value for a field of type %s", v.Type())
	}
}
