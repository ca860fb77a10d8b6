package tokenfile

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/authz"
	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/authz/files"
)

// watched is a File whose Notify runs in a bubble.
type watched struct {
	*File
	path    string
	mu      sync.Mutex
	revoked []string
	reloads []Reload
}

// watchFile runs test with a watched file that holds lines.
func watchFile(t *testing.T, lines []string, test func(t *testing.T, w *watched)) {
	path := tokenPath(t)
	synctest.Test(t, func(t *testing.T) {
		put(t, path, lines...)
		w := &watched{path: path}
		w.File = mustOpen(t, path, Options{OnReload: func(r Reload) {
			w.mu.Lock()
			defer w.mu.Unlock()
			w.reloads = append(w.reloads, r)
		}})
		w.took(t) // what Open reported
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan error)
		go func() { ended <- w.Notify(ctx, w.note) }()
		synctest.Wait()
		test(t, w)
		cancel()
		if err := <-ended; err != nil {
			t.Errorf("Notify = %v", err)
		}
	})
}

func (w *watched) note(r authz.Revocation) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if r.Grant != nil {
		r.TokenID = fmt.Sprintf("%s for %x now %v", r.Grant.TokenID, r.TokenHash[:2], r.Grant.Attrs["k"])
	}
	w.revoked = append(w.revoked, r.TokenID)
}

// want waits and then checks that these ids have been revoked since the last call.
func (w *watched) want(t *testing.T, wait time.Duration, ids ...string) {
	t.Helper()
	time.Sleep(wait)
	synctest.Wait()
	w.mu.Lock()
	defer w.mu.Unlock()
	if !slices.Equal(w.revoked, ids) {
		t.Errorf("revoked %q, want %q", w.revoked, ids)
	}
	w.revoked = nil
}

// took returns the reloads since the last call.
func (w *watched) took(t *testing.T) []Reload {
	t.Helper()
	w.mu.Lock()
	defer w.mu.Unlock()
	r := w.reloads
	w.reloads = nil
	return r
}

const (
	fullCheck = 10 * time.Second // see package files
	maxTorn   = 20
	// betweenChecks is a time after which the content is not compared for a while.
	betweenChecks = 6*fullCheck + fullCheck/10
)

func TestNotifySeesEveryKindOfChange(t *testing.T) {
	dir := t.TempDir()
	for name, change := range map[string]func(t *testing.T, path string){
		"in place": func(t *testing.T, path string) { put(t, path, line("b")) },
		"rename":   func(t *testing.T, path string) { swap(t, path, line("b")) },
		"link": func(t *testing.T, path string) {
			put(t, filepath.Join(dir, "other"), line("b"))
			if err := os.Remove(path); err != nil {
				t.Fatal(err)
			}
			if err := os.Symlink(filepath.Join(dir, "other"), path); err != nil {
				t.Fatal(err)
			}
		},
		"same size and time": func(t *testing.T, path string) {
			info, err := os.Stat(path)
			if err != nil {
				t.Fatal(err)
			}
			swap(t, path, line("b"), line("c"))
			if err := os.Chtimes(path, info.ModTime(), info.ModTime()); err != nil {
				t.Fatal(err)
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			watchFile(t, []string{line("a"), line("b")}, func(t *testing.T, w *watched) {
				w.want(t, betweenChecks)
				change(t, w.path)
				w.want(t, time.Second, "a")
				if _, err := w.Authorize(t.Context(), with("a")); reasonOf(err) != authz.Unknown {
					t.Errorf("Authorize = %v", err)
				}
			})
		})
	}
}

// TestNotifySeesMountedFiles changes a file as Kubernetes does: the name is a link to
// ..data/NAME, and ..data is a link that is replaced.
func TestNotifySeesMountedFiles(t *testing.T) {
	dir := t.TempDir()
	version := func(n string, lines ...string) {
		if err := os.Mkdir(filepath.Join(dir, n), 0o700); err != nil {
			t.Fatal(err)
		}
		put(t, filepath.Join(dir, n, "tokens"), lines...)
		if err := os.Symlink(n, filepath.Join(dir, "..tmp")); err != nil {
			t.Fatal(err)
		}
		if err := os.Rename(filepath.Join(dir, "..tmp"), filepath.Join(dir, "..data")); err != nil {
			t.Fatal(err)
		}
	}
	version("..1", line("a"), line("b"))
	path := filepath.Join(dir, "tokens")
	if err := os.Symlink(filepath.Join("..data", "tokens"), path); err != nil {
		t.Fatal(err)
	}
	synctest.Test(t, func(t *testing.T) {
		w := &watched{File: mustOpen(t, path, Options{})}
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		go func() { _ = w.Notify(ctx, w.note) }()
		w.want(t, betweenChecks)
		version("..2", line("b"))
		if err := os.RemoveAll(filepath.Join(dir, "..1")); err != nil {
			t.Fatal(err)
		}
		w.want(t, time.Second, "a")
	})
}

// TestNotifySeesHiddenChanges changes the content and nothing that the file system reports
// about it.
func TestNotifySeesHiddenChanges(t *testing.T) {
	watchFile(t, []string{line("a"), line("b")}, func(t *testing.T, w *watched) {
		w.want(t, time.Minute)
		info, err := os.Stat(w.path)
		if err != nil {
			t.Fatal(err)
		}
		put(t, w.path, line("c"), line("b"))
		if err := os.Chtimes(w.path, info.ModTime(), info.ModTime()); err != nil {
			t.Fatal(err)
		}
		w.want(t, fullCheck+time.Second, "a")
	})
}

// TestNotifyWaitsForWriters writes the file in steps that each look complete.
func TestNotifyWaitsForWriters(t *testing.T) {
	watchFile(t, []string{line("a"), line("b"), line("c")}, func(t *testing.T, w *watched) {
		put(t, w.path, line("c"))
		w.want(t, defaultInterval)
		put(t, w.path, line("c"), "# b follows\n")
		w.want(t, defaultInterval)
		put(t, w.path, line("c"), "# b follows\n", line("b"))
		w.want(t, time.Second, "a")

		// A writer that never stops cannot delay a revocation indefinitely.
		for n := range 8 {
			put(t, w.path, line("c"), strings.Repeat("\n", n))
			time.Sleep(defaultInterval)
			synctest.Wait()
		}
		w.want(t, 0, "b")
		put(t, w.path)
		w.want(t, defaultInterval)
		put(t, w.path, line("c"))
		w.want(t, time.Second)
		for _, r := range w.took(t) {
			if r.Err != nil {
				t.Errorf("a file in the making was refused: %v", r.Err)
			}
		}
	})
}

// TestLookAtChangingFile changes the file during every read but the last.
func TestLookAtChangingFile(t *testing.T) {
	path := tokenPath(t)
	put(t, path, line("a"))
	refused := 0
	f := mustOpen(t, path, Options{OnReload: func(r Reload) {
		if r.Err != nil {
			refused++
		}
	}})
	put(t, path, line("b"), strings.Repeat("\n", 1024))
	ctx := &meddler{t.Context(), path, 1000}
	look := func(n int) {
		for range n {
			f.follower.Check(ctx)
		}
	}
	look(maxTorn)
	if e := f.current.Load(); e.len() != 1 || e.withID("a") == nil || refused != 0 {
		t.Errorf("a changing file took effect, or was refused %d times", refused)
	}
	ctx.times = 0
	look(2)
	ctx.times = 1000
	look(maxTorn)
	if f.current.Load().withID("b") == nil || refused != 0 {
		t.Errorf("a file that rested in between did not take effect, or was refused %d times", refused)
	}
	put(t, path, line("c"), strings.Repeat("\n", 1024))
	look(3 * maxTorn)
	if err := f.Status().Err; !errors.Is(err, files.ErrChanging) || refused != 1 {
		t.Errorf("a file that never rests was reported %d times: %v", refused, err)
	}
	ctx.times = 0
	look(2)
	if f.current.Load().withID("c") == nil || f.Status().Err != nil {
		t.Error("the file came to rest and is not in effect")
	}
}

func TestNotifyReportsBadVersionsOnce(t *testing.T) {
	watchFile(t, []string{line("a")}, func(t *testing.T, w *watched) {
		put(t, w.path, line("a"), "x\n")
		w.want(t, time.Minute)
		if r := w.took(t); len(r) != 1 || r[0].Err == nil {
			t.Errorf("reloads %v, want one failure", r)
		}
		put(t, w.path, line("a"), "xx\n")
		w.want(t, time.Minute)
		if r := w.took(t); len(r) != 1 || r[0].Err == nil {
			t.Errorf("reloads %v, want one more failure", r)
		}
		if err := os.Remove(w.path); err != nil {
			t.Fatal(err)
		}
		w.want(t, time.Minute)
		if r := w.took(t); len(r) != 1 || r[0].Err == nil {
			t.Errorf("reloads %v, want one failure for the missing file", r)
		}
		put(t, w.path, line("a"))
		w.want(t, time.Minute)
		if r := w.took(t); len(r) != 1 || r[0].Err != nil {
			t.Errorf("reloads %v, want one success", r)
		}
		put(t, w.path)
		w.want(t, time.Minute)
		if r := w.took(t); len(r) != 1 || r[0].Err == nil {
			t.Errorf("reloads %v, want one failure for the empty file", r)
		}
		put(t, w.path, "# no token\n")
		w.want(t, time.Minute, "a")
	})
}

func TestNotifyAfterReload(t *testing.T) {
	watchFile(t, []string{line("a"), line("b")}, func(t *testing.T, w *watched) {
		swap(t, w.path, line("b"))
		if err := w.Reload(t.Context()); err != nil {
			t.Fatal(err)
		}
		w.want(t, 0, "a") // at once, not at the next check
		w.want(t, time.Minute)
	})
}

func TestNotifyLosesNothingBetweenCalls(t *testing.T) {
	path := tokenPath(t)
	synctest.Test(t, func(t *testing.T) {
		put(t, path, line("a"), line("b"), line("c"), line("d"))
		first := &watched{File: mustOpen(t, path, Options{})}
		second := &watched{File: first.File}
		swap(t, path, line("c"), line("d"))
		if err := first.Reload(t.Context()); err != nil {
			t.Fatal(err)
		}

		// The first call ends with its first revocation, the second continues.
		ctx, cancel := context.WithCancel(t.Context())
		err := first.Notify(ctx, func(r authz.Revocation) { first.note(r); cancel() })
		if err != nil {
			t.Errorf("Notify = %v", err)
		}
		first.want(t, 0, "a")
		ctx, cancel = context.WithCancel(t.Context())
		var wg sync.WaitGroup
		wg.Go(func() { _ = first.Notify(ctx, first.note) })
		first.want(t, 0, "b")

		// A call that waits for its turn receives nothing until then, whenever it would have
		// checked the file.
		next, end := context.WithCancel(t.Context())
		first.want(t, defaultInterval/2)
		wg.Go(func() { _ = second.Notify(next, second.note) })
		for range 4 {
			swap(t, path, line("d"))
			first.want(t, time.Minute, "c")
			swap(t, path, line("c"), line("d"))
			first.want(t, time.Minute+defaultInterval/4)
		}
		second.want(t, 0)
		cancel()
		swap(t, path, line("c"))
		second.want(t, time.Minute, "d")
		first.want(t, 0)

		waits, give := context.WithCancel(t.Context())
		wg.Go(func() { _ = first.Notify(waits, first.note) })
		synctest.Wait()
		give()
		end()
		wg.Wait()
	})
}

// TestNotifyOfExpiry changes expiries: a session that began with no expiry, or a later one,
// must end at the new one.
func TestNotifyOfExpiry(t *testing.T) {
	at := func(id string, t time.Time) string { return line(id, fmt.Sprintf(`"expire_at":%d`, t.Unix())) }
	watchFile(t, []string{line("a"), line("b"), line("c"), line("d"), line("e")}, func(t *testing.T, w *watched) {
		start := time.Now()
		in := func(d time.Duration) time.Time { return start.Add(d) }
		put(t, w.path, at("a", in(time.Minute)), at("b", in(-time.Minute)), at("c", in(time.Minute)), at("d", in(time.Minute)), at("e", in(time.Minute)))
		w.want(t, time.Second, "b")
		if _, err := w.Authorize(t.Context(), with("a")); err != nil {
			t.Errorf("a is refused before its expiry: %v", err)
		}
		// c has no expiry again, d gets a later one, e ends for another reason.
		put(t, w.path, at("a", in(time.Minute)), at("b", in(-time.Minute)), line("c"), at("d", in(2*time.Minute)), line("e", `"disabled":true`))
		w.want(t, time.Second, "e")
		w.want(t, 57*time.Second)
		w.want(t, 2*time.Second, "a")
		w.want(t, 58*time.Second)
		w.want(t, 2*time.Second, "d")
		w.want(t, time.Hour)
	})
}

// TestWhatATokenAllowsChanges: its sessions get the latest grant instead of ending.
func TestWhatATokenAllowsChanges(t *testing.T) {
	hash := authz.NewToken("token-of-a").Hash()
	watchFile(t, []string{line("a", `"client_attrs":{"k":"1"}`), line("b")}, func(t *testing.T, w *watched) {
		put(t, w.path, line("a", `"client_attrs":{"k":"2"}`), line("b"))
		w.want(t, 2*time.Second, fmt.Sprintf("a for %x now 2", hash[:2]))
		put(t, w.path, line("a", `"client_attrs":{"k":"3"}`, `"disabled":true`), line("b"))
		w.want(t, 2*time.Second, "a")
	})
}
