package files

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"testing"
)

// TestRead: a regular file is read completely, directly or through a link, or not at all.
func TestRead(t *testing.T) {
	dir := t.TempDir()
	path, link := filepath.Join(dir, "file"), filepath.Join(dir, "link")
	if err := errors.Join(os.WriteFile(path, []byte("12345678"), 0o640), os.Symlink(path, link)); err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		path  string
		limit int64
		want  error
	}{
		"a file of the limit":      {path, 8, nil},
		"a link to it":             {link, 100, nil},
		"a file above the limit":   {path, 7, ErrTooLarge},
		"no file":                  {path + "x", 8, fs.ErrNotExist},
		"a directory":              {dir, 8, ErrNotRegular},
		"a device that never ends": {"/dev/zero", 8, ErrNotRegular},
	} {
		t.Run(name, func(t *testing.T) {
			content, info, err := Read(c.path, c.limit)
			if !errors.Is(err, c.want) {
				t.Fatalf("Read says %v, want %v", err, c.want)
			}
			if err == nil && (string(content) != "12345678" || info.Size() != 8 || info.Mode().Perm() != 0o640) {
				t.Errorf("Read returns %q and %v", content, info.Mode())
			}
			if pathErr, ok := errors.AsType[*fs.PathError](err); err != nil && (!ok || pathErr.Path != c.path) {
				t.Errorf("the error %v does not name the file", err)
			}
		})
	}
}
