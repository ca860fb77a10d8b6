package payload

import (
	"bytes"
	"encoding/json"
	"errors"
	"slices"
	"strconv"
	"testing"
	"time"
)

func FuzzParse(f *testing.F) {
	for _, seed := range []string{
		`{temperature:25}`, `{"a":1,"b":25.0,"c":"25","d":true,"e":null,"f":{"x":[1]}}`,
		`[{"ts":1451649600512,"values":{"k":"v"}},{'a'=>1;b=2}]`, `[]`, `{}`, `[{},]`,
		"\ufeff)]}'\n/* c */{a:1}# x", `{"a":"\ud83d\ude00\ud83d\u0041\n\'"}`, `{"a":1E400,"b":1e-30,"c":9223372036854775808}`,
		`{"ts":"1.5","values":{"a":[,1,,]}}`, `{"a":0.30000000000000004,"a":-0.0,"b":1e300}`, `{"ts":1e3,"values":{}}`,
		"{\"unit\":\"\xb0C\",\xb1:'\xc3\\n'}",
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		at := time.UnixMilli(now)
		lenient, lenientErr := Parse(data, at, Options{})
		strict, strictErr := Parse(data, at, Options{Strict: true})
		for _, err := range []error{lenientErr, strictErr} {
			if bad := (*Error)(nil); err != nil && (!errors.As(err, &bad) || bad.Offset > len(data)) {
				t.Fatalf("error %#v", err)
			}
		}
		checkStored(t, lenient, len(data))
		checkStored(t, strict, len(data))
		if strictErr != nil {
			return
		}
		if !json.Valid(data) {
			t.Fatalf("strict took what is not JSON")
		}
		checkAgainstStdlib(t, data)
		if lenientErr != nil {
			if bad := (*Error)(nil); errors.As(lenientErr, &bad) && bad.Reason != "exponent is too large" {
				t.Fatalf("strict took what lenient refused: %v", lenientErr)
			}
			return
		}
		checkSameButCasts(t, strict, lenient)
	})
}

// checkStored checks that messages are in bounds and that their stored form
// is JSON which reads back the same.
func checkStored(t *testing.T, messages []Message, input int) {
	t.Helper()
	size := 0
	for _, m := range messages {
		if len(m.Fields) == 0 {
			t.Fatal("message without fields")
		}
		stored := AppendObject(nil, m.Fields)
		size += len(stored)
		if !json.Valid(stored) {
			t.Fatalf("not JSON: %s", stored)
		}
		back, err := DecodeObject(string(stored))
		if err != nil || !slices.Equal(back, m.Fields) {
			t.Fatalf("%s reads back as %v, error %v", stored, back, err)
		}
	}
	// \u00XX sextuples a control character; exponents may add 1 MiB.
	if size > 6*input+defaultMaxBytes+len(messages)*16 {
		t.Fatalf("%d bytes became %d", input, size)
	}
}

// checkSameButCasts checks that the two modes differ only where lenient casts:
// a string of digits to a number, a double to a string of its digits or, if it
// is a whole number, not at all.
func checkSameButCasts(t *testing.T, strict, lenient []Message) {
	t.Helper()
	if len(strict) != len(lenient) {
		t.Fatalf("strict reads %s, lenient %s", show(strict), show(lenient))
	}
	for i := range strict {
		s, l := strict[i], lenient[i]
		if s.TS != l.TS || len(s.Fields) != len(l.Fields) {
			t.Fatalf("strict reads %s, lenient %s", show(strict), show(lenient))
		}
		for j := range s.Fields {
			if s.Fields[j].Key != l.Fields[j].Key || !sameButCast(s.Fields[j].Value, l.Fields[j].Value) {
				t.Fatalf("strict reads %s, lenient %s", show(strict), show(lenient))
			}
		}
	}
}

func sameButCast(strict, lenient Value) bool {
	if strict == lenient {
		return true
	}
	switch strict.Kind() {
	case KindString:
		return castable(strict.String())
	case KindDouble:
		want, _ := strict.Float()
		got, err := strconv.ParseFloat(lenient.String(), 64)
		return err == nil && got == want
	}
	return false
}

// checkAgainstStdlib compares the strings and numbers of an object of plain
// fields with what encoding/json makes of them.
func checkAgainstStdlib(t *testing.T, data []byte) {
	t.Helper()
	decoder := json.NewDecoder(bytes.NewReader(data))
	decoder.UseNumber()
	var want map[string]any
	if decoder.Decode(&want) != nil {
		return
	}
	got, err := ParseAttributes(data, Options{Strict: true})
	if err != nil {
		return
	}
	for _, field := range got {
		v := field.Value
		switch want := want[field.Key].(type) {
		case string:
			if v != Text(want) {
				t.Fatalf("string reads as %v, encoding/json reads %q", v, want)
			}
		case json.Number:
			number, err := want.Float64()
			if f, ok := v.Float(); err != nil || !ok || f != number {
				t.Fatalf("number %v reads as %v", want, v)
			}
		case bool:
			if v != Bool(want) {
				t.Fatalf("bool reads as %v", v)
			}
		default:
			if v.Kind() != KindJSON {
				t.Fatalf("nested value reads as kind %v", v.Kind())
			}
		}
	}
}

func FuzzDecodeValue(f *testing.F) {
	for _, seed := range []string{`1`, `1.0`, `"1"`, `true`, `null`, `{"a":[1]}`, `1.0e+21`, `[`, `{"a"`} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, s string) {
		v, err := DecodeValue(s)
		if err != nil {
			return
		}
		again, err := DecodeValue(string(v.AppendJSON(nil)))
		if err != nil || again != v {
			t.Fatalf("%v reads back as %v, error %v", v, again, err)
		}
	})
}

// FuzzParseChildren: the names that are accepted are good ones and differ, and what they have can be
// stored.
func FuzzParseChildren(f *testing.F) {
	for _, seed := range []string{
		`{"A":[{"ts":1451649600512,"values":{"k":"v"}}],"B":{"k":1}}`, `{"A":{"serial":"x"}}`, `{'a'=>[{b:1}];c:{}}`, `{"a/b":[]}`, `{"":{}}`, "{\"\xff\":[]}",
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		at := time.UnixMilli(now)
		telemetry, err := ParseChildren(data, at, Options{})
		attributes, attributesErr := ParseChildAttributes(data, Options{})
		for _, err := range []error{err, attributesErr} {
			if bad := (*Error)(nil); err != nil && (!errors.As(err, &bad) || bad.Offset > len(data)) {
				t.Fatalf("error %#v", err)
			}
		}
		names := make(map[string]bool)
		for _, c := range telemetry {
			if CheckChild(c.Name) != nil || names[c.Name] {
				t.Fatalf("name %q", c.Name)
			}
			names[c.Name] = true
			checkStored(t, c.Messages, len(data))
		}
		for _, c := range attributes {
			if CheckChild(c.Name) != nil {
				t.Fatalf("name %q", c.Name)
			}
			if len(c.Fields) > 0 {
				checkStored(t, []Message{{Fields: c.Fields}}, len(data))
			}
		}
	})
}
