package denylist

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/authz"
)

// TestTwoProcessesShareAFile: after a Save each process has the denials of the other, and the
// file has all of them.
func TestTwoProcessesShareAFile(t *testing.T) {
	path := filePath(t)
	before, next := open(t, path), open(t, path)
	until := time.Now().Add(time.Hour)
	for name, l := range map[string]*List{"before": before, "next": next} {
		if err := errors.Join(l.Deny(authz.Revocation{Subject: name}, until, false), l.Save()); err != nil {
			t.Fatal(err)
		}
	}
	if err := errors.Join(before.Save(), next.Save()); err != nil {
		t.Fatal(err)
	}
	for name, l := range map[string]*List{"before": before, "next": next, "the file": open(t, path)} {
		for _, subject := range []string{"before", "next"} {
			if _, denied := l.find(authz.Revocation{Subject: subject}); !denied {
				t.Errorf("%s does not deny %s", name, subject)
			}
		}
	}
}

// TestManyProcessesSaveAtOnce: no denial is lost.
func TestManyProcessesSaveAtOnce(t *testing.T) {
	path := filePath(t)
	var all sync.WaitGroup
	const processes, each = 4, 10
	for n := range processes {
		l := open(t, path)
		all.Go(func() {
			for i := range each {
				r := authz.Revocation{TokenID: fmt.Sprint(n, "-", i)}
				if err := l.Deny(r, time.Now().Add(time.Hour), false); err != nil {
					t.Error(err)
				}
				for l.Save() != nil { // on a busy machine, others may hold the lock for long
				}
			}
		})
	}
	all.Wait()
	if n := open(t, path).Len(); n != processes*each {
		t.Errorf("%d denials in the file, want %d", n, processes*each)
	}
}

// TestLastChangeOfADenialCounts: a process that has not changed a denial takes over the change
// of another one, even if that ended it.
func TestLastChangeOfADenialCounts(t *testing.T) {
	path := filePath(t)
	synctest.Test(t, func(t *testing.T) {
		r, now := authz.Revocation{Subject: "pump-7"}, time.Now()
		one := open(t, path)
		if err := errors.Join(one.Deny(r, now.Add(time.Hour), false), one.Save()); err != nil {
			t.Fatal(err)
		}
		other := open(t, path)
		if err := errors.Join(other.Deny(r, now.Add(2*time.Hour), false), other.Save(), one.Save()); err != nil {
			t.Fatal(err)
		}
		if got := one.denials[r].until; !got.Equal(whole(now.Add(2 * time.Hour))) {
			t.Errorf("until %v, want that of the other process", got)
		}
		if err := errors.Join(one.Deny(r, now.Add(time.Second), false), one.Save(), other.Save()); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Second)
		if one.Len() != 0 || other.Len() != 0 {
			t.Errorf("%d and %d denials of what one process has lifted", one.Len(), other.Len())
		}
	})
}

// TestDenialThatEndsBeforeItIsSaved: a longer denial in the file does not undo the change.
func TestDenialThatEndsBeforeItIsSaved(t *testing.T) {
	path := filePath(t)
	synctest.Test(t, func(t *testing.T) {
		l, r := open(t, path), authz.Revocation{Subject: "pump-7"}
		if err := errors.Join(l.Deny(r, time.Now().Add(time.Hour), false), l.Save(), l.Deny(r, time.Now().Add(time.Second), false)); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Minute)
		if n := l.Len(); n != 0 {
			t.Fatalf("%d denials", n)
		}
		if err := l.Save(); err != nil || l.Len() != 0 || open(t, path).Len() != 0 {
			t.Errorf("%d denials after Save = %v", l.Len(), err)
		}
	})
}

// TestDenialsOfAnotherProcessAreReported: they are reported once, so that sessions end, even if
// they came before Notify. Denials of this process are not reported.
func TestDenialsOfAnotherProcessAreReported(t *testing.T) {
	path := filePath(t)
	synctest.Test(t, func(t *testing.T) {
		one, other := open(t, path), open(t, path)
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		early, theirs := authz.Revocation{TokenID: "t0"}, authz.Revocation{TokenID: "t1"}
		if err := errors.Join(other.Deny(early, time.Now().Add(time.Hour), false), other.Save(), one.Save()); err != nil {
			t.Fatal(err)
		}
		var reported []authz.Revocation
		go func() {
			_ = one.Notify(ctx, func(r authz.Revocation) { reported = append(reported, r) })
		}()
		synctest.Wait()
		err := errors.Join(
			one.Deny(authz.Revocation{Subject: "mine"}, time.Now().Add(time.Hour), false), one.Save(),
			other.Deny(theirs, time.Now().Add(time.Hour), false), other.Save(),
			one.Save(), one.Save(), other.Save(), one.Save(),
		)
		synctest.Wait()
		if err != nil || !slices.Equal(reported, []authz.Revocation{early, theirs}) {
			t.Errorf("reported %+v, %v", reported, err)
		}
	})
}

// TestFileThatIsRemovedOrBroken: the denials of this process stay in force. A file that was
// removed is written again; a broken one is left for the operator to repair.
func TestFileThatIsRemovedOrBroken(t *testing.T) {
	path := filePath(t)
	l := open(t, path)
	if err := errors.Join(l.Deny(authz.Revocation{Subject: "pump-7"}, time.Now().Add(time.Hour), false), l.Save(), os.Remove(path), l.Save()); err != nil {
		t.Fatal(err)
	}
	if n := open(t, path).Len(); n != 1 {
		t.Errorf("%d denials in the file that was removed", n)
	}
	if err := os.WriteFile(path, []byte("{\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := l.Save(); err == nil || !strings.Contains(err.Error(), path+":1: ") || l.Len() != 1 {
		t.Errorf("a broken file: %v, %d denials", err, l.Len())
	}
	if text, err := os.ReadFile(path); err != nil || string(text) != "{\n" {
		t.Errorf("the broken file has become %q, %v", text, err)
	}
}
