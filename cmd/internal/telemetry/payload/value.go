package payload

import (
	"math"
	"strconv"
	"strings"
)

// Kind is the type of a [Value].
type Kind byte

// The kinds of values. The zero Kind belongs to the zero Value, which is no value.
const (
	KindBool Kind = iota + 1
	KindLong
	KindDouble
	KindString
	KindJSON
)

// Value is one typed value. It is immutable and comparable. The zero Value is no value and is
// written as null.
type Value struct {
	kind Kind
	bits uint64 // bool as 0 or 1, long, double
	text string // string content, or compact JSON
}

// Bool returns b as a value.
func Bool(b bool) Value {
	if b {
		return Value{kind: KindBool, bits: 1}
	}
	return Value{kind: KindBool}
}

// Long returns n as a value.
func Long(n int64) Value { return Value{kind: KindLong, bits: uint64(n)} }

// Double returns f as a value. f must be finite; minus zero becomes zero.
func Double(f float64) Value {
	if f == 0 {
		f = 0 // of either sign
	}
	return Value{kind: KindDouble, bits: math.Float64bits(f)}
}

// Text returns the string s as a value.
func Text(s string) Value { return Value{kind: KindString, text: s} }

// Kind returns the type of v.
func (v Value) Kind() Kind { return v.kind }

// Long returns the integer and whether v is one.
func (v Value) Long() (int64, bool) { return int64(v.bits), v.kind == KindLong }

// Float returns the number and whether v is a long or a double.
func (v Value) Float() (float64, bool) {
	switch v.kind {
	case KindLong:
		return float64(int64(v.bits)), true
	case KindDouble:
		return math.Float64frombits(v.bits), true
	}
	return 0, false
}

// String returns v as text: a string's content, a double always with a point,
// JSON in its compact form, the zero Value as null.
func (v Value) String() string {
	switch v.kind {
	case KindBool:
		return strconv.FormatBool(v.bits == 1)
	case KindLong:
		return strconv.FormatInt(int64(v.bits), 10)
	case KindDouble:
		return formatDouble(math.Float64frombits(v.bits))
	case KindString, KindJSON:
		return v.text
	}
	return "null"
}

// AppendJSON appends v as JSON that [DecodeValue] reads back as the same value
// of the same kind.
func (v Value) AppendJSON(dst []byte) []byte {
	if v.kind == KindString {
		return AppendString(dst, v.text)
	}
	return append(dst, v.String()...)
}

// formatDouble always writes a point, which distinguishes 25.0 from 25.
func formatDouble(f float64) string {
	const plainBelow, plainFrom = 1e21, 1e-6
	format := byte('f')
	if a := math.Abs(f); a != 0 && (a >= plainBelow || a < plainFrom) {
		format = 'e'
	}
	s := strconv.FormatFloat(f, format, -1, 64)
	if strings.Contains(s, ".") {
		return s
	}
	if mantissa, exponent, ok := strings.Cut(s, "e"); ok {
		return mantissa + ".0e" + exponent
	}
	return s + ".0"
}

// AppendObject appends fields as a JSON object that [DecodeObject] reads back.
func AppendObject(dst []byte, fields []Field) []byte {
	dst = append(dst, '{')
	for i, f := range fields {
		if i > 0 {
			dst = append(dst, ',')
		}
		dst = append(AppendString(dst, f.Key), ':')
		dst = f.Value.AppendJSON(dst)
	}
	return append(dst, '}')
}

// Merge returns old with the values of update in place of those of the same keys, and what
// update has besides at the end. It changes old.
func Merge(old, update []Field) []Field {
	place := make(map[string]int, len(old))
	for i, f := range old {
		place[f.Key] = i
	}
	for _, f := range update {
		if i, ok := place[f.Key]; ok {
			old[i].Value = f.Value
		} else {
			old = append(old, f)
		}
	}
	return old
}

// storedDepth bounds the nesting of what is decoded. It only keeps a damaged
// store from exhausting the stack.
const storedDepth = 1000

// DecodeObject reads what [AppendObject] wrote.
func DecodeObject(s string) ([]Field, error) {
	doc, err := decode(s)
	if err != nil {
		return nil, err
	}
	if doc.kind != object {
		return nil, &Error{Offset: doc.offset, Reason: "not an object"}
	}
	return (&converter{strict: true, keepText: true}).fields(doc)
}

// DecodeValue reads what [Value.AppendJSON] wrote.
func DecodeValue(s string) (Value, error) {
	doc, err := decode(s)
	if err != nil || doc.kind == null {
		return Value{}, err
	}
	return (&converter{strict: true, keepText: true}).value(doc)
}

func decode(s string) (node, error) {
	r := &reader{src: s, depth: storedDepth, values: math.MaxInt}
	return r.document()
}

// AppendString appends s as a JSON string.
func AppendString(dst []byte, s string) []byte {
	const hex = "0123456789abcdef"
	dst = append(dst, '"')
	start := 0
	for i := 0; i < len(s); i++ {
		c := s[i]
		if c >= ' ' && c != '"' && c != '\\' {
			continue
		}
		dst = append(dst, s[start:i]...)
		start = i + 1
		if c < ' ' {
			dst = append(dst, '\\', 'u', '0', '0', hex[c>>4], hex[c&15])
		} else {
			dst = append(dst, '\\', c)
		}
	}
	return append(append(dst, s[start:]...), '"')
}

// appendJSON appends the document below n in compact form, numbers as written.
func (n node) appendJSON(dst []byte) []byte {
	switch n.kind {
	case null:
		return append(dst, "null"...)
	case text:
		return AppendString(dst, n.text)
	case boolean, number:
		return append(dst, n.text...)
	}
	brackets := "[]"
	if n.kind == object {
		brackets = "{}"
	}
	dst = append(dst, brackets[0])
	for i, m := range n.members {
		if i > 0 {
			dst = append(dst, ',')
		}
		if n.kind == object {
			dst = append(AppendString(dst, m.key), ':')
		}
		dst = m.value.appendJSON(dst)
	}
	return append(dst, brackets[1])
}

// TextSize returns the length in bytes of the text that v holds, 0 for numbers and bools.
func (v Value) TextSize() int { return len(v.text) }

// Clone returns v in memory of its own: a value of [Parse] otherwise keeps the
// whole payload alive.
func (v Value) Clone() Value {
	v.text = strings.Clone(v.text)
	return v
}
