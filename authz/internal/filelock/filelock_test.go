package filelock

import (
	"context"
	"os"
	"path/filepath"
	"testing"
	"time"
)

// TestLock: the second call waits until the first has closed its file, or until its context
// ends.
func TestLock(t *testing.T) {
	path := filepath.Join(t.TempDir(), "x.lock")
	open := func() *os.File {
		f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { f.Close() })
		return f
	}
	first, second := open(), open()
	if err := Lock(t.Context(), first); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 2*retry)
	defer cancel()
	if err := Lock(ctx, second); err == nil {
		t.Fatal("two have the lock")
	}
	time.AfterFunc(2*retry, func() { first.Close() })
	if err := Lock(t.Context(), second); err != nil {
		t.Error(err)
	}
}
