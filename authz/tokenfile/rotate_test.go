package tokenfile

import (
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/authz"
)

// owned is an entry of the device x as the package itself writes it.
func owned(id string, more ...string) string {
	fields := append([]string{fmt.Sprintf(`"id":%q,"subject":"x","token_hash":%q`, id, hashOf("token-of-"+id))}, more...)
	return "{" + strings.Join(fields, ",") + "}\n"
}

func TestRotate(t *testing.T) {
	const day = 24 * time.Hour
	at := func(d time.Duration) string { return stampText(time.Date(2000, 1, 1, 0, 0, 0, 0, time.UTC).Add(d)) }
	expires := func(d time.Duration) string { return `"expire_at":"` + at(d) + `"` }
	created := func(d time.Duration) string { return `"created_at":"` + at(d) + `"` }
	// fresh returns the entry that Rotate makes, with the old id and hash.
	fresh := func(more ...string) string { return owned("new", more...) }
	for _, tc := range []struct {
		name    string
		old     string
		overlap time.Duration
		want    string
	}{
		{"at once", owned("a", `"comment":"c"`) + line("b"), 0, line("b") + fresh(created(0), `"comment":"c"`)},
		{"id is the device", line("x"), 0, fresh(created(0))},
		{"all of them", owned("a") + owned("b", `"clientid":"c"`) + owned("c", `"disabled":true`), 0, fresh(`"clientid":"c"`, created(0))},
		{"overlap", owned("a", `"upstream":{"username":"u"}`), day, owned("a", expires(day), `"upstream":{"username":"u"}`) + fresh(`"upstream":{"username":"u"}`, created(0))},
		{"overlap in whole seconds", owned("a"), 1999 * time.Millisecond, owned("a", expires(time.Second)) + fresh(created(0))},
		{"overlap of less than a second", owned("a"), 999 * time.Millisecond, fresh(created(0))},
		{"sooner anyway", owned("a", expires(day)), 2 * day, owned("a", expires(day)) + fresh(expires(day), created(0))},
		{"sooner for some", owned("a", expires(day)) + owned("b"), 2 * day, owned("a", expires(day)) + owned("b", expires(2*day)) + fresh(created(0))},
		{"expired ones go", owned("a", expires(0)) + owned("b"), day, owned("b", expires(day)) + fresh(created(0))},
		{"too late to begin", owned("a", `"not_before":"`+at(day)+`"`) + owned("b"), day, owned("b", expires(day)) + fresh(created(0))},
		{"lives as long", owned("a", expires(day), created(-2*day)), 0, fresh(expires(3*day), created(0))},
		{"lives as long, though expired", owned("a", expires(-day), created(-2*day)), day, fresh(expires(day), created(0))},
		{"lives for centuries", owned("a", `"expire_at":90000000000`, created(0)), 0, fresh(`"expire_at":"4821-12-26T16:00:00Z"`, created(0))},
	} {
		t.Run(tc.name, func(t *testing.T) {
			path := tokenPath(t)
			put(t, path, tc.old)
			synctest.Test(t, func(t *testing.T) { // for the clock: 2000-01-01
				made, err := Rotate(path, "x", tc.overlap)
				if err != nil {
					t.Fatal(err)
				}
				got := strings.NewReplacer(made.ID, "new", fmt.Sprintf("sha256:%x", made.Token.Hash()), hashOf("token-of-new")).Replace(text(t, path))
				if diff := cmp.Diff(tc.want, got); diff != "" {
					t.Error(diff)
				}
				shown, err := Show(path, made.ID)
				if err != nil || len(shown) != 1 || !shown[0].Expires.Equal(made.Expires) || shown[0].Fingerprint != made.Token.Fingerprint() {
					t.Errorf("Show = %+v, %v; want %+v", shown, err, made)
				}
			})
		})
	}
}

func TestRotateRefuses(t *testing.T) {
	for _, tc := range []struct {
		name    string
		old     string
		overlap time.Duration
		want    string
	}{
		{"expired, age not known", owned("a", `"expire_at":1700000000`), 0, "the token has expired"},
		{"disabled", owned("a", `"disabled":true`), 0, "all tokens of the device are disabled"},
		{"negative overlap", owned("a"), -1, "the overlap is negative"},
		{"an id is no device", line("y", `"subject":"z"`) + strings.Replace(line("x"), `"x"`, `"x","subject":"y"`, 1), 0, ErrNotFound.Error()},
	} {
		path := tokenPath(t)
		put(t, path, tc.old)
		if _, err := Rotate(path, "x", tc.overlap); err == nil || !strings.Contains(err.Error(), tc.want) || text(t, path) != tc.old {
			t.Errorf("%s: Rotate = %v, want %s and the file as it was", tc.name, err, tc.want)
		}
	}
}

func TestRotateWithOverlapKeepsBoth(t *testing.T) {
	path := tokenPath(t)
	synctest.Test(t, func(t *testing.T) {
		first, err := Create(path, CreateOptions{Name: "x"})
		if err != nil {
			t.Fatal(err)
		}
		second, err := Rotate(path, "x", time.Hour)
		if err != nil {
			t.Fatal(err)
		}
		f := mustOpen(t, path, Options{})
		for range 2 {
			_, old := f.Authorize(t.Context(), authz.Request{Token: first.Token})
			_, now := f.Authorize(t.Context(), authz.Request{Token: second.Token})
			if want := time.Now().Before(time.Date(2000, 1, 1, 1, 0, 0, 0, time.UTC)); (old == nil) != want || now != nil {
				t.Errorf("old %v, new %v; want the old one to be good: %v", old, now, want)
			}
			time.Sleep(time.Hour)
		}
	})
}
