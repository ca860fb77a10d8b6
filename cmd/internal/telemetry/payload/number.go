package payload

import (
	"strconv"
	"strings"
)

const (
	// maxScale is the most decimal places of a double, as in ThingsBoard. With more, the plain
	// digits are kept as a string.
	maxScale = 16
	// maxExpansion is how many bytes longer than written a number may become
	// when its exponent is written out; the longest double has 309 digits.
	maxExpansion = 512
)

// decimal is the parts of a decimal number: digits * 10^-scale.
type decimal struct {
	negative bool
	digits   string // without leading zeros; empty for zero
	scale    int    // decimal places, negative for trailing zeros not written
	point    bool   // written with a point
	exponent bool   // written with an exponent
}

// parseDecimal parses what isNumber or castable has accepted.
func parseDecimal(s string) decimal {
	var d decimal
	s, d.negative = strings.CutPrefix(s, "-")
	exponent := 0
	if i := strings.IndexAny(s, "eE"); i >= 0 {
		d.exponent = true
		exponent = parseExponent(s[i+1:])
		s = s[:i]
	}
	whole, fraction, point := strings.Cut(s, ".")
	d.point = point
	d.digits = strings.TrimLeft(whole+fraction, "0")
	d.scale = len(fraction) - exponent
	return d
}

// parseExponent parses an exponent. It stops far beyond any that can be used.
func parseExponent(s string) int {
	const enough = 1 << 30
	s, negative := strings.CutPrefix(strings.TrimPrefix(s, "+"), "-")
	n := 0
	for i := 0; i < len(s) && n < enough/10; i++ {
		n = n*10 + int(s[i]-'0')
	}
	if negative {
		return -n
	}
	return n
}

// whole reports whether the value has no fraction, however it is written.
func (d decimal) whole() bool {
	significant := strings.TrimRight(d.digits, "0")
	return significant == "" || d.scale <= len(d.digits)-len(significant)
}

// truncate cuts the fraction off; ok is false if the rest does not fit.
func (d decimal) truncate() (n int64, ok bool) {
	const longest = 19 // digits of an int64
	digits := d.digits
	switch {
	case digits == "" || d.scale >= len(digits):
		return 0, true
	case d.scale > 0:
		digits = digits[:len(digits)-d.scale]
	case len(digits)-d.scale > longest:
		return 0, false
	default:
		digits += strings.Repeat("0", -d.scale)
	}
	if d.negative {
		digits = "-" + digits
	}
	n, err := strconv.ParseInt(digits, 10, 64)
	return n, err == nil
}

// plainLen is the length of plain's result, or a little more.
func (d decimal) plainLen() int {
	return len("-0.") + max(len(d.digits), d.scale, len(d.digits)-d.scale)
}

// plain writes the number without an exponent.
func (d decimal) plain() string {
	sign := ""
	if d.negative && d.digits != "" {
		sign = "-"
	}
	switch {
	case d.scale <= 0 && d.digits == "":
		return "0"
	case d.scale <= 0:
		return sign + d.digits + strings.Repeat("0", -d.scale)
	case d.scale >= len(d.digits):
		return sign + "0." + strings.Repeat("0", d.scale-len(d.digits)) + d.digits
	}
	point := len(d.digits) - d.scale
	return sign + d.digits[:point] + "." + d.digits[point:]
}

// castable reports whether the string s is cast to a number: decimal digits with an optional
// minus before them, and an optional point before the last.
func castable(s string) bool {
	s = strings.TrimPrefix(s, "-")
	whole := digits(s)
	if whole == len(s) {
		return whole > 0
	}
	return s[whole] == '.' && len(s) > whole+1 && digits(s[whole+1:]) == len(s)-whole-1
}

// number returns the number s, which is at offset, with its type.
func (c *converter) number(s string, offset int) (Value, error) {
	const short = 18 // characters that, all digits, always fit
	if len(s) <= short {
		if n, err := strconv.ParseInt(s, 10, 64); err == nil {
			return Long(n), nil
		}
	}
	d := parseDecimal(s)
	if d.whole() && (!d.point || d.exponent) {
		if n, ok := d.truncate(); ok {
			return Long(n), nil
		}
		if !c.strict {
			return c.plain(d, s, offset)
		}
		if !d.exponent {
			return Value{}, &Error{Offset: offset, Reason: "integer does not fit 64 bits"}
		}
	} else if d.scale > maxScale && !c.strict {
		return c.plain(d, s, offset)
	}
	f, err := strconv.ParseFloat(s, 64)
	switch {
	case err == nil:
		return Double(f), nil
	case c.strict:
		return Value{}, &Error{Offset: offset, Reason: "number does not fit a double"}
	}
	return c.plain(d, s, offset)
}

// plain keeps a number that no numeric type can hold as a string of digits.
func (c *converter) plain(d decimal, s string, offset int) (Value, error) {
	added := max(0, d.plainLen()-len(s))
	c.budget -= added
	if added > maxExpansion || c.budget < 0 {
		return Value{}, &Error{Offset: offset, Reason: "exponent is too large"}
	}
	return Text(d.plain()), nil
}
