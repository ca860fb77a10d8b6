package sqlitefile

import (
	"errors"
	"os"
	"path/filepath"
	"runtime"
	"testing"
	"time"
)

// TestFileIsForItsOwnerAlone: also what SQLite puts next to it, and whatever its name is.
func TestFileIsForItsOwnerAlone(t *testing.T) {
	path := filepath.Join(t.TempDir(), "a b?mode=memory#%41.db")
	if err := Create(path); err != nil {
		t.Fatal(err)
	}
	db, err := Connect(path, "rw", 1, time.Second, "journal_mode(wal)")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = db.Close() }()
	if _, err := db.ExecContext(t.Context(), "CREATE TABLE x (y INTEGER)"); err != nil {
		t.Fatal(err)
	}
	for _, end := range []string{"", "-wal", "-shm"} {
		info, err := os.Stat(path + end)
		if err != nil {
			t.Fatal(err)
		}
		if mode := info.Mode().Perm(); mode != 0o600 && runtime.GOOS != "windows" {
			t.Errorf("%q has mode %o", end, mode)
		}
	}
	reader, err := Connect(path, "ro", 1, time.Second)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = reader.Close() }()
	if _, err := reader.ExecContext(t.Context(), "INSERT INTO x VALUES (1)"); err == nil || Damaged(err) {
		t.Errorf("a write by a reader: %v, want an error that is no damage", err)
	}
}

func TestDamaged(t *testing.T) {
	path := filepath.Join(t.TempDir(), "x.db")
	if err := os.WriteFile(path, []byte("this is a text and no database, but longer than a header of one: ........................................"), 0o600); err != nil {
		t.Fatal(err)
	}
	db, err := Connect(path, "ro", 1, time.Second)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = db.Close() }()
	if _, err := db.ExecContext(t.Context(), "SELECT * FROM sqlite_schema"); !Damaged(err) {
		t.Errorf("%v is not taken for damage", err)
	}
	if Damaged(nil) || Damaged(errors.New("something else")) {
		t.Error("another error is taken for damage")
	}
}

func TestFreeSpace(t *testing.T) {
	if n, err := FreeSpace(t.TempDir()); err != nil || n == 0 {
		t.Errorf("%d bytes are free, error %v", n, err)
	}
	if _, err := FreeSpace(filepath.Join(t.TempDir(), "missing")); err == nil {
		t.Error("a directory that is not there has free space")
	}
}
