package integration

import (
	"os"
	"strings"
	"testing"
)

// TestServiceOfTheREADME: the example in the manual is the file that is tested.
func TestServiceOfTheREADME(t *testing.T) {
	service, err := os.ReadFile("token_service/service.py")
	if err != nil {
		t.Fatal(err)
	}
	if blocks := manualBlocks(t, "python"); len(blocks) != 1 || blocks[0] != string(service) {
		t.Error("the Python in authz/README.md is not token_service/service.py")
	}
	if lines := strings.Count(string(service), "\n"); lines >= 40 {
		t.Errorf("the example has %d lines, want less than 40", lines)
	}
}

// manualBlocks returns the fenced blocks of a language in the manual for token services.
func manualBlocks(t testing.TB, language string) (blocks []string) {
	t.Helper()
	text, err := os.ReadFile("../authz/README.md")
	if err != nil {
		t.Fatal(err)
	}
	rest := string(text)
	for {
		_, after, found := strings.Cut(rest, "\n```"+language+"\n")
		if !found {
			return blocks
		}
		block, next, closed := strings.Cut(after, "\n```\n")
		if !closed {
			t.Fatalf("a block of %s has no end", language)
		}
		blocks, rest = append(blocks, block+"\n"), "\n"+next
	}
}
