package integration

import (
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"unicode"
	"unicode/utf8"
)

var (
	markdownLink = regexp.MustCompile(`\]\(([^()\s]+)\)`)
	heading      = regexp.MustCompile(`^#+ +(.*)$`)
	codeSpan     = regexp.MustCompile("`[^`]*`")
)

// TestLinksLeadSomewhere: every relative link in a document of the repository names a file or
// folder that exists, and every fragment a heading of that document.
func TestLinksLeadSomewhere(t *testing.T) {
	documents, links := markdownFiles(t, ".."), 0
	for _, document := range documents {
		for _, line := range prose(t, document) {
			for _, match := range markdownLink.FindAllStringSubmatch(codeSpan.ReplaceAllString(line, ""), -1) {
				if strings.Contains(match[1], ":") {
					continue // a URL
				}
				links++
				if reason := checkLink(t, document, match[1]); reason != "" {
					t.Errorf("%s: the link to %s leads nowhere: %s", document, match[1], reason)
				}
			}
		}
	}
	if len(documents) < 10 || links < 20 {
		t.Errorf("only %d links in %d documents were found", links, len(documents))
	}
}

// TestDocumentsFitTheScreen: a line of text has at most 100 columns. Tables, code and lists of
// links may be wider.
func TestDocumentsFitTheScreen(t *testing.T) {
	for _, document := range markdownFiles(t, "..") {
		if strings.Contains(document, "ISSUE_TEMPLATE") {
			continue // GitHub keeps the line breaks of a template
		}
		for _, line := range prose(t, document) {
			if utf8.RuneCountInString(line) > 100 && !strings.HasPrefix(line, "|") && !strings.Contains(line, "](") {
				t.Errorf("%s: a line has more than 100 columns: %s", document, line)
			}
		}
	}
}

// checkLink returns what is wrong with a relative link in a document.
func checkLink(t *testing.T, document, link string) string {
	t.Helper()
	file, fragment, hasFragment := strings.Cut(link, "#")
	target := document
	if file != "" {
		target = filepath.Join(filepath.Dir(document), filepath.FromSlash(file))
	}
	if _, err := os.Stat(target); err != nil {
		return "there is no such file"
	}
	if !hasFragment {
		return ""
	}
	for _, line := range prose(t, target) {
		if match := heading.FindStringSubmatch(line); match != nil && fragment == anchor(match[1]) {
			return ""
		}
	}
	return "there is no such heading"
}

// anchor returns the fragment by which GitHub names a heading.
func anchor(text string) string {
	return strings.Map(func(r rune) rune {
		switch {
		case r == ' ':
			return '-'
		case r == '-' || r == '_' || unicode.IsLetter(r) || unicode.IsDigit(r):
			return unicode.ToLower(r)
		}
		return -1
	}, text)
}

// prose returns the lines of a document that are not in a block of code.
func prose(t *testing.T, document string) (lines []string) {
	t.Helper()
	text, err := os.ReadFile(document)
	if err != nil {
		t.Fatal(err)
	}
	code := false
	for line := range strings.SplitSeq(string(text), "\n") {
		if strings.HasPrefix(strings.TrimSpace(line), "```") {
			code = !code
			continue
		}
		if !code {
			lines = append(lines, line)
		}
	}
	return lines
}

// markdownFiles returns the documents below root that belong to the repository.
func markdownFiles(t *testing.T, root string) (files []string) {
	t.Helper()
	err := filepath.WalkDir(root, func(path string, entry fs.DirEntry, err error) error {
		switch name := entry.Name(); {
		case err != nil:
			return err
		case entry.IsDir() && (name == ".git" || name == "bin" || name == "dist" || name == "node_modules"):
			return filepath.SkipDir
		case filepath.Ext(name) == ".md":
			files = append(files, path)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return files
}

// TestArchitectureNamesEveryPackage: cmd/ARCHITECTURE.md has a row for each package.
func TestArchitectureNamesEveryPackage(t *testing.T) {
	text, err := os.ReadFile("../cmd/ARCHITECTURE.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range listPackages(t) {
		name := strings.TrimPrefix(p.ImportPath, module+"/")
		if !strings.Contains(string(text), "\n| [`"+name+"`](") {
			t.Errorf("cmd/ARCHITECTURE.md has no row for %s", name)
		}
	}
}
