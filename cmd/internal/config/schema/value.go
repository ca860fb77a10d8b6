package schema

import (
	"errors"
	"fmt"
	"iter"
	"math"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"
)

// A Type reads the text of a value that the engine has no kind for. The value is
// converted to the Go type of the struct field, and printed with fmt.Sprint. An error is
// the reason of a fault, such as "is not a colour; write red or green". It must not
// repeat text that may hold a credential.
type Type func(text string) (value any, err error)

// None is the value of a key with the tag zero:"none" when 0 is written. Libraries take 0 for their
// default and negative values for none.
const None = -1

// types are those of [Options].
type types map[string]Type

// read parses the text of a field and checks it against the field's tags. It returns an int64 for
// everything that has bounds. Its errors are reasons of faults.
func (t types) read(f field, text string) (any, error) {
	if text == "" && f.typ.Kind() == reflect.String {
		if f.required {
			return nil, errors.New("is empty; write a value or remove the key")
		}
		return "", nil
	}
	if f.allowed != nil && !slices.ContainsFunc(f.allowed, func(a string) bool { return matches(a, text) }) {
		return nil, fmt.Errorf("%s is not allowed; write one of %s", Quote(text), strings.Join(f.allowed, ", "))
	}
	value, err := t.parse(f.kind, text)
	if err != nil {
		return nil, err
	}
	n, ok := value.(int64)
	if ok && !f.list && !t.within(f, n) {
		return nil, fmt.Errorf("%s is out of range; allowed is %s", Quote(text), f.bounds())
	}
	if ok && n == 0 && f.none {
		return int64(None), nil
	}
	return value, nil
}

// matches compares a text with a choice. A choice such as user_property:NAME stands for
// every text with that prefix.
func matches(choice, text string) bool {
	if prefix, ok := strings.CutSuffix(choice, ":NAME"); ok {
		name, found := strings.CutPrefix(text, prefix+":")
		return found && name != ""
	}
	return choice == text
}

// within reports whether n is in the range of the field.
func (t types) within(f field, n int64) bool {
	bound := func(text string) (int64, bool) {
		b, err := t.parse(f.kind, text)
		limit, ok := b.(int64)
		return limit, ok && err == nil
	}
	if low, ok := bound(f.min); ok && n < low {
		return false
	}
	if high, ok := bound(f.max); ok && n > high {
		return false
	}
	return true
}

// parse reads the text of a value.
func (t types) parse(k kind, text string) (any, error) {
	if k == kindSecret {
		return text, nil
	}
	refused := unicode.IsControl
	if k == kindText {
		refused = func(r rune) bool { return unicode.IsControl(r) && r != '\n' && r != '\t' }
	}
	if !utf8.ValidString(text) || strings.ContainsFunc(text, refused) {
		return nil, errors.New("has a control character or is not UTF-8; remove it")
	}
	switch k {
	case kindString, kindText, kindPath, kindDataPath, kindDataDir:
		return text, nil
	case kindBoolean:
		if text != "true" && text != "false" {
			return nil, fmt.Errorf("%s is not a boolean; write true or false", Quote(text))
		}
		return text == "true", nil
	case kindInteger:
		n, err := strconv.ParseInt(text, 10, 32)
		if err != nil || strconv.FormatInt(n, 10) != text {
			return nil, fmt.Errorf("%s is not a number; write a whole number such as 1000", Quote(text))
		}
		return n, nil
	case kindDuration:
		d, err := time.ParseDuration(text)
		if err != nil {
			return nil, fmt.Errorf("%s is not a duration; write a number with a unit (ms, s, m, h) such as 10s or 1h30m", Quote(text))
		}
		return int64(d), nil
	case kindRatio:
		r, err := strconv.ParseFloat(text, 64)
		if err != nil || !(r > 0 && r <= 1) {
			return nil, fmt.Errorf("%s is not a ratio; write a number over 0 and up to 1 such as 0.8", Quote(text))
		}
		return r, nil
	case kindSize:
		n, err := ParseSize(text)
		return n, err
	}
	if parse := t[string(k)]; parse != nil {
		return parse(text)
	}
	return nil, fmt.Errorf("has the type %q, which this program does not know", string(k))
}

// format returns a value of the field as it is written in a file.
func (f field) format(v reflect.Value) string {
	if f.none && v.Int() == None {
		v = reflect.Zero(v.Type())
	}
	switch f.kind {
	case kindSecret:
		return v.Interface().(Secret).String()
	case kindDuration:
		return formatDuration(time.Duration(v.Int()))
	case kindSize:
		return FormatSize(v.Int())
	}
	return fmt.Sprint(v.Interface())
}

// formatDuration drops the zero units that time.Duration prints: 720h0m0s.
func formatDuration(d time.Duration) string {
	s := d.String()
	if strings.HasSuffix(s, "m0s") {
		s = strings.TrimSuffix(s, "0s")
	}
	if strings.HasSuffix(s, "h0m") {
		s = strings.TrimSuffix(s, "0m")
	}
	return s
}

// sizeUnits returns the units of sizes in descending order and how many bits a number is
// shifted by each. Decimal units are refused, because people disagree about what 64K is.
func sizeUnits() iter.Seq2[string, int] {
	return func(yield func(string, int) bool) {
		_ = yield("GiB", 30) && yield("MiB", 20) && yield("KiB", 10)
	}
}

// ParseSize reads a number of bytes, such as 64KiB. Its error is the reason of a fault.
func ParseSize(text string) (int64, error) {
	digits, shift := text, 0
	for unit, bits := range sizeUnits() {
		if rest, ok := strings.CutSuffix(text, unit); ok {
			digits, shift = rest, bits
		}
	}
	n, err := strconv.ParseInt(digits, 10, 64)
	if err != nil || strconv.FormatInt(n, 10) != digits || n < 0 || n > math.MaxInt64>>shift {
		return 0, fmt.Errorf("%s is not a size; write bytes, or a number with KiB, MiB or GiB such as 64KiB", Quote(text))
	}
	return n << shift, nil
}

// FormatSize returns n in the largest unit that it is a multiple of.
func FormatSize(n int64) string {
	for unit, bits := range sizeUnits() {
		if n > 0 && n>>bits<<bits == n {
			return strconv.FormatInt(n>>bits, 10) + unit
		}
	}
	return strconv.FormatInt(n, 10)
}

// Quote returns a value for use in the reason of a fault: quoted, and at most 64 bytes of it.
func Quote(text string) string {
	const longest = 64
	if len(text) > longest {
		return strconv.Quote(text[:longest]) + "..."
	}
	return strconv.Quote(text)
}
