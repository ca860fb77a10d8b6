package tokenfile

import (
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/authz"
)

// editLines makes an edit of lines that are all in the scope of the names a to c.
func editLines(t *testing.T, lines string, change func(*Edit) error) *Changes {
	t.Helper()
	c, err := EditLines([]byte(lines), Scope{Names: []string{"a", "b", "c"}}, change)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func TestEditLines(t *testing.T) {
	lines := line("a", `"acl":[{"permission":"allow","action":"all","topic":"x"}]`) + line("b") + line("c")
	c := editLines(t, lines, func(e *Edit) error {
		made, err := e.Rotate("a", time.Hour)
		if err != nil || made.Name != "a" {
			return err
		}
		if _, err := e.Disable("b"); err != nil {
			return err
		}
		_, err = e.Revoke("c")
		return err
	})
	if len(c.Added) != 1 || c.Added[0].SuccessorOf != "a" || c.Added[0].Subject != "a" || !strings.Contains(string(c.Added[0].RawACL), `"topic":"x"`) {
		t.Errorf("added %+v", c.Added)
	}
	if len(c.Changed) != 2 || c.Changed[0].New.Expires.IsZero() || !c.Changed[0].Old.Expires.IsZero() || !c.Changed[1].New.Disabled || c.Changed[1].Moved {
		t.Errorf("changed %+v", c.Changed)
	}
	if !slices.Equal(c.Removed, []string{"c"}) {
		t.Errorf("removed %q", c.Removed)
	}
}

// TestEditLinesReplace: an entry that an import replaces by one with the same id and token has
// changed, so that a store need not end its sessions; with another token it is another entry.
func TestEditLinesReplace(t *testing.T) {
	c := editLines(t, line("a", `"comment":"old"`)+line("b"), func(e *Edit) error {
		b := batch(t, strings.TrimSpace(line("a", `"comment":"new"`)), `{"id":"b","token":"another-token-of-b"}`)
		done, err := e.Import(b, ReplaceExisting)
		if done.Added != 2 || done.Removed != 2 {
			t.Errorf("done %+v", done)
		}
		return err
	})
	if len(c.Changed) != 1 || !c.Changed[0].Moved || c.Changed[0].Old.Comment != "old" || c.Changed[0].New.Comment != "new" {
		t.Errorf("changed %+v", c.Changed)
	}
	if !slices.Equal(c.Removed, []string{"b"}) || len(c.Added) != 1 || c.Added[0].ID != "b" {
		t.Errorf("removed %q, added %+v", c.Removed, c.Added)
	}
}

func TestEditLinesFaults(t *testing.T) {
	_, err := EditLines([]byte(line("a")+"{}\n"), All(), func(*Edit) error { return nil })
	if broken, ok := errors.AsType[*FormatError](err); !ok || broken.Faults[0].Line != 2 {
		t.Errorf("a line without an entry: %v", err)
	}
	mine := errors.New("mine")
	if _, err := EditLines([]byte(line("a")), All(), func(e *Edit) error { _, _ = e.Revoke("a"); return mine }); !errors.Is(err, mine) {
		t.Errorf("an error of the edit: %v", err)
	}
}

// TestEditLinesStaysInScope: whether there is an entry outside of the scope is not known, so an
// edit that asks must not get an answer.
func TestEditLinesStaysInScope(t *testing.T) {
	outside := func(s Scope, change func(*Edit)) (panicked bool) {
		defer func() { panicked = recover() != nil }()
		_, _ = EditLines([]byte(line("a-1", `"subject":"a"`)), s, func(e *Edit) error { change(e); return nil })
		return false
	}
	named, pattern := Scope{Names: []string{"a"}}, Scope{Pattern: "a*"}
	for name, c := range map[string]struct {
		scope  Scope
		change func(*Edit)
		want   bool
	}{
		"a name of the scope":     {named, func(e *Edit) { _, _ = e.Revoke("a") }, false},
		"an id that is loaded":    {named, func(e *Edit) { _, _ = e.Revoke("a-1") }, false},
		"a name by the pattern":   {pattern, func(e *Edit) { _, _ = e.Rotate("a", 0) }, false},
		"another name":            {named, func(e *Edit) { _, _ = e.Revoke("b") }, true},
		"another by the pattern":  {pattern, func(e *Edit) { _, _ = e.Revoke("b") }, true},
		"a device to be made":     {named, func(e *Edit) { _, _ = e.Create(CreateOptions{Name: "b", New: true}) }, true},
		"the pattern":             {pattern, func(e *Edit) { e.Match("a*"); e.MatchDevices("a*") }, false},
		"another pattern":         {pattern, func(e *Edit) { e.Match("*") }, true},
		"another one for devices": {named, func(e *Edit) { e.MatchDevices("a") }, true},
	} {
		if got := outside(c.scope, c.change); got != c.want {
			t.Errorf("%s: panicked %t", name, got)
		}
	}
}

func TestScopeOfBatch(t *testing.T) {
	s := batch(t, `{"subject":"x","id":"x-1","token":"token-of-the-x-1"}`, `{"username":"u","password_hash":"$6$c2FsdHNhbHRzYWx0$wubETsBLUkdA8YhllItOiVnq5vju3IomjkYfpjX2ElbiG8Z0MqfqXCSOtEODPK1eih3eRPQRJvZ/u5TFhojR6Q=="}`).Scope()
	if !slices.Contains(s.Names, "x") || !slices.Contains(s.Names, "x-1") || !slices.Contains(s.Names, "u") || len(s.Names) != 4 {
		t.Errorf("names %q", s.Names)
	}
	if !slices.Equal(s.Usernames, []string{"u"}) || len(s.Tokens) != 1 || s.Tokens[0] != authz.NewToken("token-of-the-x-1").Hash() {
		t.Errorf("%+v", s)
	}
}
