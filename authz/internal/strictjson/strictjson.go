// Package strictjson reads JSON (RFC 8259) on which decisions about access depend.
//
// Two readers must not understand such a text differently, so the package refuses some texts
// that encoding/json accepts:
//
//   - two keys of an object that are equal or differ only in case;
//   - invalid UTF-8;
//   - halves of surrogate pairs and NUL, in keys and in every string that is used;
//   - values that are nested more than [MaxDepth] levels deep.
//
// [EachMember] and [EachElement] iterate over one object or list without copying it and return
// the raw values, for use with [Text] and [Kind]. [Parse] returns a whole object as a tree.
//
// Errors have the column, the path of keys that leads to it, and a description. They never
// contain a value, and contain a key only if it looks like the name of a field, because people
// put tokens where the keys belong.
package strictjson

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"unicode/utf8"
)

// MaxDepth is the number of levels to which objects and lists may nest.
const MaxDepth = 16

// Object is a JSON object with its members in their original order.
type Object []Member

// Member is a member of an object.
type Member struct {
	Key string
	// Value is an Object, []any, string, [Damaged], json.Number, bool or nil.
	Value any
	// Raw is the encoded value. It points into the text that was parsed.
	Raw []byte
}

// Damaged is a string that contained NUL or half of a surrogate pair, each replaced by U+FFFD.
// It is not a Go string, so code that expects one refuses it.
type Damaged string

// Get returns the value of the member with exactly that key.
func (o Object) Get(key string) (value any, ok bool) {
	i := slices.IndexFunc(o, func(m Member) bool { return m.Key == key })
	if i < 0 {
		return nil, false
	}
	return o[i].Value, true
}

// Parse parses text as one object with nothing after it.
func Parse(text []byte) (Object, error) {
	s := scanner{text: text}
	var o Object
	err := s.only('{', func() error {
		value, err := s.tree(1)
		o, _ = value.(Object)
		return err
	})
	return o, err
}

// EachMember calls f with the key and the raw value of each member of the one object in text,
// and returns the first error of f unchanged. The key is unescaped, the value is not. Both may
// point into text.
func EachMember(text []byte, f func(key, value []byte) error) error {
	s := scanner{text: text}
	return s.only('{', func() error {
		return s.object(1, func(key []byte) error {
			value, err := s.value(2)
			if err != nil {
				return err
			}
			return f(key, value)
		})
	})
}

// EachElement calls f with each raw value of the one list in text, and returns the first error
// of f unchanged.
func EachElement(text []byte, f func(value []byte) error) error {
	s := scanner{text: text}
	return s.only('[', func() error {
		return s.array(1, func() error {
			value, err := s.value(2)
			if err != nil {
				return err
			}
			return f(value)
		})
	})
}

// Text returns the decoded string raw, which must be a value from this package. The bytes may
// point into raw.
func Text(raw []byte) ([]byte, error) {
	if raw[0] != '"' {
		return nil, fmt.Errorf("want a string, got %s", Kind(raw))
	}
	if bytes.IndexByte(raw, '\\') < 0 {
		return raw[1 : len(raw)-1], nil
	}
	s := scanner{text: raw}
	if str, _ := s.quoted(); str.damaged {
		return nil, errDamaged
	}
	return unquote(raw), nil
}

var errDamaged = errors.New("a string that contains NUL or half of a surrogate pair")

// Kind returns the JSON type of raw, which must be a value from this package.
func Kind(raw []byte) string {
	switch raw[0] {
	case '"':
		return "a string"
	case '{':
		return "an object"
	case '[':
		return "a list"
	case 't', 'f':
		return "a boolean"
	case 'n':
		return "null"
	}
	return "a number"
}

// Name returns a string, or a whole number in its original form: many services use the numbers
// of their database as names. Other numbers have several forms and are refused.
func Name(value any) (name string, ok bool) {
	switch v := value.(type) {
	case string:
		return v, true
	case json.Number:
		return v.String(), !strings.ContainsAny(v.String(), ".eE")
	}
	return "", false
}

// unquote decodes raw, a string that the scanner has accepted. NUL is kept, and U+FFFD replaces
// half of a surrogate pair.
func unquote(raw []byte) []byte {
	var text string
	_ = json.Unmarshal(raw, &text) // cannot fail: the scanner is stricter
	return []byte(text)
}

// Error describes what is wrong with a text, and where.
type Error struct {
	// Column is the position of the byte, counted from 1, or 0 if the text ends too early.
	Column int
	// Path has the keys that lead to the position, joined by dots, as far as they may be
	// repeated.
	Path string
	// Reason describes the error.
	Reason string
}

// Error returns "column N: path: reason".
func (e *Error) Error() string {
	where := "the text ends early"
	if e.Column > 0 {
		where = fmt.Sprintf("column %d", e.Column)
	}
	if e.Path != "" {
		where += ": " + e.Path
	}
	return where + ": " + e.Reason
}

// in adds a key to the path that leads to the error.
func (e *Error) in(key []byte) *Error {
	switch {
	case !Nameable(key):
	case e.Path == "":
		e.Path = string(key)
	default:
		e.Path = string(key) + "." + e.Path
	}
	return e
}

// Nameable reports whether key may be repeated in an error, because it looks like the name of a
// field and not like a token.
func Nameable(key []byte) bool {
	const longest = 20
	other := slices.ContainsFunc(key, func(c byte) bool { return c != '_' && (c < 'a' || c > 'z') })
	return len(key) > 0 && len(key) <= longest && !other
}

// only reads the one value of the text, an object or a list with the given opening delimiter.
func (s *scanner) only(open byte, read func() error) error {
	if !utf8.Valid(s.text) {
		return errors.New("not UTF-8")
	}
	s.space()
	if s.peek() != open {
		if open == '[' {
			return s.fault("expected a list, [ ... ]")
		}
		return s.fault("expected one JSON object, { ... }")
	}
	if err := read(); err != nil {
		return err
	}
	if s.space(); s.pos != len(s.text) {
		return s.fault("more text after the end of the JSON")
	}
	return nil
}
