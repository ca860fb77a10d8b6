package upstream

import (
	"slices"
	"strings"
	"testing"
	"unicode/utf8"

	"pgregory.net/rapid"

	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/authz/placeholder"
)

// drawTemplate returns a template with two or three placeholders. Like the values of the test,
// it has few different characters, so that separators often occur in values.
func drawTemplate(t *rapid.T) string {
	name := rapid.SampledFrom([]string{"subject", "client_id", "attrs.x"})
	plain := rapid.StringMatching(`[a:]{1,2}`)
	var b strings.Builder
	for range rapid.IntRange(2, 3).Draw(t, "placeholders") {
		b.WriteString("${" + name.Draw(t, "name") + "}" + plain.Draw(t, "literal"))
	}
	return b.String()
}

func drawValues(t *rapid.T, label string, value *rapid.Generator[string]) Values {
	return Values{
		Subject:  value.Draw(t, label+" subject"),
		ClientID: value.Draw(t, label+" client id"),
		Attrs:    map[string]string{"x": value.Draw(t, label+" attribute")},
	}
}

// sameIn reports whether a and b have the same value for every placeholder of the template.
func sameIn(template *Template, a, b Values) bool {
	return !slices.ContainsFunc(template.parts, func(p placeholder.Part) bool {
		x, _ := a.lookup(&p)
		y, _ := b.lookup(&p)
		return x != y
	})
}

// Two devices get the same name only if they have the same value for every placeholder. The
// second device takes its values from the first one's name, like an attacker who wants to get
// that name.
func TestTemplateIsUnambiguous(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		template, err := ParseTemplate(drawTemplate(t), ClientID)
		if err != nil {
			t.Fatal(err)
		}
		a := drawValues(t, "a", rapid.StringMatching(`[a:]{1,3}`))
		text, err := template.Expand(a)
		if err != nil {
			return
		}
		runes := []rune(text)
		stretch := rapid.Custom(func(t *rapid.T) string {
			from := rapid.IntRange(0, len(runes)-1).Draw(t, "from")
			to := rapid.IntRange(from+1, min(from+5, len(runes))).Draw(t, "to")
			return string(runes[from:to])
		})
		for range 200 {
			checkUnambiguous(t, template, a, drawValues(t, "b", stretch))
		}
	})
}

// checkUnambiguous fails the test if a and b get the same text from different values.
func checkUnambiguous(t interface{ Fatalf(string, ...any) }, template *Template, a, b Values) {
	x, err := template.Expand(a)
	if err != nil {
		return
	}
	y, err := template.Expand(b)
	if err == nil && x == y && !sameIn(template, a, b) {
		t.Fatalf("two devices get the text %q", x)
	}
}

func FuzzTemplate(f *testing.F) {
	f.Add("${subject}:${client_id}", "a", "b:c", "a:b", "c")
	f.Add("$${subject}${client_id}", "a", "b", "", "")
	f.Add("x${attrs.a}/${username}/${token}$", "a", "b", "a/", "")
	f.Add("${subject}\u00e4${client_id}", "\xc3", "\xa4", "a", "\xc3\xa4")
	f.Add("${", "", "", "", "")
	f.Add("${env:HOME}${listener}${token_id}", "a", "a", "a", "a")
	f.Fuzz(func(t *testing.T, text, s1, c1, s2, c2 string) {
		if strings.Contains(text, "${file:") {
			return // the fuzzer must not read this machine's files
		}
		facts := func(subject, id string) Values {
			return Values{
				Subject: subject, TokenID: subject, Username: subject, Listener: subject,
				ClientID: id, Token: id, ClientAddr: id,
				Attrs: map[string]string{"a": subject, "b": id},
			}
		}
		for _, field := range []Field{ClientID, Password} {
			template, err := ParseTemplate(text, field)
			if err != nil {
				continue
			}
			got, err := template.Expand(facts(s1, c1))
			if err == nil && len(got) > maxField {
				t.Fatalf("%d bytes", len(got))
			}
			if field == Password {
				continue
			}
			if err == nil && (!utf8.ValidString(got) || strings.ContainsFunc(got, isControl)) {
				t.Fatalf("not a string field: %q", got)
			}
			if err == nil && !strings.Contains(text, "${") && got != text {
				t.Fatalf("%q gives %q", text, got)
			}
			checkUnambiguous(t, template, facts(s1, c1), facts(s2, c2))
		}
	})
}
