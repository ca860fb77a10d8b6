package tokenfile

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"unicode/utf8"
)

// members renders what eachMember finds as key=value pairs.
func members(text string) (string, error) {
	var found []string
	err := eachMember([]byte(text), func(key, value []byte) error {
		found = append(found, fmt.Sprintf("%s=%s", key, value))
		return nil
	})
	return strings.Join(found, " "), err
}

func TestEachMember(t *testing.T) {
	for _, tc := range []struct{ text, want string }{
		{`{}`, ``},
		{` { } `, ``},
		{`{"a":1}`, `a=1`},
		{"\t{ \"a\" : 1 , \"b\" : \"x\" }\r\n", `a=1 b="x"`},
		{`{"a":-0.5e+3,"b":0,"c":1E2}`, `a=-0.5e+3 b=0 c=1E2`},
		{`{"a":true,"b":false,"c":null}`, `a=true b=false c=null`},
		{`{"a":["x",[1]],"b":{"c":{}}}`, `a=["x",[1]] b={"c":{}}`},
		{`{"a":[ ],"b":{ }}`, `a=[ ] b={ }`},
		{`{"a":"\"\\\/\b\f\n\r\t\u00e9\ud83d\ude00"}`, `a="\"\\\/\b\f\n\r\t\u00e9\ud83d\ude00"`},
		{`{"\u0061\"":1}`, `a"=1`},
		{`{"é":"ü"}`, `é="ü"`},
		{`{"":""}`, `=""`},
	} {
		if got, err := members(tc.text); err != nil || got != tc.want {
			t.Errorf("%s: %q, %v; want %q", tc.text, got, err, tc.want)
		}
		if !json.Valid([]byte(tc.text)) {
			t.Errorf("%s is no JSON at all", tc.text)
		}
	}
}

func TestEachMemberRefuses(t *testing.T) {
	many := strings.Builder{}
	for i := range maxMembers + 1 {
		fmt.Fprintf(&many, `"k%d":1,`, i)
	}
	for _, tc := range []struct{ text, want string }{
		{``, "ends early"},
		{`null`, "column 1: expected one JSON object"},
		{`[]`, "expected one JSON object"},
		{`{`, "ends early: expected a key"},
		{`{"a"`, "ends early: expected a colon"},
		{`{"a":`, "ends early: expected a value"},
		{`{"a":1`, "ends early: expected a comma or }"},
		{`{"a":1,`, "ends early: expected a key"},
		{`{"a":1,}`, "column 8: expected a key"},
		{`{,}`, "expected a key"},
		{`{a:1}`, "column 2: expected a key"},
		{`{'a':1}`, "expected a key"},
		{`{"a" 1}`, "expected a colon"},
		{`{"a":1 "b":2}`, "expected a comma or }"},
		{`{"a":1}{"b":2}`, "column 8: more text"},
		{`{"a":1} x`, "more text"},
		{`{"a":1,"a":2}`, "column 8: a key that the object has already"},
		{`{"a":1,"A":2}`, "has already"},
		{`{"a":1,"\u0061":2}`, "has already"},
		{`{"k":1,"` + "\u212a" + `":2}`, "has already"}, // the Kelvin sign folds to k
		{`{"a":{"b":1,"B":2}}`, "has already"},
		{`{"a":[{"b":1,"b":2}]}`, "has already"},
		{`{"a":x}`, "column 6: expected a value"},
		{`{"a":tru}`, "expected a value"},
		{`{"a":truex}`, "expected a comma or }"},
		{`{"a":NaN}`, "expected a value"},
		{`{"a":+1}`, "expected a value"},
		{`{"a":01}`, "leading zero"},
		{`{"a":-}`, "expected a digit"},
		{`{"a":.5}`, "expected a value"},
		{`{"a":1.}`, "expected a digit"},
		{`{"a":1e}`, "expected a digit"},
		{`{"a":0x1}`, "expected a comma or }"},
		{`{"a":[1,]}`, "expected a value"},
		{`{"a":[1 2]}`, "expected a comma or ]"},
		{`{"a":[}`, "expected a value"},
		{`{"a":"x`, "ends early: expected a closing quote"},
		{"{\"a\":\"\t\"}", "control character"},
		{"{\"a\":\"\n\"}", "control character"},
		{"{\"a\":\"\x00\"}", "control character"},
		{`{"a":"\x"}`, "does not know"},
		{`{"a":"\`, "does not know"},
		{`{"a":"\u12"}`, "four hexadecimal digits"},
		{`{"a":"\u12g4"}`, "four hexadecimal digits"},
		{`{"a":"\u`, "four hexadecimal digits"},
		{`{"a":"\u0000"}`, "NUL"},
		{`{"a":"\ud83d"}`, "surrogate"},
		{`{"a":"\ud83dx"}`, "surrogate"},
		{`{"a":"\ud83d\n"}`, "surrogate"},
		{`{"a":"\ud83d\u0041"}`, "surrogate"},
		{`{"a":"\ude00\ud83d"}`, "surrogate"},
		{`{"a":[[[[]]]]}`, "nested too deeply"},
		{`{"a":{"b":{"c":{"d":{}}}}}`, "nested too deeply"},
		{strings.Repeat(`{"a":`, 10000), "nested too deeply"},
		{`{` + strings.TrimSuffix(many.String(), ",") + `}`, "more than 64 keys"},
		{`{/**/}`, "expected a key"},
	} {
		_, err := members(tc.text)
		if err == nil || !strings.Contains(err.Error(), tc.want) {
			t.Errorf("%.60s: %v, want ... %s ...", tc.text, err, tc.want)
		}
	}
}

// FuzzEachMember holds the scanner to be stricter than encoding/json, never
// laxer, and to understand the rest as it does.
func FuzzEachMember(f *testing.F) {
	for _, seed := range []string{
		`{}`, `{"a":1,"b":"x","c":[true,null],"d":{"e":-1.5e3}}`, `{"a":"\u00e9\ud83d\ude00\n"}`, `{"a":1,"A":2}`,
		`{"a":01}`, `{"a":"\ud800"}`, ` { "a" : [ ] } `, `{"a":1}x`, `{"é":"ü"}`, `{"a":`, `[]`, ``,
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		if !utf8.Valid(text) {
			return
		}
		got := map[string]any{}
		err := eachMember(text, func(key, value []byte) error {
			got[string(key)] = decodeAny(t, value)
			return nil
		})
		if err != nil {
			return
		}
		a, _ := json.Marshal(got)
		b, _ := json.Marshal(decodeAny(t, text))
		if !bytes.Equal(a, b) {
			t.Errorf("%q reads as %s, want %s", text, a, b)
		}
	})
}

func decodeAny(t *testing.T, text []byte) (v any) {
	dec := json.NewDecoder(bytes.NewReader(text))
	dec.UseNumber() // 1e999 is a number, though no float64
	if err := dec.Decode(&v); err != nil {
		t.Errorf("passed %q: %v", text, err)
	}
	return v
}
