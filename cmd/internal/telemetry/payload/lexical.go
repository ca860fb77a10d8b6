package payload

import (
	"strconv"
	"strings"
	"unicode/utf16"
	"unicode/utf8"
)

// skipPrefix skips what a lenient document may begin with: a byte order mark, and the characters
// that some web frameworks put before JSON so that it cannot be run as a script.
func (r *reader) skipPrefix() error {
	if strings.HasPrefix(r.src, "\ufeff") {
		r.pos += len("\ufeff")
	}
	if err := r.skipSpace(); err != nil {
		return err
	}
	if strings.HasPrefix(r.src[r.pos:], ")]}'") {
		r.pos += len(")]}'")
	}
	return nil
}

// skipSpace skips white space and, in a lenient document, comments.
func (r *reader) skipSpace() error {
	for r.pos < len(r.src) {
		switch c := r.src[r.pos]; {
		case c == ' ' || c == '\t' || c == '\n' || c == '\r':
			r.pos++
		case !r.lenient:
			return nil
		case c == '#' || strings.HasPrefix(r.src[r.pos:], "//"):
			r.skipTo("\n")
		case strings.HasPrefix(r.src[r.pos:], "/*"):
			start := r.pos
			r.pos += len("/*")
			if !r.skipTo("*/") {
				return &Error{Offset: start, Reason: "comment is not closed"}
			}
		default:
			return nil
		}
	}
	return nil
}

// skipTo moves behind the next end, or to the end of the document.
func (r *reader) skipTo(end string) (found bool) {
	n := strings.Index(r.src[r.pos:], end)
	if n < 0 {
		r.pos = len(r.src)
		return false
	}
	r.pos += n + len(end)
	return true
}

// isBare reports whether c may be part of an unquoted key or value.
func isBare(c byte) bool {
	switch c {
	case '{', '}', '[', ']', ':', ',', ';', '=', '/', '\\', '#', ' ', '\t', '\n', '\r', '\f':
		return false
	}
	return true
}

// clean returns a part of the document with U+FFFD for each byte that is not
// part of UTF-8. It is applied to strings rather than to the whole document, so
// that offsets in errors count the bytes that the device sent.
func (r *reader) clean(s string) string {
	if !r.invalid {
		return s
	}
	return string([]rune(s))
}

// bare reads the bytes of an unquoted key or value.
func (r *reader) bare() string {
	start := r.pos
	for r.pos < len(r.src) && isBare(r.src[r.pos]) {
		r.pos++
	}
	return r.clean(r.src[start:r.pos])
}

func (r *reader) bareValue() (kind, string, error) {
	start := r.pos
	word := r.bare()
	switch {
	case isNumber(word):
		return number, word, nil
	case word == "true" || word == "false":
		return boolean, word, nil
	case word == "null":
		return null, "", nil
	case !r.lenient || word == "":
		return null, "", &Error{Offset: start, Reason: "a value is missing or malformed"}
	case strings.EqualFold(word, "true") || strings.EqualFold(word, "false"):
		return boolean, strings.ToLower(word), nil
	case strings.EqualFold(word, "null"):
		return null, "", nil
	}
	return text, word, nil
}

// isNumber reports whether s is a number by RFC 8259 section 6.
func isNumber(s string) bool {
	s = strings.TrimPrefix(s, "-")
	whole := digits(s)
	if whole == 0 || whole > 1 && s[0] == '0' {
		return false
	}
	s = s[whole:]
	if strings.HasPrefix(s, ".") {
		fraction := digits(s[1:])
		if fraction == 0 {
			return false
		}
		s = s[1+fraction:]
	}
	if s == "" {
		return true
	}
	if s[0] != 'e' && s[0] != 'E' {
		return false
	}
	s = s[1:]
	if s != "" && (s[0] == '+' || s[0] == '-') {
		s = s[1:]
	}
	return s != "" && digits(s) == len(s)
}

// digits counts the ASCII digits at the start of s.
func digits(s string) int {
	n := 0
	for n < len(s) && '0' <= s[n] && s[n] <= '9' {
		n++
	}
	return n
}

// quoted reads a string whose opening quote is the next byte.
func (r *reader) quoted() (string, error) {
	quote := r.src[r.pos]
	open := r.pos
	r.pos++
	var unescaped []byte // what came before start, once there was an escape
	start := r.pos
	for r.pos < len(r.src) {
		switch c := r.src[r.pos]; {
		case c == quote:
			s := r.src[start:r.pos]
			r.pos++
			if unescaped != nil {
				s = string(append(unescaped, s...))
			}
			return r.clean(s), nil
		case c == '\\':
			unescaped = append(unescaped, r.src[start:r.pos]...)
			char, err := r.escape()
			if err != nil {
				return "", err
			}
			unescaped = utf8.AppendRune(unescaped, char)
			start = r.pos
		case c < ' ' && !r.lenient:
			return "", r.fail("control character in a string")
		default:
			r.pos++
		}
	}
	return "", &Error{Offset: open, Reason: "string is not closed"}
}

// escape reads an escape whose backslash is the next byte. Half a surrogate pair is no
// character and becomes U+FFFD.
func (r *reader) escape() (rune, error) {
	rest := r.src[r.pos+1:]
	if rest == "" {
		return 0, r.fail("escape is cut short")
	}
	if rest[0] == 'u' {
		return r.unicodeEscape()
	}
	from, to := `"\/bfnrt`, "\"\\/\b\f\n\r\t"
	if r.lenient {
		from, to = `"\/bfnrt'`+"\n", "\"\\/\b\f\n\r\t'\n"
	}
	i := strings.IndexByte(from, rest[0])
	if i < 0 {
		return 0, r.fail("unknown escape in a string")
	}
	r.pos += 2
	return rune(to[i]), nil
}

func (r *reader) unicodeEscape() (rune, error) {
	first, ok := hexEscape(r.src[r.pos:])
	if !ok {
		return 0, r.fail("malformed \\u escape in a string")
	}
	r.pos += escapeLen
	if !utf16.IsSurrogate(first) {
		return first, nil
	}
	second, ok := hexEscape(r.src[r.pos:])
	if !ok {
		return utf8.RuneError, nil
	}
	pair := utf16.DecodeRune(first, second)
	if pair != utf8.RuneError {
		r.pos += escapeLen
	}
	return pair, nil
}

// escapeLen is the length of \uXXXX.
const escapeLen = 6

// hexEscape decodes \uXXXX at the start of s.
func hexEscape(s string) (rune, bool) {
	if len(s) < escapeLen || s[:2] != `\u` {
		return 0, false
	}
	n, err := strconv.ParseUint(s[2:escapeLen], 16, 16)
	return rune(n), err == nil
}
