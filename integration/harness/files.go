package harness

import (
	"os"
	"path/filepath"
	"testing"
)

// ReadFile returns the content of the file at the path that is joined from the parts.
func ReadFile(t testing.TB, path ...string) string {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(path...))
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// WriteFile writes a file that only the owner may read.
func WriteFile(t testing.TB, file, content string) {
	t.Helper()
	if err := os.WriteFile(file, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
}
