package tokenhttp

import (
	"errors"
	"fmt"
	"net/url"
	"strings"
	"unicode/utf8"

	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/authz/internal/strictjson"
)

// lookup finds the member at path, whose names are separated by dots. A name may list several
// spellings: "ok|Ok". A key that differs from the name only in case is an error, because other
// decoders would accept it.
func lookup(o strictjson.Object, path string) (*strictjson.Member, error) {
	name, rest, nested := strings.Cut(path, ".")
	m, err := find(o, name)
	if m == nil || err != nil || !nested {
		return m, err
	}
	inner, ok := m.Value.(strictjson.Object)
	if !ok {
		return nil, fmt.Errorf("%s is not an object", name)
	}
	return lookup(inner, rest)
}

func find(o strictjson.Object, name string) (*strictjson.Member, error) {
	for spelling := range strings.SplitSeq(name, "|") {
		for i := range o {
			if o[i].Key == spelling {
				return &o[i], nil
			}
		}
	}
	for i := range o {
		if strings.EqualFold(o[i].Key, name) {
			return nil, fmt.Errorf("%s is spelled in another case", name)
		}
	}
	return nil, nil
}

// parseForm parses text as application/x-www-form-urlencoded.
func parseForm(text []byte) (strictjson.Object, error) {
	values, err := url.ParseQuery(string(text))
	if err != nil {
		return nil, errors.New("the answer is not a valid form")
	}
	o := strictjson.Object{}
	seen := make(map[string]bool)
	for key, list := range values {
		if f := strictjson.Fold(key); len(list) != 1 || seen[f] {
			return nil, errors.New("the answer has a key twice (upper and lower case count as the same)")
		} else {
			seen[f] = true
		}
		if !utf8.ValidString(key) || !utf8.ValidString(list[0]) {
			return nil, errors.New("the answer is not UTF-8")
		}
		o = append(o, strictjson.Member{Key: key, Value: list[0]})
	}
	return o, nil
}
