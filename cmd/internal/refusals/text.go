package refusals

import (
	"fmt"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/proxy"
)

// The longest texts in a row, in bytes, without the mark of a truncated text.
const (
	maxName   = 128
	maxDetail = 256
)

// detailOf returns the detail of a refusal as it is kept.
func detailOf(r proxy.Refusal) string {
	if r.Err == nil {
		return ""
	}
	return bounded(r.Err.Error(), maxDetail)
}

// bounded returns a copy of text of about limit bytes at most, in which everything that cannot be
// printed is escaped as in a Go string.
func bounded(text string, limit int) string {
	if len(text) <= limit && printable(text) {
		return strings.Clone(text)
	}
	var b strings.Builder
	for rest := text; rest != ""; {
		r, n := utf8.DecodeRuneInString(rest)
		part := rest[:n]
		if !strconv.IsPrint(r) || r == utf8.RuneError && n == 1 {
			part = strings.Trim(strconv.QuoteToASCII(part), `"`)
		}
		if b.Len()+len(part) > limit {
			fmt.Fprintf(&b, "... (%d bytes)", len(text))
			break
		}
		b.WriteString(part)
		rest = rest[n:]
	}
	return strings.Clone(b.String()) // without the room for growth
}

// printable reports whether text is valid UTF-8 that can be printed.
func printable(text string) bool {
	for i, r := range text {
		if !strconv.IsPrint(r) || r == utf8.RuneError && !strings.HasPrefix(text[i:], "\uFFFD") {
			return false
		}
	}
	return true
}

// sizeOf returns the memory that a row takes, in bytes. The key of a row has no text of its own
// in most cases, and a copy of one text at most.
func sizeOf(r *Refusal) int {
	return rowBytes + len(r.Detail) + len(r.Subject) + len(r.ClientID) + len(r.Fingerprint) + max(len(r.Subject), len(r.ClientID))
}
