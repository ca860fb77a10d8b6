package packets

import (
	"errors"
	"strings"
	"testing"
)

// packet returns a packet with a fixed header and the parts.
func packet(first byte, parts ...string) []byte {
	body := strings.Join(parts, "")
	return append(appendVarint([]byte{first}, len(body)), body...)
}

// field returns a string or binary field with its length.
func field(s string) string { return string(appendField(nil, s)) }

// props returns properties with their length.
func props(parts ...string) string {
	p := strings.Join(parts, "")
	return string(appendVarint(nil, len(p))) + p
}

// text, pairOf and num return encoded properties.
func text(id PropertyID, value string) string { return string(rune(id)) + field(value) }

func pairOf(name, value string) string { return "\x26" + field(name) + field(value) }

func num(id PropertyID, value ...byte) string { return string(rune(id)) + string(value) }

// wantRule fails the test unless err is a violation of that rule.
func wantRule(t *testing.T, err error, rule string) {
	t.Helper()
	var malformed *MalformedError
	if !errors.As(err, &malformed) {
		t.Fatalf("error is %v, want the rule %s", err, rule)
	}
	if malformed.Rule != rule {
		t.Fatalf("error is %v, want the rule %s", err, rule)
	}
}
