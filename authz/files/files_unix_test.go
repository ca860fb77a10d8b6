//go:build unix

package files

import (
	"errors"
	"path/filepath"
	"syscall"
	"testing"
)

// TestPipesAreRefusedWithoutWaiting: nothing writes to the pipe, so that a read of it
// would never return.
func TestPipesAreRefusedWithoutWaiting(t *testing.T) {
	path := filepath.Join(t.TempDir(), "pipe")
	if err := syscall.Mkfifo(path, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, _, err := Read(path, 8); !errors.Is(err, ErrNotRegular) {
		t.Errorf("Read says %v, want %v", err, ErrNotRegular)
	}
	// What takes the file's place after the first look does not block either.
	f, err := openNow(path)
	if err != nil {
		t.Fatal(err)
	}
	_ = f.Close()
}
