package strictjson

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"math/bits"
)

// scanner scans JSON text that is valid UTF-8.
type scanner struct {
	text []byte
	pos  int
}

// fault returns an error at the scanner's position.
func (s *scanner) fault(reason string) *Error {
	if s.pos >= len(s.text) {
		return &Error{Reason: reason}
	}
	return &Error{Column: s.pos + 1, Reason: reason}
}

// peek returns the next byte, or 0 at the end.
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

// next skips white space. If c comes next, it skips c and reports true.
func (s *scanner) next(c byte) bool {
	s.space()
	if s.peek() != c {
		return false
	}
	s.pos++
	return true
}

// object reads an object from its opening brace on. It calls member for each key after its
// colon; member reads the value.
func (s *scanner) object(depth int, member func(key []byte) error) error {
	if depth > MaxDepth {
		return s.fault("a value that nests too deeply")
	}
	s.pos++
	if s.next('}') {
		return nil
	}
	var seen keys
	for {
		s.space()
		start := s.pos
		key, err := s.key()
		if err != nil {
			return err
		}
		if first := seen.add(key); first != nil {
			s.pos = start
			return s.fault("a duplicate key (upper and lower case count as the same); keep one").in(first)
		}
		if !s.next(':') {
			return s.fault("expected a colon after the key").in(key)
		}
		if err := member(key); err != nil {
			if e, ok := err.(*Error); ok { //nolint:errorlint // only the scanner's own errors get a path
				return e.in(key)
			}
			return err
		}
		if s.next('}') {
			return nil
		}
		if !s.next(',') {
			return s.fault("expected a comma or }")
		}
	}
}

// array reads a list from its opening bracket on. It calls element at the beginning of each
// value; element reads the value.
func (s *scanner) array(depth int, element func() error) error {
	if depth > MaxDepth {
		return s.fault("a value that nests too deeply")
	}
	s.pos++
	if s.next(']') {
		return nil
	}
	for {
		if err := element(); err != nil {
			return err
		}
		if s.next(']') {
			return nil
		}
		if !s.next(',') {
			return s.fault("expected a comma or ]")
		}
	}
}

// value reads any value and returns its text. depth is the number of levels that it may nest.
func (s *scanner) value(depth int) (raw []byte, err error) {
	s.space()
	start := s.pos
	switch c := s.peek(); {
	case c == '"':
		_, err = s.quoted()
	case c == '{':
		err = s.object(depth, func([]byte) error { _, err := s.value(depth + 1); return err })
	case c == '[':
		err = s.array(depth, func() error { _, err := s.value(depth + 1); return err })
	case c == '-' || isDigit(c):
		err = s.number()
	default:
		err = s.literal()
	}
	return s.text[start:s.pos], err
}

// tree reads any value and returns it decoded.
func (s *scanner) tree(depth int) (any, error) {
	s.space()
	start := s.pos
	switch s.peek() {
	case '{':
		o := Object{}
		err := s.object(depth, func(key []byte) error {
			s.space()
			begin := s.pos
			value, err := s.tree(depth + 1)
			o = append(o, Member{Key: string(key), Value: value, Raw: s.text[begin:s.pos]})
			return err
		})
		return o, err
	case '[':
		list := []any{}
		err := s.array(depth, func() error {
			value, err := s.tree(depth + 1)
			list = append(list, value)
			return err
		})
		return list, err
	case '"':
		str, err := s.quoted()
		switch raw := s.text[start:s.pos]; {
		case err != nil:
			return nil, err
		case str.damaged:
			return Damaged(unquote(raw)), nil
		case str.escaped:
			return string(unquote(raw)), nil
		default:
			return string(raw[1 : len(raw)-1]), nil
		}
	}
	raw, err := s.value(depth)
	if err != nil {
		return nil, err
	}
	switch raw[0] {
	case 't', 'f':
		return raw[0] == 't', nil
	case 'n':
		return nil, nil
	}
	return json.Number(raw), nil
}

// key reads a quoted string and returns it decoded.
func (s *scanner) key() ([]byte, error) {
	start := s.pos
	if s.peek() != '"' {
		return nil, s.fault("expected a key in double quotes")
	}
	str, err := s.quoted()
	if err != nil {
		return nil, err
	}
	raw := s.text[start:s.pos]
	switch {
	case str.damaged:
		s.pos = start
		return nil, s.fault("a key that contains NUL or half of a surrogate pair")
	case str.escaped:
		return unquote(raw), nil
	}
	return raw[1 : len(raw)-1], nil
}

// form describes how a string is written.
type form struct {
	escaped bool // it has escape sequences
	damaged bool // one of them is NUL or half of a surrogate pair
}

// quoted reads a string from its opening quote on.
func (s *scanner) quoted() (f form, err error) {
	s.pos++
	for {
		s.pos += ordinary(s.text[s.pos:])
		if s.pos == len(s.text) {
			return f, s.fault("expected a closing quote")
		}
		switch s.text[s.pos] {
		case '"':
			s.pos++
			return f, nil
		case '\\':
			f.escaped = true
			damaged, err := s.escape()
			if err != nil {
				return f, err
			}
			f.damaged = f.damaged || damaged
		default:
			return f, s.fault("a control character in a string")
		}
	}
}

// ordinary returns how many bytes of a string stand for themselves, up to the first quote,
// backslash or control character.
func ordinary(text []byte) (n int) {
	const (
		ones  = 0x0101010101010101
		highs = 0x80 * ones
	)
	// Eight bytes at a time: x-ones borrows into the high bit of a byte that is zero. Only the
	// lowest bit that is set is exact, and only that one is used.
	for ; len(text)-n >= 8; n += 8 {
		w := binary.LittleEndian.Uint64(text[n:])
		quote, slash := w^'"'*ones, w^'\\'*ones
		if found := ((quote-ones)&^quote | (slash-ones)&^slash | (w-' '*ones)&^w) & highs; found != 0 {
			return n + bits.TrailingZeros64(found)/8
		}
	}
	for ; n < len(text); n++ {
		if c := text[n]; c == '"' || c == '\\' || c < ' ' {
			break
		}
	}
	return n
}

// escape reads an escape sequence from its backslash on, or the two sequences of a surrogate
// pair. It reports whether they stand for NUL or for half of a pair.
func (s *scanner) escape() (damaged bool, err error) {
	s.pos++
	switch s.peek() {
	case '"', '\\', '/', 'b', 'f', 'n', 'r', 't':
		s.pos++
		return false, nil
	case 'u':
	default:
		return false, s.fault("an escape sequence that JSON does not have")
	}
	const surrogates, low, after = 0xD800, 0xDC00, 0xE000
	r := s.hex4()
	switch {
	case r < 0:
		return false, s.fault(`\u without four hexadecimal digits`)
	case r < surrogates || r >= after:
		return r == 0, nil
	case r >= low || !bytes.HasPrefix(s.text[s.pos:], []byte(`\u`)):
		return true, nil
	}
	start := s.pos
	s.pos++
	if r = s.hex4(); low <= r && r < after {
		return false, nil
	}
	s.pos = start // the next sequence is not the other half of the pair
	return true, nil
}

// hex4 reads the u and the four hexadecimal digits of a \u escape. It returns -1 if they are
// invalid.
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

// literal reads true, false or null.
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
