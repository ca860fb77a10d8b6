package files

import (
	"context"
	"errors"
	"hash"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

func replace(t *testing.T, path, text string) {
	t.Helper()
	put(t, path+".new", text)
	if err := os.Rename(path+".new", path); err != nil {
		t.Fatal(err)
	}
}

func TestStamp(t *testing.T) {
	path := filepath.Join(t.TempDir(), "file")
	if s := StampOf(path); !s.Equal(Stamp{}) {
		t.Error("a missing file has a stamp")
	}
	put(t, path, "x")
	then := time.Unix(1_700_000_000, 0)
	for name, change := range map[string]func() error{
		"another file": func() error {
			if err := errors.Join(os.WriteFile(path+"2", []byte("x"), 0o600), os.Rename(path+"2", path)); err != nil {
				return err
			}
			return os.Chtimes(path, then, then)
		},
		"size": func() error {
			put(t, path, "xy")
			return os.Chtimes(path, then, then)
		},
		"time":    func() error { return os.Chtimes(path, then, then.Add(1)) },
		"mode":    func() error { return os.Chmod(path, 0o640) },
		"missing": func() error { return os.Remove(path) },
	} {
		put(t, path, "x")
		if err := errors.Join(os.Chmod(path, 0o600), os.Chtimes(path, then, then)); err != nil {
			t.Fatal(err)
		}
		before := StampOf(path)
		if !before.Equal(StampOf(path)) {
			t.Errorf("%s: a stamp differs from itself", name)
		}
		if err := change(); err != nil {
			t.Fatal(err)
		}
		if before.Equal(StampOf(path)) {
			t.Errorf("%s: the change goes unseen", name)
		}
	}
}

// followed is a file that is followed in a bubble. The text "bad" is a fault.
type followed struct {
	path string
	*Follower[string]
	mu       sync.Mutex
	events   []string
	meddle   atomic.Bool // with it each parse changes the file
	accepted Origin
}

func follow(t *testing.T, text string, test func(t *testing.T, f *followed)) {
	path := filepath.Join(t.TempDir(), "file")
	synctest.Test(t, func(t *testing.T) {
		put(t, path, text)
		f := &followed{path: path}
		f.Follower = Follow(path, time.Second, f.parse, func(text string, o Origin) error {
			f.note(text)
			f.accepted = o
			return nil
		}, func(err error) { f.note("refused: " + err.Error()) })
		if err := f.Reload(t.Context()); err != nil {
			t.Fatal(err)
		}
		f.want(t, 0, text)
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan struct{})
		go func() {
			defer close(ended)
			f.Run(ctx, func() {})
		}()
		time.Sleep(time.Second / 2) // between two checks
		test(t, f)
		cancel()
		<-ended
		f.seen.read.close()
	})
}

func (f *followed) parse(_ context.Context, r io.ReadSeeker, digest hash.Hash) (string, error) {
	data, err := io.ReadAll(io.TeeReader(r, digest))
	if f.meddle.Load() {
		if err := os.WriteFile(f.path, append(data, '+'), 0o600); err != nil {
			return "", err
		}
	}
	if string(data) == "bad" {
		return "", errors.New("bad")
	}
	return string(data), err
}

func (f *followed) note(event string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.events = append(f.events, event)
}

// want expects these events after that many checks.
func (f *followed) want(t *testing.T, checks int, events ...string) {
	t.Helper()
	time.Sleep(time.Duration(checks) * time.Second)
	synctest.Wait()
	f.mu.Lock()
	defer f.mu.Unlock()
	if !slices.Equal(f.events, events) {
		t.Errorf("%q, want %q", f.events, events)
	}
	f.events = nil
}

func TestFollowerReadsAFileThatRests(t *testing.T) {
	follow(t, "one", func(t *testing.T, f *followed) {
		f.want(t, 12)
		put(t, f.path, "the second")
		f.want(t, 1)
		f.want(t, 1, "the second")
		for n := range maxMoving { // it never rests
			put(t, f.path, strings.Repeat("x", 20+n))
			f.want(t, 1)
		}
		f.want(t, 1, strings.Repeat("x", 20+maxMoving-1))
		put(t, f.path, "bad")
		f.want(t, 20, "refused: bad")
		put(t, f.path, "good again")
		f.want(t, 2, "good again")
	})
}

func TestFollowerSeesWhatTheStampDoesNot(t *testing.T) {
	follow(t, "one", func(t *testing.T, f *followed) {
		info, err := os.Stat(f.path)
		if err != nil {
			t.Fatal(err)
		}
		put(t, f.path, "two")
		if err := os.Chtimes(f.path, info.ModTime(), info.ModTime()); err != nil {
			t.Fatal(err)
		}
		f.want(t, 5)
		f.want(t, 6, "two")
		f.want(t, 30)
	})
}

func TestFollowerKnowsReplacements(t *testing.T) {
	follow(t, "one", func(t *testing.T, f *followed) {
		replace(t, f.path, "two")
		f.want(t, 2, "two")
		if !f.accepted.Replaced || f.accepted.Asked {
			t.Errorf("a renamed file: %+v", f.accepted)
		}
		put(t, f.path, "three")
		f.want(t, 2, "three")
		if f.accepted.Replaced {
			t.Errorf("a file written in place: %+v", f.accepted)
		}
		replace(t, f.path, "fo")
		f.want(t, 1)
		put(t, f.path, "four, in two parts")
		f.want(t, 2, "four, in two parts")
		if f.accepted.Replaced {
			t.Errorf("a new file that was written after it got its name: %+v", f.accepted)
		}
		if err := f.Reload(t.Context()); err != nil || !f.accepted.Asked {
			t.Errorf("%v, %+v", err, f.accepted)
		}
	})
}

func TestFollowerReportsAFileThatNeverRestsOnce(t *testing.T) {
	follow(t, "one", func(t *testing.T, f *followed) {
		f.meddle.Store(true)
		put(t, f.path, "second")
		f.want(t, 5*maxTorn, "refused: "+f.path+": "+ErrChanging.Error())
		f.meddle.Store(false)
		put(t, f.path, "it rests")
		f.want(t, 2, "it rests")
	})
}

func TestFollowerWakes(t *testing.T) {
	path := filepath.Join(t.TempDir(), "file")
	synctest.Test(t, func(t *testing.T) {
		put(t, path, "one")
		f := Follow(path, time.Hour, func(context.Context, io.ReadSeeker, hash.Hash) (int, error) { return 0, nil },
			func(int, Origin) error { return nil }, func(error) {})
		ctx, cancel := context.WithCancel(t.Context())
		delivered := 0
		ended := make(chan struct{})
		go func() {
			defer close(ended)
			f.Run(ctx, func() { delivered++ })
		}()
		for want := 1; want <= 3; want++ {
			synctest.Wait()
			if delivered != want {
				t.Errorf("delivered %d times, want %d", delivered, want)
			}
			f.Wake()
		}
		cancel()
		<-ended
	})
}

func TestMostGone(t *testing.T) {
	for _, c := range []struct {
		had, has int
		want     bool
	}{{0, 0, false}, {16, 0, false}, {17, 0, true}, {40, 24, false}, {40, 20, false}, {40, 19, true}, {10, 100, false}} {
		if got := MostGone(c.had, c.has); got != c.want {
			t.Errorf("MostGone(%d, %d) = %v", c.had, c.has, got)
		}
	}
}
