package upstream

import (
	"regexp"
	"strings"
	"testing"
	"unicode/utf8"
)

const scopedClientID = "${subject}:${client_id}"

// TestScopedClientID: the default client id consists of the subject and the device's own client
// id, and works for every subject.
func TestScopedClientID(t *testing.T) {
	long := strings.Repeat("c", 40)
	for _, tt := range []struct {
		subject, id string
		level       byte
		want        string // empty for a digest
	}{
		{"pump-7", "sensor", 4, "pump-7:sensor"},
		{"pump-7", "pump-7", 5, "pump-7"},
		{"pump-7", "a:b:c", 4, "pump-7:a:b:c"},
		{"urn:dev:mac:0024", "x", 4, "urn%3Adev%3Amac%3A0024:x"},
		{"a:b", "a:b", 4, "a%3Ab"},
		{"100%", "x", 4, "100%25:x"},
		{"tab\tand\x00", "x", 5, "tab%09and%00:x"},
		{"nel\u0085", "x", 5, "nel%C2%85:x"},
		{"\xff", "x", 5, "%FF:x"},
		{"grün", "x", 3, "grün:x"},
		{"pump-7", long, 4, "pump-7:" + long},
		{"pump-7", "exactly-sixteen!", 3, "pump-7:exactly-sixteen!"},
		{"pump-7", "more-than-sixteen", 3, ""},
		{long, long, 3, ""},
	} {
		got, err := mustParse(t, scopedClientID, ClientID).Expand(Values{Subject: tt.subject, ClientID: tt.id, Level: tt.level})
		if err != nil || tt.want != "" && got != tt.want {
			t.Errorf("%q and %q make %q, error %v; want %q", tt.subject, tt.id, got, err, tt.want)
		}
		if tt.want == "" && !regexp.MustCompile(`^[0-9A-Za-z]{23}$`).MatchString(got) {
			t.Errorf("%q and %q make %q for MQTT 3.1, want 23 letters and digits", tt.subject, tt.id, got)
		}
	}
}

// TestScopedClientIDRefuses: only a bad client id of the device is an error.
func TestScopedClientIDRefuses(t *testing.T) {
	template := mustParse(t, scopedClientID, ClientID)
	for _, tt := range []struct {
		values Values
		want   string
	}{
		{Values{Subject: "pump-7", ClientID: "a\x00b"}, "${client_id} contains a control character"},
		{Values{Subject: "pump-7"}, "${client_id} has no value"},
		{Values{ClientID: "c"}, "${subject} has no value"},
		{Values{Subject: "pump-7", ClientID: strings.Repeat("c", maxField)}, errTooLong.Error()},
	} {
		if got, err := template.Expand(tt.values); err == nil || err.Error() != tt.want {
			t.Errorf("%q, error %v, want %s", got, err, tt.want)
		}
	}
}

// TestOnlyClientIDsAreScoped: a user name or password with the same template is not escaped.
func TestOnlyClientIDsAreScoped(t *testing.T) {
	for _, field := range []Field{Username, Password} {
		got, err := mustParse(t, scopedClientID, field).Expand(Values{Subject: "pump-7", ClientID: "pump-7", Level: 3})
		if err != nil || got != "pump-7:pump-7" {
			t.Errorf("field %d: %q, error %v", field, got, err)
		}
	}
}

// FuzzScopedClientID: two devices get the same client id only if they have the same subject and
// sent the same client id.
func FuzzScopedClientID(f *testing.F) {
	f.Add("a", "b:c", "a:b", "c", byte(4))
	f.Add("a:b", "a:b", "a", "b", byte(5))
	f.Add("a%3Ab", "c", "a:b", "c", byte(4))
	f.Add("\xff", "\xff", "\ufffd", "\ufffd", byte(3))
	template, err := ParseTemplate(scopedClientID, ClientID)
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, s1, c1, s2, c2 string, level byte) {
		one, err := template.Expand(Values{Subject: s1, ClientID: c1, Level: level})
		if err != nil {
			return
		}
		if !utf8.ValidString(one) || strings.ContainsFunc(one, isControl) || len(one) > maxField {
			t.Fatalf("%q and %q make %q", s1, c1, one)
		}
		if level == 3 && utf8.RuneCountInString(one) > maxClientID31 {
			t.Fatalf("%q is too long for MQTT 3.1", one)
		}
		two, err := template.Expand(Values{Subject: s2, ClientID: c2, Level: level})
		if err == nil && one == two && (s1 != s2 || c1 != c2) {
			t.Fatalf("%q, %q and %q, %q make %q", s1, c1, s2, c2, one)
		}
	})
}
