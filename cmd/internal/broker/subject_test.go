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

// FuzzSubjects: a device has topics of its own, on which no device publishes and which only the filters
// of readers match.
func FuzzSubjects(f *testing.F) {
	for _, s := range []string{"pump-1", "me", "", "a/b", "+", "#", "$SYS", "\x00", "\uffff", "\xff", "telemetry"} {
		f.Add(s, s)
	}
	f.Fuzz(func(t *testing.T, a, b string) {
		if CheckSubject(a) != nil || CheckSubject(b) != nil {
			return
		}
		topic := readerTopic(a, "telemetry")
		if strings.Count(topic, "/") != 3 || !validFilter(topic) || strings.ContainsAny(topic, "+#") || !isReaderTopic(topic) || !readersOnly(topic) || routeOf(topic) != routeRefused {
			t.Errorf("the topic of %q is %q", a, topic)
		}
		if same := topic == readerTopic(b, "telemetry"); same != (a == b) || matches(topic, readerTopic(b, "telemetry")) != same {
			t.Errorf("%q and %q have one topic", a, b)
		}
	})
}
