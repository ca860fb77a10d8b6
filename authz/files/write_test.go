package files

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
)

// get returns the content of a file.
func get(t *testing.T, path string) []byte {
	t.Helper()
	content, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return content
}

func noLinks(string, string) error { return syscall.EPERM } // like FAT

func TestCreateNeverReplaces(t *testing.T) {
	for name, link := range map[string]func(string, string) error{"link": os.Link, "rename": noLinks} {
		path := filepath.Join(t.TempDir(), "file")
		if err := create(path, []byte("first"), 0o600, link); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if err := create(path, []byte("second"), 0o600, link); !errors.Is(err, fs.ErrExist) {
			t.Errorf("%s: %v, want that it exists", name, err)
		}
		if got := get(t, path); string(got) != "first" {
			t.Errorf("%s: holds %q", name, got)
		}
		if entries, _ := os.ReadDir(filepath.Dir(path)); len(entries) != 1 {
			t.Errorf("%s: left %v", name, entries)
		}
	}
}

func TestCreateHasOneWinner(t *testing.T) {
	path := filepath.Join(t.TempDir(), "file")
	var winners atomic.Int32
	var all sync.WaitGroup
	for range 16 {
		all.Go(func() {
			if create(path, []byte("whole"), 0o600, os.Link) == nil {
				winners.Add(1)
			}
			if got := get(t, path); string(got) != "whole" {
				t.Errorf("holds %q", got)
			}
		})
	}
	all.Wait()
	if winners.Load() != 1 {
		t.Errorf("%d created it", winners.Load())
	}
}

func TestWriteErrors(t *testing.T) {
	dir := t.TempDir()
	if err := create(filepath.Join(dir, "no", "file"), nil, 0o600, os.Link); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("create without a directory: %v", err)
	}
	if err := os.Mkdir(filepath.Join(dir, "taken"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := Replace(filepath.Join(dir, "taken"), nil, 0o600); err == nil {
		t.Error("replaced a directory")
	}
	if entries, _ := os.ReadDir(dir); len(entries) != 1 {
		t.Errorf("left %v", entries)
	}
}
