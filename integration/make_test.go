package integration

import (
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// TestMakeRunSaysThatItCompiles: the first line of `make run` comes before Go compiles.
func TestMakeRunSaysThatItCompiles(t *testing.T) {
	makefile, err := os.ReadFile("../Makefile")
	if err != nil {
		t.Fatal(err)
	}
	if !regexp.MustCompile(`(?m)^run:.*\n\t@echo 'Compiling .*\n\t@go run -v `).Match(makefile) {
		t.Error("make run does not begin with a line that says what it does, or compiles without naming packages")
	}
}

// TestMakeRunsEveryIntegrationTest: `make integration` names each package outside of this folder
// that has tests with the build tag.
func TestMakeRunsEveryIntegrationTest(t *testing.T) {
	makefile, err := os.ReadFile("../Makefile")
	if err != nil {
		t.Fatal(err)
	}
	command := regexp.MustCompile(`go test -tags integration .* (\./integration/\.\.\.) (.*)`).FindSubmatch(makefile)
	if command == nil {
		t.Fatal("Makefile has no command that runs ./integration/... with the build tag")
	}
	var packages []string
	for _, dir := range []string{"authz", "cmd", "packets", "proxy"} {
		err := filepath.WalkDir(filepath.Join("..", dir), func(path string, _ fs.DirEntry, err error) error {
			if err != nil || !strings.HasSuffix(path, "_test.go") {
				return err
			}
			text, err := os.ReadFile(path)
			name := "./" + strings.TrimPrefix(filepath.ToSlash(filepath.Dir(path)), "../")
			if strings.Contains(string(text), "//go:build integration") && !slices.Contains(packages, name) {
				packages = append(packages, name)
			}
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	if named := strings.Fields(string(command[2])); !slices.Equal(named, packages) {
		t.Errorf("make integration runs %v, and %v have such tests", named, packages)
	}
}
