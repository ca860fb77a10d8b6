package telemetrytest

import (
	"fmt"
	"net/http"
	"strings"
	"testing"
)

func checkHTTP(t *testing.T, s Suite) {
	f := s.open(t, 0)
	f.append("d1", 1609459200000, `{temperature:25}`)
	f.publish("d1", `{"ts":1000,"values":{"a":25.0,"b":"<x>","c":true,"d":{"n":[1.50,null]}}}`)
	f.publish("d1", `{"ts":2000,"values":{"a":26.5,"b":"1e3"}}`)
	f.setAttributes("d1", 1609459200000, `{attribute1: value1, attribute2: true, "attribute3":1.0}`)
	f.publish("comma", `{"ts":1,"values":{"a,b":1,"a":2,"b":3}}`)
	f.setAttributes("comma", 1, `{"a,b":1,"a":2}`)
	for path, want := range map[string]string{
		"d1/keys/timeseries":                                                                                            `["a","b","c","d","temperature"]`,
		"d1/values/timeseries?keys=temperature":                                                                         `{"temperature":[{"ts":1609459200000,"value":"25"}]}`,
		"d1/values/timeseries?keys=temperature&useStrictDataTypes=true":                                                 `{"temperature":[{"ts":1609459200000,"value":25}]}`,
		"d1/values/timeseries?useStrictDataTypes=false":                                                                 `{"a":[{"ts":2000,"value":"26.5"}],"b":[{"ts":2000,"value":"1e3"}],"c":[{"ts":1000,"value":"true"}],"d":[{"ts":1000,"value":"{\"n\":[1.50,null]}"}],"temperature":[{"ts":1609459200000,"value":"25"}]}`,
		"d1/values/timeseries?keys=c,d&useStrictDataTypes=true":                                                         `{"c":[{"ts":1000,"value":true}],"d":[{"ts":1000,"value":{"n":[1.50,null]}}]}`,
		"d1/values/timeseries?keys=a,b&startTs=1000&endTs=2001":                                                         `{"a":[{"ts":2000,"value":"26.5"},{"ts":1000,"value":"25.0"}],"b":[{"ts":2000,"value":"1e3"},{"ts":1000,"value":"<x>"}]}`,
		"d1/values/timeseries?keys=a&startTs=1000&endTs=2000":                                                           `{"a":[{"ts":1000,"value":"25.0"}]}`,
		"d1/values/timeseries?keys=a&startTs=0&endTs=9999&orderBy=ASC&limit=1":                                          `{"a":[{"ts":1000,"value":"25.0"}]}`,
		"d1/values/timeseries?keys=a&startTs=0&endTs=9999&useStrictDataTypes=true":                                      `{"a":[{"ts":2000,"value":26.5},{"ts":1000,"value":25.0}]}`,
		"d1/values/timeseries?keys=nope&startTs=0&endTs=9999":                                                           `{}`,
		"d1/values/timeseries?keys=a&startTs=0&endTs=4000&interval=4000&agg=AVG":                                        `{"a":[{"ts":2000,"value":"25.75"}]}`,
		"d1/values/timeseries?keys=a&startTs=0&endTs=4000&interval=4000&agg=count":                                      `{"a":[{"ts":2000,"value":"2"}]}`,
		"d1/values/timeseries?keys=a&startTs=0&endTs=4000&interval=0&agg=MAX":                                           `{"a":[{"ts":2000,"value":"26.5"},{"ts":1000,"value":"25.0"}]}`,
		"d1/values/timeseries?keys=a&startTs=0&endTs=9&intervalType=MILLISECONDS":                                       `{}`,
		"d1/values/timeseries?key=a&key=b":                                                                              `{"a":[{"ts":2000,"value":"26.5"}],"b":[{"ts":2000,"value":"1e3"}]}`,
		"d1/values/timeseries?keys=a&key=a&keys=,a,":                                                                    `{"a":[{"ts":2000,"value":"26.5"}]}`,
		"d1/values/timeseries?keys=":                                                                                    `{"a":[{"ts":2000,"value":"26.5"}],"b":[{"ts":2000,"value":"1e3"}],"c":[{"ts":1000,"value":"true"}],"d":[{"ts":1000,"value":"{\"n\":[1.50,null]}"}],"temperature":[{"ts":1609459200000,"value":"25"}]}`,
		"d1/values/timeseries?key=a&key=b&startTs=1000&endTs=2000":                                                      `{"a":[{"ts":1000,"value":"25.0"}],"b":[{"ts":1000,"value":"<x>"}]}`,
		"d1/values/timeseries/history?key=a&key=b&startTs=1000&endTs=2000":                                              `{"a":[{"ts":1000,"value":"25.0"}],"b":[{"ts":1000,"value":"<x>"}]}`,
		"d1/values/timeseries/history?keys=a&startTs=0&endTs=4000&interval=4000&agg=AVG&limit=&useStrictDataTypes=TRUE": `{"a":[{"ts":2000,"value":25.75}]}`,
		"d1/values/timeseries?keys=temperature&startTs=&endTs=":                                                         `{"temperature":[{"ts":1609459200000,"value":"25"}]}`,
		"d1/keys/attributes":                                   `["attribute1","attribute2","attribute3"]`,
		"d1/keys/attributes/CLIENT_SCOPE":                      `["attribute1","attribute2","attribute3"]`,
		"d1/values/attributes/CLIENT_SCOPE?keys=attribute1":    `[{"lastUpdateTs":1609459200000,"key":"attribute1","value":"value1"}]`,
		"d1/values/attributes?keys=attribute3,attribute2,nope": `[{"lastUpdateTs":1609459200000,"key":"attribute2","value":true},{"lastUpdateTs":1609459200000,"key":"attribute3","value":1.0}]`,
		"d1/values/attributes?key=attribute1&key=nope":         `[{"lastUpdateTs":1609459200000,"key":"attribute1","value":"value1"}]`,
		// The list of keys cannot hold a key with a comma, the repeated parameter can.
		"comma/values/timeseries?key=a,b":                          `{"a,b":[{"ts":1,"value":"1"}]}`,
		"comma/values/timeseries?keys=a%2Cb":                       `{"a":[{"ts":1,"value":"2"}],"b":[{"ts":1,"value":"3"}]}`,
		"comma/values/timeseries?key=a%2Cb&startTs=0&endTs=9":      `{"a,b":[{"ts":1,"value":"1"}]}`,
		"comma/values/timeseries?key=a,b&keys=a&startTs=0&endTs=9": `{"a":[{"ts":1,"value":"2"}],"a,b":[{"ts":1,"value":"1"}]}`,
		"comma/values/attributes?key=a,b":                          `[{"lastUpdateTs":1,"key":"a,b","value":1}]`,
		"unknown/keys/timeseries":                                  `[]`,
		"unknown/values/timeseries":                                `{}`,
		"unknown/keys/attributes":                                  `[]`,
		"unknown/values/attributes":                                `[]`,
	} {
		if status, got := f.get(path); status != http.StatusOK || got != want {
			t.Errorf("%s:\n got %d %s\nwant %s", path, status, got, want)
		}
	}
}

// checkHTTPSubjects: a device may have any name, which is percent-encoded in the path.
func checkHTTPSubjects(t *testing.T, s Suite) {
	f := s.open(t, 0)
	for i, subject := range []string{"plain", "with space", "a/b", "a%2Fb", "..", ".", "日本", "a?b#c", "CN=dev,O=x", "a+b", `q"q`, "100%"} {
		f.publish(subject, fmt.Sprintf(`{"ts":%d,"values":{"n":%d}}`, i, i))
		want := fmt.Sprintf(`{"n":[{"ts":%d,"value":"%d"}]}`, i, i)
		if status, got := f.get(percentEncode(subject) + "/values/timeseries"); status != http.StatusOK || got != want {
			t.Errorf("%q: got %d %s, want %s", subject, status, got, want)
		}
	}
}

// percentEncode encodes every byte, dots included.
func percentEncode(s string) string {
	var b strings.Builder
	for i := range len(s) {
		fmt.Fprintf(&b, "%%%02X", s[i])
	}
	return b.String()
}
