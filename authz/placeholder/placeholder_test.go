package placeholder

import (
	"errors"
	"fmt"
	"reflect"
	"strings"
	"testing"
)

func plain() *Grammar { return &Grammar{Names: []string{"client_id", "client_addr", "attrs.NAME"}} }

// render returns the parts, with <name> for each placeholder.
func render(parts []Part) string {
	var out strings.Builder
	for _, p := range parts {
		if p.Name == "" {
			out.WriteString(p.Text + "|")
		} else {
			fmt.Fprintf(&out, "<%s>", p)
		}
	}
	return out.String()
}

func TestParse(t *testing.T) {
	escaped, percent := plain(), plain()
	escaped.Escaped = true
	percent.Percent = map[byte]string{'c': "client_id", 'a': "peerhost"}
	for _, c := range []struct {
		grammar    *Grammar
		text, want string
	}{
		{plain(), "", ""},
		{plain(), "a$b{}%c", "a$b{}%c|"},
		{plain(), "v1/${client_id}/#", "v1/|<client_id>/#|"},
		{plain(), "${clientid}${peerhost}${client_attrs.a.b}${attrs.c}", "<client_id><client_addr><attrs.a.b><attrs.c>"},
		{plain(), "$${client_id}$", "$|<client_id>$|"},
		{plain(), "}${client_id}}", "}|<client_id>}|"},
		{escaped, "a$${b}${client_id}$${", "a|${b}|<client_id>${|"},
		{escaped, "$$${client_id}", "$|${client_id}|"},
		{escaped, "%c", "%c|"},
		{percent, "u=%c&a=%a%z%", "u=|<client_id>&a=|<client_addr>%z%|"},
	} {
		parts, err := c.grammar.Parse(c.text)
		if got := render(parts); err != nil || got != c.want {
			t.Errorf("%q is %s, %v; want %s", c.text, got, err, c.want)
		}
	}
}

// TestParseRefuses: errors have the position, and contain nothing that may be a secret.
func TestParseRefuses(t *testing.T) {
	escaped := plain()
	escaped.Escaped = true
	escaped.Check = func(p Part) error {
		if strings.Contains(p.Key, " ") {
			return errors.New("needs a name without spaces")
		}
		return nil
	}
	const allowed = "allowed are ${client_id}, ${client_addr}, ${attrs.NAME}"
	for _, c := range []struct {
		grammar    *Grammar
		text, want string
	}{
		{plain(), "ab${", "the placeholder at byte 3 has no closing brace"},
		{escaped, "ab${hunter2", "the placeholder at byte 3 has no closing brace; a literal ${ is written $${"},
		{plain(), "${}", "the placeholder at byte 1 is empty; " + allowed},
		{plain(), "${hunter2}", "the placeholder at byte 1 is unknown; " + allowed},
		{escaped, "${hunter2}", "the placeholder at byte 1 is unknown; " + allowed + "; a literal ${ is written $${"},
		{plain(), "${attrs.}", "is unknown"},
		{plain(), "${attrs}", "is unknown"},
		{plain(), "${client_id.x}", "is unknown"},
		{plain(), "${ client_id}", "is unknown"},
		{plain(), "${env:HOME}", "is unknown"},
		{plain(), "${attrs.${client_id}}", "the placeholder at byte 1 has another one inside"},
		{escaped, "x${attrs.a b}", "the placeholder at byte 2 needs a name without spaces"},
	} {
		_, err := c.grammar.Parse(c.text)
		if err == nil || !strings.Contains(err.Error(), c.want) || strings.Contains(err.Error(), "hunter2") {
			t.Errorf("%q: %v, want %s", c.text, err, c.want)
		}
	}
}

func TestExpand(t *testing.T) {
	value := func(p Part) (string, error) {
		if p.Key == "none" {
			return "", errors.New("has no value")
		}
		return "${" + p.String() + "}", nil // is not replaced again
	}
	if got, err := plain().Expand("a/${clientid}/${client_attrs.x}", value); got != "a/${client_id}/${attrs.x}" || err != nil {
		t.Errorf("%q, %v", got, err)
	}
	if _, err := plain().Expand("${attrs.none}", value); err == nil || err.Error() != "has no value" {
		t.Errorf("the error of value is %v", err)
	}
}

// FuzzParse: the parts of an accepted text can be joined again, in every grammar.
func FuzzParse(f *testing.F) {
	for _, seed := range []string{"", "a${clientid}$${b}%c", "${attrs.x}${", "$$${}", "%%c${client_addr}"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		for _, g := range []*Grammar{plain(), {Names: plain().Names, Escaped: true}, {Names: plain().Names, Percent: map[byte]string{'c': "client_id"}}} {
			parts, err := g.Parse(text)
			if err != nil {
				continue
			}
			var again strings.Builder
			for _, p := range parts {
				switch {
				case p.Text == "" || p.Name != "" && !reflect.DeepEqual(p, Named(p.Text)):
					t.Errorf("%q has the part %+v", text, p)
				case p.Name != "":
					again.WriteString("${" + p.Text + "}")
				case g.Escaped:
					again.WriteString(strings.ReplaceAll(p.Text, "${", "$${"))
				default:
					again.WriteString(p.Text)
				}
			}
			if g.Percent == nil && again.String() != text {
				t.Errorf("%q became %q", text, again.String())
			}
		}
	})
}
