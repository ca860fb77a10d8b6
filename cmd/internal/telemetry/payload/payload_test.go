package payload

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// now is the server's time in all tests.
const now = 1_700_000_000_123

func parse(s string, opts Options) ([]Message, error) {
	return Parse([]byte(s), time.UnixMilli(now), opts)
}

// show writes messages as "ts:json" so that a case fits a line; the JSON form
// tells every kind from every other.
func show(messages []Message) string {
	var b strings.Builder
	for i, m := range messages {
		if i > 0 {
			b.WriteByte(' ')
		}
		if m.Arrived && m.TS == now {
			b.WriteString("now:")
		} else {
			fmt.Fprintf(&b, "%d:", m.TS)
		}
		b.Write(AppendObject(nil, m.Fields))
	}
	return b.String()
}

type parseCase struct{ in, want string }

func checkParse(t *testing.T, opts Options, cases []parseCase) {
	t.Helper()
	for _, c := range cases {
		got, err := parse(c.in, opts)
		if err != nil {
			t.Errorf("%q: %v", c.in, err)
			continue
		}
		if show(got) != c.want {
			t.Errorf("%q:\n got %s\nwant %s", c.in, show(got), c.want)
		}
	}
}

func checkRefused(t *testing.T, opts Options, cases []parseCase) {
	t.Helper()
	for _, c := range cases {
		got, err := parse(c.in, opts)
		var bad *Error
		switch {
		case err == nil:
			t.Errorf("%q: accepted as %s", c.in, show(got))
		case !errors.As(err, &bad):
			t.Errorf("%q: error %T is not *Error", c.in, err)
		case bad.Reason != c.want:
			t.Errorf("%q: reason %q, want %q", c.in, bad.Reason, c.want)
		case bad.Offset < 0 || bad.Offset > len(c.in):
			t.Errorf("%q: offset %d is outside", c.in, bad.Offset)
		}
	}
}

func TestUnquotedByTheShell(t *testing.T) {
	const onTheWire = "{temperature:25}"
	if len(onTheWire) != 16 {
		t.Fatalf("%d bytes, want the 16 that mosquitto_pub sends", len(onTheWire))
	}
	got, err := parse(onTheWire, Options{})
	if err != nil {
		t.Fatal(err)
	}
	want := []Message{{TS: now, Arrived: true, Fields: []Field{{"temperature", Long(25)}}}}
	if diff := cmp.Diff(want, got, cmp.Comparer(func(a, b Value) bool { return a == b })); diff != "" {
		t.Error(diff)
	}
}

func TestShapes(t *testing.T) {
	checkParse(t, Options{}, []parseCase{
		{`{"a":1,"b":"x"}`, `now:{"a":1,"b":"x"}`},
		{`{"ts":1451649600512,"values":{"a":1,"b":true}}`, `1451649600512:{"a":1,"b":true}`},
		{`{"values":{"a":1},"ts":5}`, `5:{"a":1}`},
		{`{"ts":5,"values":{"a":1},"b":2}`, `5:{"a":1}`},
		{`{"ts":5,"a":1}`, `now:{"ts":5,"a":1}`},
		{`{"values":{"a":1}}`, `now:{"values":{"a":1}}`},
		{`[{"a":1},{"ts":7,"values":{"b":2}}]`, `now:{"a":1} 7:{"b":2}`},
		{`[]`, ``},
		{`{}`, ``},
		{`[{},{"a":null},{"ts":1,"values":{}}]`, ``},
		{` [ { } , {"a":1} ] `, `now:{"a":1}`},
	})
	checkRefused(t, Options{}, []parseCase{
		{`25`, "neither an object nor an array"},
		{`"a"`, "neither an object nor an array"},
		{`null`, "neither an object nor an array"},
		{`[1]`, "array element is not an object"},
		{`[[{"a":1}]]`, "array element is not an object"},
		{`[{"a":1},]`, "array element is not an object"},
		{`{"ts":1,"values":3}`, "values is not an object"},
		{`{"ts":1,"values":null}`, "values is not an object"},
		{`{"ts":1,"values":[{"a":1}]}`, "values is not an object"},
	})
}

func TestTimestamps(t *testing.T) {
	at := func(ts string) string { return `{"ts":` + ts + `,"values":{"a":1}}` }
	checkParse(t, Options{}, []parseCase{
		{at(`"1451649600512"`), `1451649600512:{"a":1}`},
		{at(`1.5`), `1:{"a":1}`},
		{at(`-1.5`), `-1:{"a":1}`},
		{at(`0.9e1`), `9:{"a":1}`},
		{at(`1e3`), `1000:{"a":1}`},
		{at(`"12.75"`), `12:{"a":1}`},
		{at(`12345e-3`), `12:{"a":1}`},
		{at(`1e-400`), `0:{"a":1}`},
		{at(`-1`), `-1:{"a":1}`},
		{at(`9223372036854775807`), `9223372036854775807:{"a":1}`},
		{at(`9223372036854775807.9`), `9223372036854775807:{"a":1}`},
		{at(`-9223372036854775808`), `-9223372036854775808:{"a":1}`},
		{`{ts:1451649600512,values:{a:1}}`, `1451649600512:{"a":1}`},
	})
	checkRefused(t, Options{}, []parseCase{
		{at(`"abc"`), "ts is not a number"},
		{at(`"1e3"`), "ts is not a number"},
		{at(`""`), "ts is not a number"},
		{at(`true`), "ts is not a number"},
		{at(`null`), "ts is not a number"},
		{at(`{}`), "ts is not a number"},
		{at(`9223372036854775808`), "ts does not fit 64 bits"},
		{at(`-9223372036854775809`), "ts does not fit 64 bits"},
		{at(`1e19`), "ts does not fit 64 bits"},
		{at(`1e999999999999999999999`), "ts does not fit 64 bits"},
		{at(`"99999999999999999999999"`), "ts does not fit 64 bits"},
	})
}

func TestTypes(t *testing.T) {
	checkParse(t, Options{}, []parseCase{
		{`{"a":true,"b":false}`, `now:{"a":true,"b":false}`},
		{`{"a":TRUE,"b":True,"c":FALSE,"d":fAlSe}`, `now:{"a":true,"b":true,"c":false,"d":false}`},
		{`{"a":"true"}`, `now:{"a":"true"}`},
		{`{"a":null,"b":NULL,"c":Null,"d":1}`, `now:{"d":1}`},
		{`{"a":1,"a":2}`, `now:{"a":2}`},
		{`{"a":1,"b":3,"a":null}`, `now:{"b":3}`},
		{`{"a":NaN,"b":Infinity,"c":-Infinity,"d":hello}`, `now:{"a":"NaN","b":"Infinity","c":"-Infinity","d":"hello"}`},
		{`{"a":{"x": 1.50 , "y":[1,null,"z"]}}`, `now:{"a":{"x":1.50,"y":[1,null,"z"]}}`},
		{`{"a":{x:NaN,x:y,z:[1,,]}}`, `now:{"a":{"x":"y","z":[1,null,null]}}`},
		{`{"a":[],"b":{}}`, `now:{"a":[],"b":{}}`},
		{`{"a":{"n":1E400,"m":"25"}}`, `now:{"a":{"n":1E400,"m":"25"}}`},
		{`{"a":""}`, `now:{"a":""}`},
	})
}

func TestNumbers(t *testing.T) {
	zeros := func(n int) string { return strings.Repeat("0", n) }
	for _, c := range []parseCase{
		{`25`, `25`},
		{`-25`, `-25`},
		{`0`, `0`},
		{`-0`, `0`},
		{`1e3`, `1000`},
		{`1E+3`, `1000`},
		{`1.5e1`, `15`},
		{`1.0e3`, `1000`},
		{`2500e-2`, `25`},
		{`25.0`, `25.0`},
		{`25.00`, `25.0`},
		{`-0.0`, `0.0`},
		{`36.6`, `36.6`},
		{`1e-3`, `0.001`},
		{`1e-7`, `1.0e-07`},
		{`9223372036854775807`, `9223372036854775807`},
		{`-9223372036854775808`, `-9223372036854775808`},
		{`92233720368547758070e-1`, `9223372036854775807`},
		{`9223372036854775808`, `"9223372036854775808"`},
		{`-9223372036854775809`, `"-9223372036854775809"`},
		{`1e18`, `1000000000000000000`},
		{`1e19`, `"1` + zeros(19) + `"`},
		{`-1.5e20`, `"-15` + zeros(19) + `"`},
		{`1E400`, `"1` + zeros(400) + `"`},
		{`0e999999999999`, `0`},
		{`0.1234567890123456`, `0.1234567890123456`},
		{`0.12345678901234567`, `"0.12345678901234567"`},
		{`1.5e-20`, `"0.` + zeros(19) + `15"`},
		{`-12.34567890123456789`, `"-12.34567890123456789"`},
		{`0.` + zeros(17), `"0.` + zeros(17) + `"`},
		{`1` + zeros(400) + `.5`, `"1` + zeros(400) + `.5"`},
		{`12345678901234567890.5`, `12345678901234567000.0`},
		{`1` + zeros(21) + `.5`, `1.0e+21`},
		// Without quotes, but no numbers of JSON: cast like strings.
		{`007`, `7`},
		{`.5`, `0.5`},
		{`-.5`, `-0.5`},
		{`+5`, `"+5"`},
		{`5.`, `"5."`},
		{`0x10`, `"0x10"`},
		{`1.2.3`, `"1.2.3"`},
		{`1e`, `"1e"`},
		{`1e+`, `"1e+"`},
		{`-`, `"-"`},
	} {
		checkParse(t, Options{}, []parseCase{{`{"a":` + c.in + `}`, `now:{"a":` + c.want + `}`}})
	}
}

func TestCastOfStrings(t *testing.T) {
	for _, c := range []parseCase{
		{`"25"`, `25`},
		{`"-25"`, `-25`},
		{`"007"`, `7`},
		{`"25.0"`, `25.0`},
		{`"36.6"`, `36.6`},
		{`".5"`, `0.5`},
		{`"12345678901234567890"`, `"12345678901234567890"`},
		{`"00012345678901234567890"`, `"12345678901234567890"`},
		{`".12345678901234567"`, `"0.12345678901234567"`},
		{`"1e3"`, `"1e3"`},
		{`"+5"`, `"+5"`},
		{`"0x10"`, `"0x10"`},
		{`" 25"`, `" 25"`},
		{`"25 "`, `"25 "`},
		{`"5."`, `"5."`},
		{`"."`, `"."`},
		{`"-."`, `"-."`},
		{`"-"`, `"-"`},
		{`"1_000"`, `"1_000"`},
		{`"٣"`, `"٣"`},
	} {
		checkParse(t, Options{}, []parseCase{{`{"a":` + c.in + `}`, `now:{"a":` + c.want + `}`}})
	}
}

func TestExponentIsBounded(t *testing.T) {
	checkRefused(t, Options{}, []parseCase{
		{`{"a":1e600}`, "exponent is too large"},
		{`{"a":1e-600}`, "exponent is too large"},
		{`{"a":1e999999999}`, "exponent is too large"},
		{`{"a":-1e99999999999999999999999999}`, "exponent is too large"},
		{`{"a":1e-99999999999999999999999999}`, "exponent is too large"},
	})
	many := strings.Builder{}
	many.WriteString(`{"k0":1`)
	for i := range 300 {
		fmt.Fprintf(&many, `,"x%d":1e400`, i)
	}
	many.WriteString(`}`)
	if _, err := parse(many.String(), Options{}); err != nil {
		t.Errorf("300 exponents within the default budget: %v", err)
	}
	checkRefused(t, Options{MaxBytes: 10_000}, []parseCase{{many.String(), "exponent is too large"}})
}

func TestKeys(t *testing.T) {
	longest := strings.Repeat("ä", 255)
	checkParse(t, Options{}, []parseCase{{`{"` + longest + `":1}`, `now:{"` + longest + `":1}`}})
	checkRefused(t, Options{}, []parseCase{
		{`{"ä` + longest + `":1}`, "key longer than 255 characters"},
		{`{"ä` + longest + `":null}`, "key longer than 255 characters"},
		{`{"":1}`, "blank key"},
		{`{" \t\u00a0":1}`, "blank key"},
		{`{"ts":1,"values":{"":1}}`, "blank key"},
	})
}

func TestManyDuplicateKeys(t *testing.T) {
	var b strings.Builder
	for i := range 100 {
		fmt.Fprintf(&b, ",k%d:%d", i%20, i)
	}
	got, err := parse("{"+b.String()[1:]+"}", Options{})
	if err != nil {
		t.Fatal(err)
	}
	if len(got) != 1 || len(got[0].Fields) != 20 {
		t.Fatalf("got %s", show(got))
	}
	for i, f := range got[0].Fields {
		if want := (Field{fmt.Sprintf("k%d", i), Long(int64(80 + i))}); f != want {
			t.Errorf("field %d: got %v, want %v", i, f, want)
		}
	}
}

func TestLimits(t *testing.T) {
	deep := func(n int) string { return `{"a":` + strings.Repeat("[", n) + strings.Repeat("]", n) + `}` }
	checkParse(t, Options{MaxBytes: 7}, []parseCase{{`{"a":1}`, `now:{"a":1}`}})
	checkRefused(t, Options{MaxBytes: 6}, []parseCase{{`{"a":1}`, "payload too long"}})
	checkParse(t, Options{MaxValues: 2}, []parseCase{{`{"a":1}`, `now:{"a":1}`}})
	checkRefused(t, Options{MaxValues: 2}, []parseCase{
		{`{"a":1,"b":2}`, "too many values"},
		{`{"a":[,]}`, "too many values"},
	})
	checkParse(t, Options{}, []parseCase{{deep(31), `now:` + deep(31)}})
	checkRefused(t, Options{}, []parseCase{
		{deep(32), "nested too deep"},
		{strings.Repeat("[", 1<<20), "nested too deep"},
		{strings.Repeat(" ", 1<<20) + " ", "payload too long"},
		{`{"a":[` + strings.Repeat(",", 20_000) + `]}`, "too many values"},
	})
}

func TestParseAttributes(t *testing.T) {
	got, err := ParseAttributes([]byte(`{attribute1: value1, ts:5, values:{a:1}, n:null}`), Options{})
	if err != nil {
		t.Fatal(err)
	}
	const want = `{"attribute1":"value1","ts":5,"values":{"a":1}}`
	if s := string(AppendObject(nil, got)); s != want {
		t.Errorf("got %s, want %s", s, want)
	}
	for _, bad := range []string{`[]`, `[{"a":1}]`, `25`, ``, `{"":1}`} {
		var refused *Error
		if _, err := ParseAttributes([]byte(bad), Options{}); !errors.As(err, &refused) {
			t.Errorf("%q: error %v, want *Error", bad, err)
		}
	}
}

func TestErrorNeverQuotesThePayload(t *testing.T) {
	for _, bad := range []string{`{"a":"s3cret\x"}`, `{s3cret s3cret}`, `s3cret`, `{"ts":"s3cret","values":{}}`, `[s3cret]`} {
		_, err := parse(bad, Options{})
		if err == nil || strings.Contains(err.Error(), "s3cret") {
			t.Errorf("%q: error %v", bad, err)
		}
	}
}

func TestResultDoesNotAliasInput(t *testing.T) {
	data := []byte(`{"key":"text"}`)
	got, err := Parse(data, time.UnixMilli(now), Options{})
	if err != nil {
		t.Fatal(err)
	}
	clear(data)
	if s := show(got); s != `now:{"key":"text"}` {
		t.Errorf("got %q after the input was overwritten", s)
	}
}

// TestChildren: a gateway names the devices, each with a payload of its own.
func TestChildren(t *testing.T) {
	for data, want := range map[string]string{
		`{"A":[{"ts":5,"values":{"k":1}},{"k":"2"}],'B c'=>{k:3}}`: `A 5:{"k":1} ` + fmt.Sprint(now) + `:{"k":2}|B c ` + fmt.Sprint(now) + `:{"k":3}`,
		`{}`: ``, `{"A":[]}`: `A`, `{"A":{}}`: `A`, `{"A":[{"k":null}]}`: `A`, `{"A":[{"k":1}],"A":[]}`: `A`, `{"...":[]}`: `...`, `{".a":[]}`: `.a`,
	} {
		children, err := ParseChildren([]byte(data), time.UnixMilli(now), Options{})
		if err != nil {
			t.Errorf("%s: %v", data, err)
			continue
		}
		var all []string
		for _, c := range children {
			text := c.Name
			for _, m := range c.Messages {
				text += fmt.Sprintf(" %d:%s", m.TS, AppendObject(nil, m.Fields))
			}
			all = append(all, text)
		}
		if got := strings.Join(all, "|"); got != want {
			t.Errorf("%s: got %s, want %s", data, got, want)
		}
	}
	for _, data := range []string{
		``, `[]`, `5`, `{"A":5}`, `{"A":"x"}`, `{"A":null}`, `{"A":[[]]}`, `{"A":[{"ts":"x","values":{"k":1}}]}`, `{"":[]}`, `{"a/b":[]}`, `{"+":[]}`, `{"a#":[]}`, `{".":[]}`, `{"..":[]}`,
		`{"\u0000":[]}`, `{"\u001f":[]}`, `{"\u0085":[]}`, `{"\ufffe":[]}`, `{"\ufffd":[]}`, "{\"a\xff\":[]}", `{"` + strings.Repeat("x", 256) + `":[]}`,
	} {
		for parse, err := range map[string]error{
			"telemetry":  second(ParseChildren([]byte(data), time.UnixMilli(now), Options{})),
			"attributes": second(ParseChildAttributes([]byte(strings.ReplaceAll(data, ":[]", ":{}")), Options{})),
		} {
			if bad := (*Error)(nil); !errors.As(err, &bad) {
				t.Errorf("%s %.30q: %v", parse, data, err)
			}
		}
	}
	children, err := ParseChildAttributes([]byte(`{"`+strings.Repeat("ü", 255)+`":{"a":"1.0","b":null}}`), Options{})
	if err != nil || len(children) != 1 || string(AppendObject(nil, children[0].Fields)) != `{"a":1.0}` {
		t.Errorf("attributes %v, %v", children, err)
	}
}

func second[T any](_ T, err error) error { return err }
