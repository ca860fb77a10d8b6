package tokenjwt

import (
	"errors"
	"slices"
	"strings"

	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/authz/internal/strictjson"
)

// path is the path of a claim, with a member's name for each step; nil stands for no claim.
type path []string

// parsePath parses names joined by dots, or a JSON pointer (RFC 6901). Pointers into lists are
// not supported.
func parsePath(text string) (path, error) {
	if text == "" {
		return nil, nil
	}
	pointer, ok := strings.CutPrefix(text, "/")
	if !ok {
		p := path(strings.Split(text, "."))
		if slices.Contains(p, "") {
			return nil, errors.New("a path with an empty name; write names joined by dots, or a JSON pointer")
		}
		return p, nil
	}
	p := path(strings.Split(pointer, "/"))
	for i, name := range p {
		rest := strings.ReplaceAll(strings.ReplaceAll(name, "~0", ""), "~1", "")
		if strings.Contains(rest, "~") {
			return nil, errors.New("a JSON pointer writes ~ as ~0 and / as ~1")
		}
		p[i] = strings.ReplaceAll(strings.ReplaceAll(name, "~1", "/"), "~0", "~")
	}
	return p, nil
}

// in returns the member at p.
func (p path) in(claims strictjson.Object) (claim strictjson.Member, ok bool) {
	claim.Value = claims
	for _, name := range p {
		object, _ := claim.Value.(strictjson.Object)
		i := slices.IndexFunc(object, func(m strictjson.Member) bool { return m.Key == name })
		if i < 0 {
			return strictjson.Member{}, false
		}
		claim = object[i]
	}
	return claim, len(p) > 0
}

// String returns the names joined by dots.
func (p path) String() string { return strings.Join(p, ".") }
