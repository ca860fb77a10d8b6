package tokenhttp

import (
	"cmp"
	"encoding/json"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/authz/internal/freshness"
	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/authz/internal/strictjson"
)

// text reads a name of at most limit bytes.
func (f *fieldReader) text(name string, limit int) string {
	m := f.get(name)
	if m == nil {
		return ""
	}
	s, ok := strictjson.Name(m.Value)
	switch {
	case !ok:
		f.fail(name, "neither a string nor a whole number")
	case len(s) > limit && f.tooLongByDevice(s, limit):
		f.err = cmp.Or[error](f.err, &deviceFault{fmt.Sprintf("%s repeats a value that the device sent and is longer than %d bytes", name, limit)})
	case len(s) > limit:
		f.fail(name, fmt.Sprintf("longer than %d bytes", limit))
	case !intact(s):
		f.fail(name, "contains NUL or U+FFFD")
	}
	return s
}

// intact reports whether s contains neither NUL nor U+FFFD. Many decoders replace a character
// that they cannot decode by U+FFFD, so that different texts become equal.
func intact(s string) bool { return !strings.ContainsAny(s, "\x00\ufffd") }

// tooLongByDevice reports whether s would not exceed limit without a value that the device
// chose.
func (f *fieldReader) tooLongByDevice(s string, limit int) bool {
	return slices.ContainsFunc(f.chosen, func(c string) bool {
		return c != "" && len(s)-len(c) <= limit && strings.Contains(s, c)
	})
}

// number reads a number. Languages without integers write times with a fraction or an exponent.
func (f *fieldReader) number(name string) (n float64, ok bool) {
	m := f.get(name)
	if m == nil {
		return 0, false
	}
	digits := ""
	switch v := m.Value.(type) {
	case json.Number:
		digits = v.String()
	case string:
		if f.lenient && json.Valid([]byte(v)) { // refuses Inf, 0x1 and 1_000
			digits = v
		}
	}
	n, err := strconv.ParseFloat(digits, 64)
	if err != nil {
		f.fail(name, "not a number")
		return 0, false
	}
	return n, true
}

// seconds reads a duration of at least least seconds.
func (f *fieldReader) seconds(name string, least float64) (d time.Duration, ok bool) {
	n, ok := f.number(name)
	if ok && n < least {
		f.fail(name, fmt.Sprintf("less than %v", least))
	}
	return time.Duration(max(0, min(n, freshness.Longest.Seconds())) * float64(time.Second)), ok && f.err == nil
}

// instant reads a time in seconds after base.
func (f *fieldReader) instant(name string, base time.Time) time.Time {
	n, ok := f.number(name)
	switch {
	case !ok:
		return time.Time{}
	case n > milliseconds:
		f.fail(name, "too large for seconds; were milliseconds sent?")
		return time.Time{}
	}
	whole, fraction := math.Modf(max(n, float64(-base.Unix())))
	return time.Unix(base.Unix()+int64(whole), int64(fraction*1e9))
}

// names reads a name or a list of names that restricts a grant. An empty list is refused,
// because it would be taken for no restriction.
func (f *fieldReader) names(name string) []string {
	m := f.get(name)
	if m == nil {
		return nil
	}
	list, ok := m.Value.([]any)
	if !ok {
		list = []any{m.Value}
	}
	if len(list) == 0 || len(list) > maxNames {
		f.fail(name, "an empty list, or a very long one")
		return nil
	}
	var all []string
	for _, v := range list {
		s, ok := strictjson.Name(v)
		if !ok || len(s) > maxValue || !intact(s) {
			f.fail(name, "neither a string nor a list of strings")
			return nil
		}
		all = append(all, s)
	}
	return all
}

// attrs reads an object of strings. Numbers and booleans become strings in their original form.
func (f *fieldReader) attrs(name string) map[string]string {
	m := f.get(name)
	if m == nil {
		return nil
	}
	o, ok := m.Value.(strictjson.Object)
	if !ok {
		f.fail(name, "not an object")
		return nil
	}
	if len(o) > maxAttrs {
		f.fail(name, "more than 64 attributes")
		return nil
	}
	all := make(map[string]string, len(o))
	for _, a := range o {
		s, ok := a.Value.(string)
		switch v := a.Value.(type) {
		case json.Number:
			s, ok = v.String(), true
		case bool:
			s, ok = strconv.FormatBool(v), true
		}
		if ok && a.Key != "" && len(a.Key)+len(s) <= maxAttr && intact(a.Key+s) {
			all[a.Key] = s
		} else if !f.lenient {
			f.fail(name, "a value that is a list or an object, is too long, has an empty key, or contains NUL or U+FFFD")
		}
	}
	return all
}
