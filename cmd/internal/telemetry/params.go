package telemetry

import (
	"net/url"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"
)

// params are the parameters of one request.
type params url.Values

// parseParams parses a query string. A part that cannot be parsed is an error, because ignoring
// it would change the query.
func parseParams(query string) (params, error) {
	values, err := url.ParseQuery(query)
	if err != nil {
		return nil, badRequest("query string: %v", err)
	}
	for _, list := range values {
		if !utf8.ValidString(strings.Join(list, "")) {
			return nil, badRequest("query string: not UTF-8")
		}
	}
	return params(values), nil
}

// only returns an error that names the parameters with other names than these. A deletion that
// ignored a misspelled parameter would delete more than was asked for.
func (p params) only(names []string) error {
	var unknown []string
	for name := range p {
		if !slices.Contains(names, name) {
			unknown = append(unknown, strconv.Quote(name))
		}
	}
	if unknown == nil {
		return nil
	}
	slices.Sort(unknown)
	return badRequest("unknown parameters: %s; the parameters are %s", strings.Join(unknown, ", "), strings.Join(names, ", "))
}

// has reports whether a parameter is given. An empty one counts as not given, as in ThingsBoard.
func (p params) has(name string) bool { return strings.Join(p[name], "") != "" }

// one returns the value of a parameter that may be given once, or "".
func (p params) one(name string) (string, error) {
	switch list := p[name]; len(list) {
	case 0:
		return "", nil
	case 1:
		return list[0], nil
	}
	return "", badRequest("%s: given more than once", name)
}

// keys returns the keys of the request, each once; nil means all. The parameter keys is a list with
// commas. The parameter key is one key as it is, and the only way to ask for one with a comma. Both
// may be repeated. As in ThingsBoard, an empty list means all.
func (p params) keys() ([]string, error) {
	var keys []string
	for _, key := range p["key"] {
		if key == "" {
			return nil, badRequest("key: is empty")
		}
		keys = append(keys, key)
	}
	for _, list := range p["keys"] {
		for key := range strings.SplitSeq(list, ",") {
			if key != "" {
				keys = append(keys, key)
			}
		}
	}
	if keys == nil && strings.Join(p["keys"], "") != "" {
		return nil, badRequest("keys: names no key")
	}
	return unique(keys), nil
}

// unique returns list without repetitions, in the same order.
func unique(list []string) []string {
	seen := make(map[string]bool, len(list))
	return slices.DeleteFunc(list, func(s string) bool {
		again := seen[s]
		seen[s] = true
		return again
	})
}

// int sets target to the value of a parameter, if that is given.
func (p params) int(name string, target *int64) error {
	s, err := p.one(name)
	if err != nil || !p.has(name) {
		return err
	}
	n, err := strconv.ParseInt(s, 10, 64)
	if err != nil {
		return badRequest("%s: not a whole number of 64 bits", name)
	}
	*target = n
	return nil
}

// bool sets target to the value of a parameter, if that is given.
func (p params) bool(name string, target *bool) error {
	s, err := p.one(name)
	switch {
	case err != nil:
		return err
	case strings.EqualFold(s, "true"):
		*target = true
	case strings.EqualFold(s, "false"):
		*target = false
	case s != "":
		return badRequest("%s: neither true nor false", name)
	}
	return nil
}
