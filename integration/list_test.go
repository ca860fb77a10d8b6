package integration

import (
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// TestEveryStoryIsListed: the package comment has one line for each file with tests.
func TestEveryStoryIsListed(t *testing.T) {
	doc, err := os.ReadFile("doc.go")
	if err != nil {
		t.Fatal(err)
	}
	var listed []string
	for _, line := range regexp.MustCompile(`(?m)^//\t(\w+) {2,}\w`).FindAllStringSubmatch(string(doc), -1) {
		listed = append(listed, line[1])
	}
	files, err := filepath.Glob("*_test.go")
	if err != nil {
		t.Fatal(err)
	}
	var stories []string
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		if regexp.MustCompile(`(?m)^func Test\w+\(t `).Match(text) {
			stories = append(stories, strings.TrimSuffix(strings.TrimSuffix(file, "_test.go"), "_linux"))
		}
	}
	for _, story := range stories {
		if !slices.Contains(listed, story) {
			t.Errorf("doc.go does not list %s", story)
		}
	}
	for _, name := range listed {
		if !slices.Contains(stories, name) {
			t.Errorf("doc.go lists %s, which has no tests", name)
		}
	}
}
