package strictjson

import (
	"bytes"
	"encoding/json"
	"fmt"
	"reflect"
	"strings"
	"testing"
	"unicode/utf8"
)

// members returns the result of EachMember as key=value pairs.
func members(text string) (string, error) {
	var found []string
	err := EachMember([]byte(text), func(key, value []byte) error {
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
	for i := range 100 {
		fmt.Fprintf(&many, `"k%d":1,`, i)
	}
	for _, tc := range []struct{ text, want string }{
		{``, "ends early"},
		{`null`, "column 1: expected one JSON object"},
		{`[]`, "expected one JSON object"},
		{`{`, "ends early: expected a key"},
		{`{"a"`, "ends early: a: expected a colon"},
		{`{"a":`, "ends early: a: expected a value"},
		{`{"a":1`, "ends early: expected a comma or }"},
		{`{"a":1,`, "ends early: expected a key"},
		{`{"a":1,}`, "column 8: expected a key"},
		{`{,}`, "expected a key"},
		{`{a:1}`, "column 2: expected a key"},
		{`{'a':1}`, "expected a key"},
		{`{"a" 1}`, "expected a colon"},
		{`{"a":1 "b":2}`, "expected a comma or }"},
		{`{"a":1}{"b":2}`, "column 8: more text after"},
		{`{"a":1} x`, "more text after"},
		{`{"a":1,"a":2}`, "column 8: a: a duplicate key"},
		{`{"a":1,"A":2}`, "duplicate key"},
		{`{"a":1,"\u0061":2}`, "duplicate key"},
		{`{"k":1,"` + "\u212a" + `":2}`, "duplicate key"}, // the Kelvin sign folds to k
		{`{"` + "\u212a" + `":1,"K":2}`, "duplicate key"},
		{`{"` + "\u017f" + `x":1,"b":2,"Sx":3}`, "duplicate key"}, // the long s folds to s
		{`{"":1,"a":2,"":3}`, "duplicate key"},
		{`{"a":{"b":1,"B":2}}`, "column 13: a.b: a duplicate key"},
		{`{"a":[{"b":1,"b":2}]}`, "duplicate key"},
		{`{"a":x}`, "column 6: a: expected a value"},
		{`{"a":tru}`, "expected a value"},
		{`{"a":truex}`, "expected a comma or }"},
		{`{"a":NaN}`, "expected a value"},
		{`{"a":+1}`, "expected a value"},
		{`{"a":01}`, "column 7: a: a number with a leading zero"},
		{`{"a":-}`, "expected a digit"},
		{`{"a":.5}`, "expected a value"},
		{`{"a":1.}`, "expected a digit"},
		{`{"a":1e}`, "expected a digit"},
		{`{"a":0x1}`, "expected a comma or }"},
		{`{"a":[1,]}`, "expected a value"},
		{`{"a":[1 2]}`, "expected a comma or ]"},
		{`{"a":[}`, "expected a value"},
		{`{"a":"x`, "ends early: a: expected a closing quote"},
		{"{\"a\":\"\t\"}", "control character"},
		{"{\"a\":\"\n\"}", "control character"},
		{"{\"a\":\"\x00\"}", "control character"},
		{`{"a":"\x"}`, "does not have"},
		{`{"a":"\`, "does not have"},
		{`{"a":"\u12"}`, "four hexadecimal digits"},
		{`{"a":"\u12g4"}`, "four hexadecimal digits"},
		{`{"a":"\u`, "four hexadecimal digits"},
		{`{"a":` + strings.Repeat("[", MaxDepth) + strings.Repeat("]", MaxDepth) + `}`, "nests too deeply"},
		{`{"\u0000":1}`, "column 2: a key that contains NUL"},
		{`{"\ud83d":1}`, "half of a surrogate pair"},
		{"{\"a\":\"\xff\"}", "not UTF-8"},
		{"{\"\xff\":1}", "not UTF-8"},
		{strings.Repeat(`{"a":`, 10000), "nests too deeply"},
		{`{` + many.String() + `"K77":1}`, "duplicate key"},
		{`{` + many.String() + `"K7":1}`, "duplicate key"},
		{`{/**/}`, "expected a key"},
	} {
		_, err := members(tc.text)
		if err == nil || !strings.Contains(err.Error(), tc.want) {
			t.Errorf("%.60s: %v, want ... %s ...", tc.text, err, tc.want)
		}
	}
}

// TestEveryByteOfAString: at each position of a string, each ASCII character has the meaning that
// JSON gives it.
func TestEveryByteOfAString(t *testing.T) {
	for length := 1; length <= 20; length++ {
		for at := range length {
			for c := byte(0); c < utf8.RuneSelf; c++ {
				inside := bytes.Repeat([]byte("a"), length)
				inside[at] = c
				text := fmt.Appendf(nil, `{"k":"%s"}`, inside)
				if _, err := members(string(text)); (err == nil) != json.Valid(text) {
					t.Fatalf("%q: %v, and encoding/json says %v", text, err, json.Valid(text))
				}
			}
		}
	}
}

// TestMany: an object may have any number of keys.
func TestMany(t *testing.T) {
	text := strings.Builder{}
	for i := range 1000 {
		fmt.Fprintf(&text, `,"k%d":%d`, i, i)
	}
	o, err := Parse([]byte("{" + text.String()[1:] + "}"))
	if err != nil || len(o) != 1000 {
		t.Fatalf("%d members, %v", len(o), err)
	}
	if value, ok := o.Get("k999"); !ok || value != json.Number("999") {
		t.Errorf("k999 is %v", value)
	}
}

// TestErrorsRepeatNoToken: people put tokens where keys and values belong.
func TestErrorsRepeatNoToken(t *testing.T) {
	const token = "kX9-secret-token"
	for _, text := range []string{
		`{"` + token + `":1,"` + token + `":2}`, `{"` + token + `":01}`, `{"` + token + `" 1}`, `{"a":"` + token + `}`, `{"a":` + token + `}`,
		`{"a":{"` + token + `":[1,]}}`,
	} {
		if _, err := members(text); err == nil || strings.Contains(err.Error(), "kX9") {
			t.Errorf("%s: %v", text, err)
		}
	}
}

// TestText: a string that is used contains neither NUL nor half of a surrogate pair. One that
// is skipped may.
func TestText(t *testing.T) {
	for _, tc := range []struct{ raw, want, fault string }{
		{`""`, "", ""},
		{`"abc"`, "abc", ""},
		{`"\u00e9\ud83d\ude00\n"`, "é😀\n", ""},
		{"\"\ufffd\"", "\ufffd", ""},
		{`"\u0000"`, "", "NUL"},
		{`"\ud83d"`, "", "surrogate"},
		{`"\ud83dx"`, "", "surrogate"},
		{`"\ud83d\n"`, "", "surrogate"},
		{`"\ud83d\u0041"`, "", "surrogate"},
		{`"\ud83d\ud83d\ude00"`, "", "surrogate"},
		{`"\ude00\ud83d"`, "", "surrogate"},
		{`12`, "", "want a string, got a number"},
		{`null`, "", "want a string, got null"},
		{`{}`, "", "want a string, got an object"},
		{`[]`, "", "want a string, got a list"},
		{`true`, "", "want a string, got a boolean"},
	} {
		var found bool
		err := EachMember([]byte(`{"a":`+tc.raw+`}`), func(_, value []byte) error {
			text, err := Text(value)
			found = true
			if string(text) != tc.want {
				t.Errorf("%s is %q", tc.raw, text)
			}
			return err
		})
		if !found || (err == nil) != (tc.fault == "") || err != nil && !strings.Contains(err.Error(), tc.fault) {
			t.Errorf("%s: %v, want %q", tc.raw, err, tc.fault)
		}
		o, err := Parse([]byte(`{"a":` + tc.raw + `}`))
		if err != nil {
			t.Errorf("%s: %v", tc.raw, err)
			continue
		}
		if _, isText := o[0].Value.(string); isText != (tc.fault == "") || string(o[0].Raw) != tc.raw {
			t.Errorf("%s is %#v, raw %s", tc.raw, o[0].Value, o[0].Raw)
		}
	}
}

func TestName(t *testing.T) {
	for text, want := range map[string]string{
		`"a"`: "a", `""`: "", `7`: "7", `-12345678901234567890`: "-12345678901234567890",
		`1.5`: "none", `1e3`: "none", `true`: "none", `null`: "none", `["a"]`: "none", `{}`: "none", `"\ud800"`: "none",
	} {
		o, err := Parse([]byte(`{"a":` + text + `}`))
		if err != nil {
			t.Fatal(err)
		}
		got, ok := Name(o[0].Value)
		if !ok {
			got = "none"
		}
		if got != want {
			t.Errorf("%s has the name %q, want %q", text, got, want)
		}
	}
}

func TestEachElement(t *testing.T) {
	for text, want := range map[string]string{
		`[]`: "", ` [ 1 , "a,b" , [2,3] ] `: `1 "a,b" [2,3]`,
		`{}`: "column 1: expected a list", `[1,]`: "column 4: expected a value", `[1]x`: "column 4: more text", ``: "the text ends early: expected a list",
	} {
		var found []string
		err := EachElement([]byte(text), func(value []byte) error {
			found = append(found, string(value))
			return nil
		})
		got := strings.Join(found, " ")
		if err != nil {
			got = err.Error()
		}
		if !strings.HasPrefix(got, want) || want == "" && got != "" {
			t.Errorf("%s: %s, want %s", text, got, want)
		}
	}
}

// FuzzParse: the package is stricter than encoding/json and never laxer, and decodes the rest
// in the same way, with both ways of reading.
func FuzzParse(f *testing.F) {
	for _, seed := range []string{
		`{}`, `{"a":1,"b":"x","c":[true,null],"d":{"e":-1.5e3}}`, `{"a":"\u00e9\ud83d\ude00\n"}`, `{"a":1,"A":2}`, `{"a":"\ud83d\ud83d\ude00\u0000"}`,
		`{"a":01}`, `{"a":"\ud800"}`, ` { "a" : [ ] } `, `{"a":1}x`, `{"é":"ü"}`, `{"a":`, `[]`, ``, `{"a":[{"b":[{"c":"d"}]},false]}`,
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		walked := map[string]any{}
		walkErr := EachMember(text, func(key, value []byte) error {
			walked[string(key)] = decode(t, value)
			return nil
		})
		o, err := Parse(text)
		if fmt.Sprint(err) != fmt.Sprint(walkErr) {
			t.Fatalf("%q: Parse says %v, EachMember %v", text, err, walkErr)
		}
		if err != nil {
			if !utf8.ValidString(err.Error()) {
				t.Errorf("%q: the error is no text: %q", text, err)
			}
			return
		}
		want := decode(t, text)
		for what, got := range map[string]any{"EachMember": walked, "Parse": plain(o)} {
			if !reflect.DeepEqual(got, want) {
				t.Errorf("%q reads as %v with %s, want %v", text, got, what, want)
			}
		}
	})
}

// FuzzKeys: an object without duplicate keys is accepted, and any other refused, however many
// keys there are.
func FuzzKeys(f *testing.F) {
	f.Add("a,b,c")
	f.Add("a,A")
	f.Add("k,\u212a")
	f.Add(strings.Repeat("x", 3) + ",XXX")
	f.Fuzz(func(t *testing.T, list string) {
		if !utf8.ValidString(list) || strings.ContainsAny(list, "\x00") {
			return
		}
		names := strings.Split(list, ",")
		doubled := false
		var text bytes.Buffer
		for i, name := range names {
			for _, other := range names[:i] {
				doubled = doubled || strings.EqualFold(name, other)
			}
			key, _ := json.Marshal(name)
			fmt.Fprintf(&text, ",%s:%d", key, i)
		}
		_, err := Parse([]byte("{" + text.String()[1:] + "}"))
		if (err != nil) != doubled {
			t.Errorf("%q: %v", list, err)
		}
	})
}

func decode(t *testing.T, text []byte) (v any) {
	dec := json.NewDecoder(bytes.NewReader(text))
	dec.UseNumber() // 1e999 is a number, but no float64
	if err := dec.Decode(&v); err != nil {
		t.Errorf("passed %q: %v", text, err)
	}
	return v
}

// plain converts a value of this package to that of encoding/json.
func plain(value any) any {
	switch v := value.(type) {
	case Object:
		m := map[string]any{}
		for _, member := range v {
			m[member.Key] = plain(member.Value)
		}
		return m
	case []any:
		list := []any{}
		for _, element := range v {
			list = append(list, plain(element))
		}
		return list
	case Damaged:
		return string(v)
	}
	return value
}
