package integration

import (
	"io/fs"
	"os"
	"regexp"
	"strings"
	"testing"
)

// TestNothingIsSkippedInCI: a test that cannot run calls harness.Skip, which fails where
// CI=true, so that a tool that was not installed cannot make a run green.
func TestNothingIsSkippedInCI(t *testing.T) {
	skip := regexp.MustCompile(`\b(t|tb|b)\.Skip(f|Now)?\(`)
	root := os.DirFS("..")
	err := fs.WalkDir(root, ".", func(path string, entry fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case entry.Name() == "node_modules":
			return fs.SkipDir
		case !strings.HasSuffix(path, ".go") || path == "integration/harness/harness.go":
			return nil
		}
		text, err := fs.ReadFile(root, path)
		for _, call := range skip.FindAllString(string(text), -1) {
			t.Errorf("%s calls %s), want harness.Skip", path, call)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
}
