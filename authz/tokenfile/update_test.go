package tokenfile

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
)

// TestEditTakesEffectAsAWhole: after an error nothing of an edit is in the file.
func TestEditTakesEffectAsAWhole(t *testing.T) {
	path := tokenPath(t)
	put(t, path, line("a"), line("b"))
	before := text(t, path)
	failed := errors.New("failed")
	for name, change := range map[string]func(e *Edit) error{
		"an error at the end": func(e *Edit) error {
			_, err := e.Revoke("a")
			return errors.Join(err, failed)
		},
		"an unknown name": func(e *Edit) error {
			_, err := e.Create(CreateOptions{Name: "c"})
			if err != nil {
				t.Error(err)
			}
			_, err = e.Disable("a", "b", "nobody")
			return err
		},
		"a name that is there": func(e *Edit) error {
			if _, err := e.Create(CreateOptions{Name: "c", New: true}); err != nil {
				t.Error(err)
			}
			_, err := e.Create(CreateOptions{Name: "a", New: true})
			return err
		},
		"a name given twice": func(e *Edit) error {
			if _, err := e.Create(CreateOptions{Name: "c", New: true}); err != nil {
				t.Error(err)
			}
			_, err := e.Create(CreateOptions{Name: "c", New: true})
			return err
		},
	} {
		err := Update(path, false, change)
		if err == nil || text(t, path) != before {
			t.Errorf("%s: %v, and the file is %s", name, err, text(t, path))
		}
		if strings.Contains(name, "name") && !errors.Is(err, ErrExists) && !errors.Is(err, ErrNotFound) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestPatternsMatchIDsAndDevices: * is any text, ? one character, and all else stands for itself.
func TestPatternsMatchIDsAndDevices(t *testing.T) {
	path := tokenPath(t)
	put(t, path, line("one", `"subject":"site/a.b"`), line("two", `"subject":"site/acb"`), line("site/x", `"disabled":true`), userLine("u1", "site/y", "x"))
	if err := Update(path, false, func(e *Edit) error {
		for pattern, want := range map[string]string{
			"*": "[one two site/x u1]", "site/*": "[one two site/x u1]", "site/a.b": "[one]", "site/a?b": "[one two]",
			"?": "[]", "t*o": "[two]", "": "[]", "[a-z]*": "[]", "u?": "[u1]",
		} {
			if got := fmt.Sprint(e.Match(pattern)); got != want {
				t.Errorf("Match(%q) = %s, want %s", pattern, got, want)
			}
		}
		if got := e.MatchDevices("*"); !slices.Equal(got, []string{"site/a.b", "site/acb"}) {
			t.Errorf("devices with a token that is good: %q", got)
		}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
}
