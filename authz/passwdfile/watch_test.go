package passwdfile

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/authz"
)

// watched is a File whose Notify runs in a bubble.
type watched struct {
	*File
	path    string
	mu      sync.Mutex
	revoked []string
	reloads []Reload
}

func watchFile(t *testing.T, lines []string, test func(t *testing.T, w *watched)) {
	path := passwdPath(t)
	synctest.Test(t, func(t *testing.T) {
		put(t, path, lines...)
		w := &watched{path: path}
		w.File = mustOpen(t, path, Options{OnReload: func(r Reload) {
			w.mu.Lock()
			defer w.mu.Unlock()
			w.reloads = append(w.reloads, r)
		}})
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan error)
		go func() {
			ended <- w.Notify(ctx, func(r authz.Revocation) {
				w.mu.Lock()
				defer w.mu.Unlock()
				w.revoked = append(w.revoked, r.TokenID)
			})
		}()
		synctest.Wait()
		test(t, w)
		cancel()
		if err := <-ended; err != nil {
			t.Errorf("Notify = %v", err)
		}
	})
}

// tick waits for one check of the file to be over. A sleep alone would end at the same instant as
// the check begins, and what the test does next could come before it.
func (w *watched) tick() {
	time.Sleep(defaultInterval)
	synctest.Wait()
}

// want waits a second and then expects these ids to have been revoked since the last time.
func (w *watched) want(t *testing.T, ids ...string) {
	t.Helper()
	time.Sleep(time.Second)
	synctest.Wait()
	w.mu.Lock()
	defer w.mu.Unlock()
	if !slices.Equal(w.revoked, ids) {
		t.Errorf("revoked %v, want %v", w.revoked, ids)
	}
	w.revoked = nil
}

func (w *watched) lets(t *testing.T, user, password string, want authz.Reason) {
	t.Helper()
	_, err := w.Authorize(t.Context(), login(user, password))
	if reasonOf(err) != want {
		t.Errorf("%s: %v, want %q", user, err, want)
	}
}

func TestChangesTakeEffectWithinASecond(t *testing.T) {
	watchFile(t, []string{line("a", of("a")), line("b", of("b")), line("c", of("c"))}, func(t *testing.T, w *watched) {
		put(t, w.path, line("a", of("a")), line("b", "another"), line("d", of("d")))
		w.want(t, "b", "c")
		w.lets(t, "a", of("a"), "")
		w.lets(t, "b", of("b"), authz.WrongPassword)
		w.lets(t, "b", "another", "")
		w.lets(t, "c", of("c"), authz.Unknown)
		w.lets(t, "d", of("d"), "")
		if r := w.reloads[len(w.reloads)-1]; r.Err != nil || r.Added != 1 || r.Changed != 1 || r.Removed != 1 || r.Entries != 3 {
			t.Errorf("%+v", r)
		}
		swap(t, w.path, "# in another order\n", line("d", of("d")), line("b", "another"), "\n", line("a", of("a")))
		w.want(t)
	})
}

// TestGrantIsShared: a version in which a line is the same keeps its grant.
func TestGrantIsShared(t *testing.T) {
	watchFile(t, []string{line("a", of("a"))}, func(t *testing.T, w *watched) {
		before, _ := w.Authorize(t.Context(), login("a", of("a")))
		put(t, w.path, line("a", of("a")), line("b", of("b")))
		w.want(t)
		if after, _ := w.Authorize(t.Context(), login("a", of("a"))); after != before || after == nil {
			t.Error("the grant is another one")
		}
	})
}

// TestBadVersionKeepsTheLastGood: a bad version changes nothing about who may connect.
func TestBadVersionKeepsTheLastGood(t *testing.T) {
	for name, change := range map[string]func(t *testing.T, path string){
		"a bad line": func(t *testing.T, path string) { put(t, path, line("a", of("a")), "b\n") },
		"empty":      func(t *testing.T, path string) { put(t, path) },
		"gone":       func(_ *testing.T, path string) { _ = os.Remove(path) },
		"a directory": func(_ *testing.T, path string) {
			_ = os.Remove(path)
			_ = os.Mkdir(path, 0o700)
		},
	} {
		t.Run(name, func(t *testing.T) {
			watchFile(t, []string{line("a", of("a"))}, func(t *testing.T, w *watched) {
				change(t, w.path)
				w.want(t)
				w.lets(t, "a", of("a"), "")
				w.lets(t, "b", of("b"), authz.Unknown)
				if s := w.Status(); s.Err == nil || s.Entries != 1 {
					t.Errorf("%+v", s)
				}
				if err := w.Reload(t.Context()); err == nil {
					t.Error("Reload accepts it")
				}
				_ = os.Remove(w.path)
				put(t, w.path, line("b", of("b")))
				w.want(t, "a")
				if s := w.Status(); s.Err != nil {
					t.Errorf("%+v", s)
				}
			})
		})
	}
}

// TestFileThatLacksMostUsersIsRefused unless it was renamed over the old file or a reload was
// requested.
func TestFileThatLacksMostUsersIsRefused(t *testing.T) {
	var lines, ids []string
	for i := range 40 {
		user := fmt.Sprintf("u%02d", i)
		lines = append(lines, line(user, of(user)))
		ids = append(ids, user)
	}
	watchFile(t, lines, func(t *testing.T, w *watched) {
		put(t, w.path, lines[:10]...)
		w.want(t)
		if _, ok := errors.AsType[*ShrinkError](w.Status().Err); !ok {
			t.Errorf("%v", w.Status().Err)
		}
		if err := w.Reload(t.Context()); err != nil {
			t.Error(err)
		}
		w.want(t, ids[10:]...)
	})
	watchFile(t, lines, func(t *testing.T, w *watched) {
		swap(t, w.path, lines[:10]...)
		w.want(t, ids[10:]...)
	})
	watchFile(t, lines, func(t *testing.T, w *watched) { // a new file that is not complete yet
		swap(t, w.path, lines[:5]...)
		w.tick()
		put(t, w.path, lines[:10]...)
		w.want(t)
		put(t, w.path, lines...)
		w.want(t)
	})
	watchFile(t, lines, func(t *testing.T, w *watched) {
		put(t, w.path, lines[:24]...)
		w.want(t, ids[24:]...)
	})
}

// TestWriteIsWaitedFor: a file that is being written is read once it no longer changes.
func TestWriteIsWaitedFor(t *testing.T) {
	watchFile(t, []string{line("a", of("a")), line("b", of("b"))}, func(t *testing.T, w *watched) {
		put(t, w.path, line("a", of("a")))
		w.tick()
		put(t, w.path, line("a", of("a")), line("b", of("b")), line("c", of("c")))
		w.want(t)
		w.lets(t, "c", of("c"), "")
	})
}
