// Package strictjson reads JSON (RFC 8259) that decides who may do what.
//
// Two readers must not be able to understand such a text in two ways, so the package
// refuses what encoding/json lets pass:
//
//   - keys that an object has twice, or that differ only in upper and lower case;
//   - text that is not UTF-8;
//   - halves of surrogate pairs and NUL, in a key and in every text that is used;
//   - values that nest more than [MaxDepth] levels deep.
//
// [EachMember] and [EachElement] walk over one object or list without copying it and
// hand out the raw values, which [Text] and [Kind] look into. [Parse] returns a whole
// object as a tree.
//
// Errors give the column, the path of keys that leads to it, and what is wrong. They
// never repeat a value. A key is repeated only if it looks like the name of a field,
// because people write tokens where the keys belong.
package strictjson

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"unicode/utf8"
)

// MaxDepth is the number of levels to which objects and lists may nest.
const MaxDepth = 16

// Object is a JSON object with its members in the order of the text.
type Object []Member

// Member is a member of an object.
type Member struct {
	Key string
	// Value is an Object, []any, string, [Damaged], json.Number, bool or nil.
	Value any
	// Raw is the text of the value. It points into the text that was parsed.
	Raw []byte
}

// Damaged is a text with NUL or half of a surrogate pair in it, which U+FFFD replaces.
// It is no string, so that a reader who expects one refuses it.
type Damaged string

// Get returns the value of the member with exactly that key.
func (o Object) Get(key string) (value any, ok bool) {
	i := slices.IndexFunc(o, func(m Member) bool { return m.Key == key })
	if i < 0 {
		return nil, false
	}
	return o[i].Value, true
}

// Parse reads text as one object with nothing after it.
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

// EachMember calls f with the key and the raw value of each member of the one object
// that text holds, and returns the first error of f as it is. The key is unescaped,
// the value is not. Both may point into text.
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

// EachElement calls f with each raw value of the one list that text holds, and
// returns the first error of f as it is.
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

// Text returns what raw, a value that this package has handed out, means if it is a
// string. The bytes may point into raw.
func Text(raw []byte) ([]byte, error) {
	if raw[0] != '"' {
		return nil, fmt.Errorf("want a string, got %s", Kind(raw))
	}
	if !slices.Contains(raw, '\\') {
		return raw[1 : len(raw)-1], nil
	}
	s := scanner{text: raw}
	if str, _ := s.quoted(); str.damaged {
		return nil, errDamaged
	}
	return unquote(raw), nil
}

var errDamaged = errors.New("a text with NUL or half of a surrogate pair in it")

// Kind names the JSON type of raw, a value that this package has handed out.
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

// Name returns a string, or a whole number as it is written, because many services name
// things by the numbers of their database. Other numbers can be written in several ways.
func Name(value any) (name string, ok bool) {
	switch v := value.(type) {
	case string:
		return v, true
	case json.Number:
		return v.String(), !strings.ContainsAny(v.String(), ".eE")
	}
	return "", false
}

// unquote returns what raw, a string that the scanner has accepted, means. NUL stays,
// and U+FFFD replaces half of a surrogate pair.
func unquote(raw []byte) []byte {
	var text string
	_ = json.Unmarshal(raw, &text) // cannot fail: the scanner is stricter
	return []byte(text)
}

// Error says what is wrong with a text, and where.
type Error struct {
	// Column is the place of the byte, counted from 1; it is 0 if the text ends too
	// early.
	Column int
	// Path holds the keys that lead to the place, joined by dots, as far as they may
	// be repeated.
	Path string
	// Reason says what is wrong.
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

// Nameable reports whether key may be repeated in an error: it looks like the name of
// a field, and like no token.
func Nameable(key []byte) bool {
	const longest = 20
	other := slices.ContainsFunc(key, func(c byte) bool { return c != '_' && (c < 'a' || c > 'z') })
	return len(key) > 0 && len(key) <= longest && !other
}

// only reads the one value of the text, an object or a list by its opening delimiter.
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
