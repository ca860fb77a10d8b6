//go:build unix

package files

import (
	"errors"
	"path/filepath"
	"syscall"
	"testing"
)

// TestPipesAreRefusedWithoutWaiting: no process writes to the pipe, so reading it would never
// return.
func TestPipesAreRefusedWithoutWaiting(t *testing.T) {
	path := filepath.Join(t.TempDir(), "pipe")
	if err := syscall.Mkfifo(path, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, _, err := Read(path, 8); !errors.Is(err, ErrNotRegular) {
		t.Errorf("Read says %v, want %v", err, ErrNotRegular)
	}
	// A pipe that replaces the file after the first check does not block either.
	f, err := openNow(path)
	if err != nil {
		t.Fatal(err)
	}
	_ = f.Close()
}
