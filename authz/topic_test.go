package authz_test

import (
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/authz"
)

func TestValidTopic(t *testing.T) {
	for topic, want := range map[string]bool{
		"a": true, "/": true, "a//b": true, "$SYS/x": true, "a b": true, "é/ü": true, "$share/g/x": true,
		"": false, "a/+": false, "#": false, "a+": false, "a\x00": false, "\xff": false,
		strings.Repeat("x", 65535): true, strings.Repeat("x", 65536): false,
	} {
		if got := authz.ValidTopic(topic); got != want {
			t.Errorf("ValidTopic(%.20q) = %v", topic, got)
		}
	}
}

func TestValidFilter(t *testing.T) {
	for filter, want := range map[string]bool{
		"a": true, "/": true, "#": true, "+": true, "+/+/#": true, "/+": true, "a/#": true, "+//#": true, "$SYS/#": true,
		"": false, "a#": false, "#a": false, "a/#/b": false, "#/": false, "a+": false, "+a/b": false, "++": false, "##": false, "a/b+": false,
		"a\x00": false, "a/\xc3": false,
		strings.Repeat("x", 65535): true, strings.Repeat("x", 65536): false,
		"$share/g/a": true, "$share/g/#": true, "$share/g//": true, "$share/g/+/$x": true, "$shared/x": true, "$share/g/$SYS/#": true,
		"$share": false, "$share/": false, "$share/g": false, "$share/g/": false, "$share//a": false, "$share/+/a": false, "$share/g#/a": false,
		"$share/g/a#": false, "$share/g/$share/h/a": false, "$share/#": false,
	} {
		if got := authz.ValidFilter(filter); got != want {
			t.Errorf("ValidFilter(%.20q) = %v", filter, got)
		}
	}
}

func TestMatch(t *testing.T) {
	for _, test := range []struct {
		filter, topic string
		want          bool
	}{
		// The examples of MQTT 5.0 sections 4.7.1 and 4.7.2.
		{"sport/tennis/player1/#", "sport/tennis/player1", true},
		{"sport/tennis/player1/#", "sport/tennis/player1/score/wimbledon", true},
		{"sport/#", "sport", true},
		{"sport/tennis/+", "sport/tennis/player1", true},
		{"sport/tennis/+", "sport/tennis/player1/ranking", false},
		{"sport/+", "sport", false},
		{"sport/+", "sport/", true},
		{"+/+", "/finance", true},
		{"/+", "/finance", true},
		{"+", "/finance", false},
		{"#", "$SYS/x", false},
		{"+/monitor/Clients", "$SYS/monitor/Clients", false},
		{"$SYS/#", "$SYS/", true},
		{"$SYS/monitor/+", "$SYS/monitor/Clients", true},

		{"a/b", "a/bc", false},
		{"a/bc", "a/b", false},
		{"a/", "a", false},
		{"a/", "a/", true},
		{"a/", "a/b", false},
		{"a", "a/", false},
		{"a//b", "a//b", true},
		{"a/+/b", "a//b", true},
		{"A", "a", false},
		{"+/$x", "a/$x", true},
		{"$share/g/a/+", "a/b", true},
		{"$share/g/#", "$SYS/x", false},
	} {
		if got := authz.Match(test.filter, test.topic); got != test.want {
			t.Errorf("Match(%q, %q) = %v", test.filter, test.topic, got)
		}
		if got := authz.Match(test.filter, []byte(test.topic)); got != test.want {
			t.Errorf("Match(%q, %q) of bytes = %v", test.filter, test.topic, got)
		}
	}
}

func TestContainsAndOverlaps(t *testing.T) {
	for _, test := range []struct {
		a, b               string
		contains, overlaps bool
	}{
		{"a/b", "a/b", true, true},
		{"a/+", "a/b", true, true},
		{"a/b", "a/+", false, true},
		{"a/#", "a", true, true},
		{"a/#", "a/+/b", true, true},
		{"a/+/#", "a/#", false, true},
		{"+/#", "#", true, true}, // there is no empty topic
		{"#", "+/#", true, true},
		{"/+/#", "/#", true, true},
		{"+", "/#", false, false},
		{"+", "#", false, true},
		{"#", "$SYS/#", false, false},
		{"+/x", "$SYS/x", false, false},
		{"$SYS/#", "$SYS/+", true, true},
		{"$SYS/#", "#", false, false},
		{"a/+/c", "a/b/+", false, true},
		{"a/+/c", "+/b/d", false, false},
		{"a/#", "b/#", false, false},
		{"a/#", "$share/g/a/b", true, true},
		{"a/#", "$share/a/b", false, false},
	} {
		if got := authz.Contains(test.a, test.b); got != test.contains {
			t.Errorf("Contains(%q, %q) = %v", test.a, test.b, got)
		}
		if got := authz.Overlaps(test.a, test.b); got != test.overlaps {
			t.Errorf("Overlaps(%q, %q) = %v", test.a, test.b, got)
		}
	}
}

// selects is the definition from MQTT 5.0 section 4.7, level by level.
func selects(filter, topic []string) bool {
	if len(topic[0]) > 0 && topic[0][0] == '$' && (filter[0] == "+" || filter[0] == "#") {
		return false
	}
	for i, level := range filter {
		switch {
		case level == "#":
			return true
		case i == len(topic), level != "+" && level != topic[i]:
			return false
		}
	}
	return len(filter) == len(topic)
}

// everyTopic has all topics of up to four levels. The letter z occurs in no filter and stands
// for every other text.
func everyTopic() (all [][]string) {
	rows := [][]string{nil}
	for range 4 {
		var next [][]string
		for _, row := range rows {
			for _, level := range []string{"", "a", "b", "$s", "z"} {
				next = append(next, append(slices.Clone(row), level))
			}
		}
		all, rows = append(all, next...), next
	}
	return all[1:] // without the empty one
}

func filters() *rapid.Generator[[]string] {
	return rapid.Custom(func(t *rapid.T) []string {
		f := rapid.SliceOfN(rapid.SampledFrom([]string{"", "a", "b", "$s", "+"}), 0, 3).Draw(t, "levels")
		if len(f) == 0 || rapid.Bool().Draw(t, "deep") {
			f = append(f, "#")
		}
		if len(f) == 1 && f[0] == "" {
			f[0] = "a"
		}
		return f
	})
}

func TestTopicsAgainstModel(t *testing.T) {
	topics := everyTopic()
	rapid.Check(t, func(t *rapid.T) {
		a, b := filters().Draw(t, "a"), filters().Draw(t, "b")
		aText, bText := strings.Join(a, "/"), strings.Join(b, "/")
		if !authz.ValidFilter(aText) || !authz.ValidFilter(bText) {
			t.Fatal("not valid")
		}
		contains, overlaps := true, false
		for _, topic := range topics {
			inA, inB := selects(a, topic), selects(b, topic)
			if text := strings.Join(topic, "/"); authz.Match(aText, text) != inA {
				t.Fatalf("Match(%q, %q) = %v", aText, text, !inA)
			}
			contains = contains && (inA || !inB)
			overlaps = overlaps || inA && inB
		}
		if got := authz.Contains(aText, bText); got != contains {
			t.Fatalf("Contains(%q, %q) = %v", aText, bText, got)
		}
		if got := authz.Overlaps(aText, bText); got != overlaps {
			t.Fatalf("Overlaps(%q, %q) = %v", aText, bText, got)
		}
	})
}

// FuzzTopics checks the laws that connect the functions.
func FuzzTopics(f *testing.F) {
	for _, seed := range [][3]string{
		{"a/+/#", "a/b/#", "a/b/c"}, {"#", "$SYS/#", "$SYS/x"}, {"$share/g/a", "a", "a"}, {"/#", "+", "/"}, {"a#", "\x00", ""},
	} {
		f.Add(seed[0], seed[1], seed[2])
	}
	f.Fuzz(func(t *testing.T, a, b, topic string) {
		contains, overlaps := authz.Contains(a, b), authz.Overlaps(a, b)
		inA, inB := authz.Match(a, topic), authz.Match(b, topic)
		if inA != authz.Match(a, []byte(topic)) {
			t.Error("bytes and strings differ")
		}
		if authz.ValidTopic(topic) && !strings.HasPrefix(topic, "$share") && (!authz.ValidFilter(topic) || !authz.Match(topic, topic)) {
			t.Errorf("topic %q does not select itself", topic)
		}
		if !authz.ValidFilter(a) || !authz.ValidFilter(b) || !authz.ValidTopic(topic) {
			return
		}
		switch {
		case contains && inB && !inA:
			t.Errorf("%q contains %q, but not %q", a, b, topic)
		case inA && inB && !overlaps:
			t.Errorf("%q and %q do not overlap, but in %q", a, b, topic)
		case contains && !overlaps:
			t.Errorf("%q contains %q and does not overlap it", a, b)
		case overlaps != authz.Overlaps(b, a):
			t.Errorf("whether %q and %q overlap depends on the order", a, b)
		case !authz.Contains(a, a):
			t.Errorf("%q does not contain itself", a)
		}
	})
}

func BenchmarkMatch(b *testing.B) {
	b.ReportAllocs()
	topic := []byte("v1/devices/thermostat-0001/telemetry")
	for b.Loop() {
		authz.Match("v1/devices/thermostat-0001/+", topic)
	}
}

func BenchmarkContains(b *testing.B) {
	b.ReportAllocs()
	for b.Loop() {
		authz.Contains("v1/devices/thermostat-0001/#", "v1/devices/thermostat-0001/rpc/request/+")
	}
}

func BenchmarkOverlaps(b *testing.B) {
	b.ReportAllocs()
	for b.Loop() {
		authz.Overlaps("v1/devices/+/rpc/#", "v1/devices/thermostat-0001/rpc/request/+")
	}
}
