package tokenfile

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
)

const (
	// maxMembers bounds the members of one JSON object; it keeps the search for
	// doubled keys short.
	maxMembers = 64
	// maxDepth is the depth to which values nest: acl is a list, in the entry, of
	// rules with lists of topics.
	maxDepth = 4
)

// scanner walks over JSON text (RFC 8259) and refuses what encoding/json lets
// pass: doubled keys, keys that differ in case only, lone surrogates, NUL.
// It knows text to be valid UTF-8.
type scanner struct {
	text []byte
	pos  int
}

// eachMember calls f with each key and raw value of the one JSON object that
// text holds. Keys are unescaped, values are not. Both are good until f returns.
// No error repeats any of the text.
func eachMember(text []byte, f func(key, value []byte) error) error {
	s := scanner{text: text}
	s.space()
	if s.peek() != '{' {
		return s.fault("expected one JSON object, { ... }")
	}
	if err := s.object(1, f); err != nil {
		return err
	}
	if s.space(); s.pos != len(s.text) {
		return s.fault("more text behind the object's closing }; put one object on a line")
	}
	return nil
}

// fault says what is wrong at the scanner's place.
func (s *scanner) fault(what string) error {
	if s.pos >= len(s.text) {
		return errors.New("the line ends early: " + what)
	}
	return fmt.Errorf("column %d: %s", s.pos+1, what)
}

// peek returns the next byte, 0 at the end.
func (s *scanner) peek() byte {
	if s.pos < len(s.text) {
		return s.text[s.pos]
	}
	return 0
}

// space skips white space.
func (s *scanner) space() {
	for s.pos < len(s.text) {
		switch s.text[s.pos] {
		case ' ', '\t', '\r', '\n':
			s.pos++
		default:
			return
		}
	}
}

// next skips white space, and c if it comes next.
func (s *scanner) next(c byte) bool {
	s.space()
	if s.peek() != c {
		return false
	}
	s.pos++
	return true
}

// object reads an object from its opening brace on. f may be nil.
func (s *scanner) object(depth int, f func(key, value []byte) error) error {
	s.pos++
	if s.next('}') {
		return nil
	}
	var seen [maxMembers][]byte
	for n := 0; ; n++ {
		s.space()
		start := s.pos
		if s.peek() != '"' {
			return s.fault("expected a key in double quotes")
		}
		key, err := s.key()
		if err != nil {
			return err
		}
		if n == maxMembers {
			return s.fault("more than 64 keys in one object")
		}
		for _, k := range seen[:n] {
			if bytes.EqualFold(k, key) {
				s.pos = start
				return s.fault("a key that the object has already (upper and lower case count as the same); keep one")
			}
		}
		seen[n] = key
		if !s.next(':') {
			return s.fault("expected a colon behind the key")
		}
		value, err := s.value(depth)
		if err != nil {
			return err
		}
		if f != nil {
			if err := f(key, value); err != nil {
				return err
			}
		}
		if s.next('}') {
			return nil
		}
		if !s.next(',') {
			return s.fault("expected a comma or }")
		}
	}
}

// array reads an array from its opening bracket on.
func (s *scanner) array(depth int, f func(value []byte) error) error {
	s.pos++
	if s.next(']') {
		return nil
	}
	for {
		value, err := s.value(depth)
		if err != nil {
			return err
		}
		if f != nil {
			if err := f(value); err != nil {
				return err
			}
		}
		if s.next(']') {
			return nil
		}
		if !s.next(',') {
			return s.fault("expected a comma or ]")
		}
	}
}

// value reads any value and returns its text.
func (s *scanner) value(depth int) ([]byte, error) {
	s.space()
	start, err := s.pos, error(nil)
	switch c := s.peek(); {
	case c == '"':
		_, err = s.quoted()
	case (c == '{' || c == '[') && depth == maxDepth:
		err = s.fault("a value nested too deeply")
	case c == '{':
		err = s.object(depth+1, nil)
	case c == '[':
		err = s.array(depth+1, nil)
	case c == '-' || isDigit(c):
		err = s.number()
	default:
		err = s.literal()
	}
	return s.text[start:s.pos], err
}

// key reads a quoted string and returns what it means.
func (s *scanner) key() ([]byte, error) {
	start := s.pos
	escaped, err := s.quoted()
	if err != nil {
		return nil, err
	}
	raw := s.text[start:s.pos]
	if escaped {
		return unquote(raw), nil
	}
	return raw[1 : len(raw)-1], nil
}

// quoted reads a string from its opening quote on and tells whether anything in
// it is escaped.
func (s *scanner) quoted() (escaped bool, err error) {
	for s.pos++; s.pos < len(s.text); {
		switch c := s.text[s.pos]; {
		case c == '"':
			s.pos++
			return escaped, nil
		case c == '\\':
			escaped = true
			if err := s.escape(); err != nil {
				return false, err
			}
		case c < ' ':
			return false, s.fault("a control character in a string")
		default:
			s.pos++
		}
	}
	return false, s.fault("expected a closing quote")
}

// escape reads an escape sequence from its backslash on.
func (s *scanner) escape() error {
	s.pos++
	switch s.peek() {
	case '"', '\\', '/', 'b', 'f', 'n', 'r', 't':
		s.pos++
		return nil
	case 'u':
	default:
		return s.fault("an escape that JSON does not know")
	}
	const surrogates, low, after = 0xD800, 0xDC00, 0xE000
	switch r := s.hex4(); {
	case r <= 0:
		return s.fault(`a \u escape of NUL, or without four hexadecimal digits`)
	case r < surrogates || r >= after:
		return nil
	case r < low && s.peek() == '\\' && s.pos+1 < len(s.text) && s.text[s.pos+1] == 'u':
		s.pos++
		if r = s.hex4(); low <= r && r < after {
			return nil
		}
	}
	return s.fault("half of a surrogate pair")
}

// hex4 reads the u and the digits of a \u escape; it returns -1 if they are not
// four hexadecimal ones.
func (s *scanner) hex4() (r rune) {
	if len(s.text)-s.pos < 5 {
		return -1
	}
	for _, c := range s.text[s.pos+1 : s.pos+5] {
		switch {
		case isDigit(c):
			r = r<<4 | rune(c-'0')
		case 'a' <= c|0x20 && c|0x20 <= 'f':
			r = r<<4 | rune(c|0x20-'a'+10)
		default:
			return -1
		}
	}
	s.pos += 5
	return r
}

// number reads a number.
func (s *scanner) number() error {
	if s.peek() == '-' {
		s.pos++
	}
	if s.peek() == '0' {
		s.pos++
		if isDigit(s.peek()) {
			return s.fault("a number with a leading zero")
		}
	} else if !s.digits() {
		return s.fault("expected a digit")
	}
	if s.peek() == '.' {
		s.pos++
		if !s.digits() {
			return s.fault("expected a digit")
		}
	}
	if s.peek()|0x20 == 'e' {
		s.pos++
		if c := s.peek(); c == '+' || c == '-' {
			s.pos++
		}
		if !s.digits() {
			return s.fault("expected a digit")
		}
	}
	return nil
}

func (s *scanner) digits() bool {
	start := s.pos
	for isDigit(s.peek()) {
		s.pos++
	}
	return s.pos > start
}

func (s *scanner) literal() error {
	for _, word := range [...]string{"true", "false", "null"} {
		if bytes.HasPrefix(s.text[s.pos:], []byte(word)) {
			s.pos += len(word)
			return nil
		}
	}
	return s.fault("expected a value")
}

func isDigit(c byte) bool { return '0' <= c && c <= '9' }

// unquote returns what raw, a string that the scanner has passed, means.
func unquote(raw []byte) []byte {
	var text string
	_ = json.Unmarshal(raw, &text) // cannot fail: the scanner is stricter
	return []byte(text)
}
