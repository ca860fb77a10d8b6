package refusals

import (
	"strconv"
	"strings"
	"testing"
	"unicode/utf8"
)

// FuzzBounded: whatever a device sends is kept as a bounded, printable text, which stays what it is
// when it is asked for again.
func FuzzBounded(f *testing.F) {
	for _, seed := range []string{"pump-7", "\x00\xff\u202e", strings.Repeat("é", 100), `a\x00`, "\ufffd"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		got := bounded(text, maxName)
		if !utf8.ValidString(got) || strings.ContainsFunc(got, func(r rune) bool { return !strconv.IsPrint(r) }) {
			t.Errorf("%q is kept as %q", text, got)
		}
		if len(got) > maxName+len("... (18446744073709551615 bytes)") {
			t.Errorf("%d bytes are kept as %d", len(text), len(got))
		}
		if !isName(got, text) || !isName(got, got) {
			t.Errorf("%q is not found by what it is, or by what is shown", got)
		}
	})
}
