package payload

import (
	"math"
	"strings"
	"testing"
)

func TestValueRoundTrip(t *testing.T) {
	for _, v := range []Value{
		{},
		Bool(true), Bool(false),
		Long(0), Long(1), Long(-1), Long(math.MaxInt64), Long(math.MinInt64),
		Double(0), Double(1), Double(-25), Double(0.1), Double(1e20), Double(1e21), Double(-1.5e300),
		Double(1e-6), Double(9.99e-7), Double(math.MaxFloat64), Double(math.SmallestNonzeroFloat64),
		Text(""), Text("1"), Text("1.0"), Text("true"), Text("{}"), Text("null"), Text("\x00\x1f\"\\/\u2028é😀"),
		{kind: KindJSON, text: `{"a":[1,2.50,"x",null,{"b":1E400}]}`},
		{kind: KindJSON, text: `[]`},
		{kind: KindJSON, text: strings.Repeat("[", 500) + strings.Repeat("]", 500)},
	} {
		encoded := string(v.AppendJSON(nil))
		got, err := DecodeValue(encoded)
		if err != nil {
			t.Errorf("%s: %v", encoded, err)
		} else if got != v {
			t.Errorf("%s: read back as %#v, want %#v", encoded, got, v)
		}
	}
}

func TestValueText(t *testing.T) {
	for _, c := range []struct {
		v    Value
		want string
	}{
		{Long(25), "25"},
		{Double(25), "25.0"},
		{Double(math.Copysign(0, -1)), "0.0"},
		{Double(36.6), "36.6"},
		{Double(1e300), "1.0e+300"},
		{Bool(true), "true"},
		{Text("x"), "x"},
		{Value{kind: KindJSON, text: `{"a":1}`}, `{"a":1}`},
		{Value{}, "null"},
	} {
		if got := c.v.String(); got != c.want {
			t.Errorf("got %q, want %q", got, c.want)
		}
	}
}

func TestValueNumber(t *testing.T) {
	if n, ok := Long(7).Long(); n != 7 || !ok {
		t.Errorf("Long(7).Long() = %d, %v", n, ok)
	}
	if _, ok := Double(7).Long(); ok {
		t.Error("a double is taken for a long")
	}
	if f, ok := Long(7).Float(); f != 7 || !ok {
		t.Errorf("Long(7).Float() = %v, %v", f, ok)
	}
	if f, ok := Double(7.5).Float(); f != 7.5 || !ok {
		t.Errorf("Double(7.5).Float() = %v, %v", f, ok)
	}
	for _, v := range []Value{{}, Bool(true), Text("7"), {kind: KindJSON, text: "[]"}} {
		if _, ok := v.Float(); ok {
			t.Errorf("%v is taken for a number", v)
		}
	}
}

func TestDecodeRefusesDamage(t *testing.T) {
	for _, s := range []string{``, `[]`, `25`, `{"a":1`, `{a:1}`, `{"a":1}{"b":2}`} {
		if got, err := DecodeObject(s); err == nil {
			t.Errorf("%q: read as %v", s, got)
		}
	}
	for _, s := range []string{``, `x`, `"a`, `1 2`, strings.Repeat("[", 2000) + strings.Repeat("]", 2000)} {
		if got, err := DecodeValue(s); err == nil {
			t.Errorf("%q: read as %v", s, got)
		}
	}
}
