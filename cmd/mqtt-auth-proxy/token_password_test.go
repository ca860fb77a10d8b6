package main

import (
	"strings"
	"testing"
)

// TestLongSecretIsNotCut: a token or a password on stdin that is too long is an error. Its
// beginning would be stored as another secret, which the device does not have.
func TestLongSecretIsNotCut(t *testing.T) {
	for _, end := range []string{"", "\n"} {
		longest := strings.Repeat("x", maxPasswordFile-len(end)) + end
		if got, err := readSecret(strings.NewReader(longest), '\n'); err != nil || got != longest {
			t.Errorf("%d bytes: %d, %v", len(longest), len(got), err)
		}
		if got, err := readSecret(strings.NewReader("x"+longest), '\n'); err == nil || got != "" {
			t.Errorf("%d bytes: %d, %v", len(longest)+1, len(got), err)
		}
	}
	if got, err := readSecret(strings.NewReader("first\nsecond"), '\n'); err != nil || got != "first\n" {
		t.Errorf("two lines: %q, %v", got, err)
	}
}
