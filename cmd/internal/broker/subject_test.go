package broker

import (
	"strings"
	"testing"
)

// TestSubjectMustBeALevelOfATopic: what a device is called stands in topics.
func TestSubjectMustBeALevelOfATopic(t *testing.T) {
	for _, tt := range []struct {
		subject string
		ok      bool
	}{
		{"pump-1", true},
		{"Pumpe 1 (Süd)", true},
		{"a:b@c.example", true},
		{"$SYS", true}, // never the first level
		{"Me", true},
		{"meter", true},
		{"\U0001F4A7", true},
		{strings.Repeat("x", 1024), true},

		{"", false},
		{"me", false},
		{strings.Repeat("x", 1025), false},
		{"plant/pump", false},
		{"/", false},
		{"pump+", false},
		{"+", false},
		{"#", false},
		{"pump#1", false},
		{"pump\x001", false},
		{"pump\n", false},
		{"pump\x7f", false},
		{"pump\u0085", false},
		{"pump\xff", false},
		{"pump\ufffe", false},
		{"pump\ufdd0", false},
		{"pump\U0010ffff", false},
	} {
		err := CheckSubject(tt.subject)
		if (err == nil) != tt.ok {
			t.Errorf("CheckSubject(%q) = %v", tt.subject, err)
		}
		if err != nil && len(tt.subject) > 4 && strings.Contains(err.Error(), tt.subject) {
			t.Errorf("the error %q contains the subject", err)
		}
	}
}
