package payload

import "testing"

func TestLenientGrammar(t *testing.T) {
	checkParse(t, Options{}, []parseCase{
		{`{attribute1: value1, attribute2: true}`, `now:{"attribute1":"value1","attribute2":true}`},
		{`{temperature:42,humidity:73}`, `now:{"temperature":42,"humidity":73}`},
		{`{'a':'x','b':"it's"}`, `now:{"a":"x","b":"it's"}`},
		{`{'a':'it\'s','b':"\'"}`, `now:{"a":"it's","b":"'"}`},
		{`{a=1,b=>2;c : 3}`, `now:{"a":1,"b":2,"c":3}`},
		{`[{a:1};{a:2}]`, `now:{"a":1} now:{"a":2}`},
		{"/* c */ {a:1, // x\n b:2 # y\n, c:3}/**/", `now:{"a":1,"b":2,"c":3}`},
		{`{a:1}# the end`, `now:{"a":1}`},
		{`{a:1}//`, `now:{"a":1}`},
		{`{a/**/:/**/1/**/}`, `now:{"a":1}`},
		{"\ufeff{a:1}", `now:{"a":1}`},
		{")]}'\n{a:1}", `now:{"a":1}`},
		{")]}'{a:1}", `now:{"a":1}`},
		{"\ufeff /* x */ )]}'\n{a:1}", `now:{"a":1}`},
		{"{\"a\":\"x\ty\nz\"}", `now:{"a":"x\u0009y\u000az"}`},
		{"{\"a\":\"x\\\ny\"}", `now:{"a":"x\u000ay"}`},
		{`{"a":"\u00e9\n\t\b\f\r\/\\\"\ud83d\ude00"}`, `now:{"a":"é\u000a\u0009\u0008\u000c\u000d/\\\"😀"}`},
		{`{"a":"\ud83d","b":"\ud83dx","c":"\ud83d\u0041","d":"\ude00"}`, `now:{"a":"�","b":"�x","c":"�A","d":"�"}`},
		{`{a"b:c'd}`, `now:{"a\"b":"c'd"}`},
		{`{25:1,true:2,null:3}`, `now:{"25":1,"true":2,"null":3}`},
		{`{größe:ß}`, `now:{"größe":"ß"}`},
	})
	checkRefused(t, Options{}, []parseCase{
		{``, "a value is missing at the end"},
		{"  \n", "a value is missing at the end"},
		{`# only a comment`, "a value is missing at the end"},
		{`{"a":1,}`, "a key is missing"},
		{`{"a":1;}`, "a key is missing"},
		{`{,"a":1}`, "a key is missing"},
		{`{a:1}{a:2}`, "data after the document"},
		{`{a:1} x`, "data after the document"},
		{`{a:hello world}`, "neither a comma nor the end of the object or array"},
		{`{a b:1}`, "no colon after a key"},
		{`{a:1`, "object or array is not closed"},
		{`{`, "object is not closed"},
		{`{"a"`, "no colon after a key"},
		{`{"a":`, "a value is missing at the end"},
		{`{"a":}`, "a value is missing or malformed"},
		{`{"a":,"b":1}`, "a value is missing or malformed"},
		{`[`, "a value is missing at the end"},
		{`[{"a":1}`, "object or array is not closed"},
		{`{"a":"x`, "string is not closed"},
		{`{"a":"x\`, "escape is cut short"},
		{`{"a":"\x"}`, "unknown escape in a string"},
		{`{"a":"\u12"}`, "malformed \\u escape in a string"},
		{`{"a":"\u12G4"}`, "malformed \\u escape in a string"},
		{`{"a":"\u+123"}`, "malformed \\u escape in a string"},
		{`{a:1/* x}`, "comment is not closed"},
		{`{a:1/}`, "neither a comma nor the end of the object or array"},
		{`{a\b:1}`, "no colon after a key"},
		{"{a:\f1}", "a value is missing or malformed"},
		{"{\"a\":\"\xc3", "string is not closed"},
		{"{\xb0C:1,}", "a key is missing"},
		{`}`, "a value is missing or malformed"},
	})
}

func TestStrict(t *testing.T) {
	strict := Options{Strict: true}
	checkParse(t, strict, []parseCase{
		{`{"a":1,"b":25.0,"c":"25","d":true,"e":null,"f":{"x":[1]}}`, `now:{"a":1,"b":25.0,"c":"25","d":true,"f":{"x":[1]}}`},
		{`{"a":1,"a":2}`, `now:{"a":2}`},
		{`{"a":1e3,"b":1e300,"c":1.5e-20}`, `now:{"a":1000,"b":1.0e+300,"c":1.5e-20}`},
		{`{"a":0.30000000000000004}`, `now:{"a":0.30000000000000004}`},
		{`[{"ts":5,"values":{"a":1}}]`, `5:{"a":1}`},
		{`{"ts":1e3,"values":{"a":1}}`, `1000:{"a":1}`},
		{`[]`, ``},
	})
	checkRefused(t, strict, []parseCase{
		{"{\"a\":\"\xff\"}", "not UTF-8"},
		{"{\"a\":\"\xc3", "not UTF-8"},
		{`{a:1}`, "a key is missing"},
		{`{'a':1}`, "a key is missing"},
		{`{"a":x}`, "a value is missing or malformed"},
		{`{"a":TRUE}`, "a value is missing or malformed"},
		{`{"a":007}`, "a value is missing or malformed"},
		{`{"a":'x'}`, "a value is missing or malformed"},
		{`{"a"=1}`, "no colon after a key"},
		{`{"a":1;"b":2}`, "neither a comma nor the end of the object or array"},
		{`{"a":1}// x`, "data after the document"},
		{`{"a":[1,]}`, "a value is missing or malformed"},
		{"\ufeff{\"a\":1}", "a value is missing or malformed"},
		{"{\"a\":\"\t\"}", "control character in a string"},
		{`{"a":"\'"}`, "unknown escape in a string"},
		{`{"a":9223372036854775808}`, "integer does not fit 64 bits"},
		{`{"a":1e400}`, "number does not fit a double"},
		{`{"ts":"5","values":{"a":1}}`, "ts is not a number"},
		{`{"ts":1.5,"values":{"a":1}}`, "ts is not a whole number"},
		{`{"ts":1e19,"values":{"a":1}}`, "ts does not fit 64 bits"},
	})
}

// TestBytesThatAreNotUTF8AreReplaced holds what ThingsBoard does: one wrong byte, such
// as a degree sign of Latin-1, costs that character and not the message.
func TestBytesThatAreNotUTF8AreReplaced(t *testing.T) {
	checkParse(t, Options{}, []parseCase{
		{"{\"unit\":\"\xb0C\",\"temperature\":21}", `now:{"unit":"�C","temperature":21}`},
		{"{unit:\xb0C,t:1}", `now:{"unit":"�C","t":1}`},
		{"{'\xb0\\n\xc3':\"\xc3\xa9\xc3\"}", `now:{"�\u000a�":"é�"}`},
		{"{\"a\":[\"\xff\",{\"\xfe\":1}]}", `now:{"a":["�",{"�":1}]}`},
		{"{\"\xb0\":1,\"\xb1\":2}", `now:{"�":2}`},
		{"/*\xff*/{a:1}#\xff", `now:{"a":1}`},
		{"{\"a\":\"\xed\xa0\x80\xc0\x80\"}", `now:{"a":"�����"}`},
	})
}
