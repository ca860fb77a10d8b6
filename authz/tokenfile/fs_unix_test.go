//go:build unix

package tokenfile

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

func TestEditsFollowLinks(t *testing.T) {
	dir := t.TempDir()
	real, link := filepath.Join(dir, "real", "tokens"), filepath.Join(dir, "link")
	if err := errors.Join(os.Mkdir(filepath.Dir(real), 0o700), os.Symlink(filepath.Join("real", "tokens"), link)); err != nil {
		t.Fatal(err)
	}
	if _, err := Create(link, CreateOptions{Name: "x"}); err == nil || !strings.Contains(err.Error(), "a link to a file that does not exist") {
		t.Errorf("Create through a dangling link = %v", err)
	}
	put(t, real, line("a"))
	if _, err := Disable(link, "a"); err != nil {
		t.Fatal(err)
	}
	if info, err := os.Lstat(link); err != nil || info.Mode()&fs.ModeSymlink == 0 {
		t.Error("the link was replaced by a file")
	}
	if !strings.Contains(text(t, real), `"disabled":true`) {
		t.Error("the file behind the link did not change")
	}
}

func TestEditsKeepModeAndOwner(t *testing.T) {
	path := tokenPath(t)
	put(t, path, line("a"))
	if err := os.Chmod(path, 0o640); err != nil {
		t.Fatal(err)
	}
	owner := os.Geteuid()
	if owner == 0 {
		owner = 12345 // root can change the owner, and must keep it when it rewrites the file
		if err := os.Chown(path, owner, owner); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := Disable(path, "a"); err != nil {
		t.Fatal(err)
	}
	info, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	if uid := info.Sys().(*syscall.Stat_t).Uid; int(uid) != owner || info.Mode().Perm() != 0o640 {
		t.Errorf("owner %d, mode %o; want %d, 640", uid, info.Mode().Perm(), owner)
	}
}

// TestNewFilesOfRootGetTheOwnerOfTheDirectory creates files in a directory of a service's user.
// As any other user than root it checks that the owner does not change.
func TestNewFilesOfRootGetTheOwnerOfTheDirectory(t *testing.T) {
	dir := t.TempDir()
	owner := os.Geteuid()
	if owner == 0 {
		owner = 12345
		if err := os.Chown(dir, owner, owner); err != nil {
			t.Fatal(err)
		}
	}
	path := filepath.Join(dir, "tokens.jsonl")
	// The service might have made a link where root opens its lock.
	victim := filepath.Join(t.TempDir(), "shadow")
	put(t, victim, "x")
	if err := os.Symlink(victim, filepath.Join(dir, "other.lock")); err != nil {
		t.Fatal(err)
	}
	for _, p := range []string{path, filepath.Join(dir, "other")} {
		if _, err := Create(p, CreateOptions{Name: "x"}); err != nil {
			t.Fatal(err)
		}
	}
	for p, want := range map[string]int{path: owner, path + ".lock": owner, filepath.Join(dir, "other"): owner, victim: os.Geteuid()} {
		info, err := os.Stat(p)
		if err != nil {
			t.Fatal(err)
		}
		if uid := info.Sys().(*syscall.Stat_t).Uid; int(uid) != want {
			t.Errorf("%s belongs to %d, want %d", filepath.Base(p), uid, want)
		}
	}
}

func TestOpenRefusesPipes(t *testing.T) {
	path := tokenPath(t)
	if err := syscall.Mkfifo(path, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(path, Options{}); err == nil || !strings.Contains(err.Error(), "is not a regular file") {
		t.Errorf("Open = %v", err)
	}
}

func TestFailedWriteLeavesNothing(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "tokens.jsonl")
	if err := os.Mkdir(path, 0o700); err != nil { // cannot be replaced by a file
		t.Fatal(err)
	}
	if err := replaceFile(path, nil, writing([]byte("x"))); err == nil {
		t.Error("a directory was replaced")
	}
	if left, err := os.ReadDir(dir); err != nil || len(left) != 1 {
		t.Errorf("the directory has %v, %v", left, err)
	}
	if _, err := Create(path, CreateOptions{Name: "x"}); err == nil || !strings.Contains(err.Error(), "is not a regular file") {
		t.Errorf("Create = %v", err)
	}
}
