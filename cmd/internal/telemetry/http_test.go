package telemetry

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"path/filepath"
	"strings"
	"testing"
)

// get asks the handler and returns status and body.
func get(t testing.TB, h http.Handler, path string) (int, string) {
	t.Helper()
	w := httptest.NewRecorder()
	h.ServeHTTP(w, httptest.NewRequestWithContext(t.Context(), http.MethodGet, path, nil))
	want := "application/json"
	if w.Code != http.StatusOK {
		want = "application/problem+json"
	}
	if got := w.Header().Get("Content-Type"); got != want {
		t.Errorf("%s: content type %q, want %q", path, got, want)
	}
	if !json.Valid(w.Body.Bytes()) {
		t.Errorf("%s: answer is not JSON: %s", path, w.Body)
	}
	return w.Code, strings.TrimSuffix(w.Body.String(), "\n")
}

func devicePath(subject, rest string) string {
	return "/api/plugins/telemetry/DEVICE/" + url.PathEscape(subject) + "/" + rest
}

func TestHandler(t *testing.T) {
	now := int64(1609459200000)
	s := open(t, Options{Now: clock(&now)})
	publish(t, s, "d1", `{temperature:25}`)
	publish(t, s, "d1", `{"ts":1000,"values":{"a":25.0,"b":"<x>","c":true,"d":{"n":[1.50,null]}}}`)
	publish(t, s, "d1", `{"ts":2000,"values":{"a":26.5,"b":"1e3"}}`)
	if err := s.Attributes(t.Context(), "d1", []byte(`{attribute1: value1, attribute2: true, "attribute3":1.0}`)); err != nil {
		t.Fatal(err)
	}
	h := Handler(s)
	for path, want := range map[string]string{
		"keys/timeseries":                                                       `["a","b","c","d","temperature"]`,
		"values/timeseries?keys=temperature":                                    `{"temperature":[{"ts":1609459200000,"value":"25"}]}`,
		"values/timeseries?keys=temperature&useStrictDataTypes=true":            `{"temperature":[{"ts":1609459200000,"value":25}]}`,
		"values/timeseries?keys=a,nope":                                         `{"a":[{"ts":2000,"value":"26.5"}],"nope":[{"ts":1609459200000,"value":null}]}`,
		"values/timeseries?keys=nope&useStrictDataTypes=true":                   `{"nope":[{"ts":1609459200000,"value":null}]}`,
		"values/timeseries?useStrictDataTypes=false":                            `{"a":[{"ts":2000,"value":"26.5"}],"b":[{"ts":2000,"value":"1e3"}],"c":[{"ts":1000,"value":"true"}],"d":[{"ts":1000,"value":"{\"n\":[1.50,null]}"}],"temperature":[{"ts":1609459200000,"value":"25"}]}`,
		"values/timeseries?keys=c,d&useStrictDataTypes=true":                    `{"c":[{"ts":1000,"value":true}],"d":[{"ts":1000,"value":{"n":[1.50,null]}}]}`,
		"values/timeseries?keys=a,b&startTs=1000&endTs=2001":                    `{"a":[{"ts":2000,"value":"26.5"},{"ts":1000,"value":"25.0"}],"b":[{"ts":2000,"value":"1e3"},{"ts":1000,"value":"<x>"}]}`,
		"values/timeseries?keys=a&startTs=1000&endTs=2000":                      `{"a":[{"ts":1000,"value":"25.0"}]}`,
		"values/timeseries?keys=a&startTs=0&endTs=9999&orderBy=ASC&limit=1":     `{"a":[{"ts":1000,"value":"25.0"}]}`,
		"values/timeseries?keys=a&startTs=0&endTs=9999&useStrictDataTypes=true": `{"a":[{"ts":2000,"value":26.5},{"ts":1000,"value":25.0}]}`,
		"values/timeseries?keys=nope&startTs=0&endTs=9999":                      `{}`,
		"values/timeseries?keys=a&startTs=0&endTs=4000&interval=4000&agg=AVG":   `{"a":[{"ts":2000,"value":"25.75"}]}`,
		"values/timeseries?keys=a&startTs=0&endTs=4000&interval=4000&agg=count": `{"a":[{"ts":2000,"value":"2"}]}`,
		"values/timeseries?keys=a&startTs=0&endTs=4000&interval=0&agg=MAX":      `{"a":[{"ts":2000,"value":"26.5"},{"ts":1000,"value":"25.0"}]}`,
		"values/timeseries?keys=a&startTs=0&endTs=9&intervalType=MILLISECONDS":  `{}`,
		"keys/attributes":                                       `["attribute1","attribute2","attribute3"]`,
		"keys/attributes/CLIENT_SCOPE":                          `["attribute1","attribute2","attribute3"]`,
		"values/attributes/CLIENT_SCOPE?keys=attribute1":        `[{"lastUpdateTs":1609459200000,"key":"attribute1","value":"value1"}]`,
		"values/attributes?keys=attribute3,attribute2,nope":     `[{"lastUpdateTs":1609459200000,"key":"attribute2","value":true},{"lastUpdateTs":1609459200000,"key":"attribute3","value":1.0}]`,
		"values/timeseries?key=a&key=b":                         `{"a":[{"ts":2000,"value":"26.5"}],"b":[{"ts":2000,"value":"1e3"}]}`,
		"values/timeseries?keys=a&key=a&keys=,a,":               `{"a":[{"ts":2000,"value":"26.5"}]}`,
		"values/timeseries?key=a,b":                             `{"a,b":[{"ts":1609459200000,"value":null}]}`,
		"values/timeseries?keys=":                               `{"a":[{"ts":2000,"value":"26.5"}],"b":[{"ts":2000,"value":"1e3"}],"c":[{"ts":1000,"value":"true"}],"d":[{"ts":1000,"value":"{\"n\":[1.50,null]}"}],"temperature":[{"ts":1609459200000,"value":"25"}]}`,
		"values/timeseries?key=a&key=b&startTs=1000&endTs=2000": `{"a":[{"ts":1000,"value":"25.0"}],"b":[{"ts":1000,"value":"<x>"}]}`,
		"values/attributes?key=attribute1&key=nope":             `[{"lastUpdateTs":1609459200000,"key":"attribute1","value":"value1"}]`,
	} {
		if status, got := get(t, h, devicePath("d1", path)); status != http.StatusOK || got != want {
			t.Errorf("%s:\n got %d %s\nwant %s", path, status, got, want)
		}
	}
	for path, want := range map[string]string{
		"keys/timeseries":   `[]`,
		"values/timeseries": `{}`,
		"keys/attributes":   `[]`,
		"values/attributes": `[]`,
	} {
		if status, got := get(t, h, devicePath("unknown", path)); status != http.StatusOK || got != want {
			t.Errorf("unknown device, %s: got %d %s, want %s", path, status, got, want)
		}
	}
}

// TestKeyWithAComma: the list of keys cannot hold it, the repeated parameter can.
func TestKeyWithAComma(t *testing.T) {
	s := open(t, Options{})
	publish(t, s, "d", `{"ts":1,"values":{"a,b":1,"a":2,"b":3}}`)
	if err := s.Attributes(t.Context(), "d", []byte(`{"a,b":1,"a":2}`)); err != nil {
		t.Fatal(err)
	}
	h := Handler(s)
	for path, want := range map[string]string{
		"values/timeseries?key=a,b":                          `{"a,b":[{"ts":1,"value":"1"}]}`,
		"values/timeseries?keys=a%2Cb":                       `{"a":[{"ts":1,"value":"2"}],"b":[{"ts":1,"value":"3"}]}`,
		"values/timeseries?key=a%2Cb&startTs=0&endTs=9":      `{"a,b":[{"ts":1,"value":"1"}]}`,
		"values/timeseries?key=a,b&keys=a&startTs=0&endTs=9": `{"a":[{"ts":1,"value":"2"}],"a,b":[{"ts":1,"value":"1"}]}`,
	} {
		if status, got := get(t, h, devicePath("d", path)); status != http.StatusOK || got != want {
			t.Errorf("%s:\n got %d %s\nwant %s", path, status, got, want)
		}
	}
	if status, got := get(t, h, devicePath("d", "values/attributes?key=a,b")); status != http.StatusOK || !strings.Contains(got, `"key":"a,b","value":1}]`) {
		t.Errorf("attributes: got %d %s", status, got)
	}
}

func TestHandlerSubjects(t *testing.T) {
	s := open(t, Options{})
	h := Handler(s)
	for i, subject := range []string{"plain", "with space", "a/b", "a%2Fb", "..", ".", "日本", "a?b#c", "CN=dev,O=x", "a+b", `q"q`, "100%"} {
		publish(t, s, subject, fmt.Sprintf(`{"ts":%d,"values":{"n":%d}}`, i, i))
		path := "/api/plugins/telemetry/DEVICE/" + percentEncode(subject) + "/values/timeseries"
		want := fmt.Sprintf(`{"n":[{"ts":%d,"value":"%d"}]}`, i, i)
		if status, got := get(t, h, path); status != http.StatusOK || got != want {
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

func TestHandlerProblems(t *testing.T) {
	s := open(t, Options{})
	h := Handler(s)
	for path, want := range map[string]string{
		"values/timeseries?keys=a&startTs=1":                              `{"title":"Bad Request","status":400,"detail":"startTs and endTs belong together: one of them is missing"}`,
		"values/timeseries?keys=a&endTs=1":                                `{"title":"Bad Request","status":400,"detail":"startTs and endTs belong together: one of them is missing"}`,
		"values/timeseries?keys=a&startTs=x&endTs=1":                      `{"title":"Bad Request","status":400,"detail":"startTs: not a whole number of 64 bits"}`,
		"values/timeseries?keys=a&startTs=0&endTs=":                       `{"title":"Bad Request","status":400,"detail":"endTs: not a whole number of 64 bits"}`,
		"values/timeseries?keys=a&startTs=0&endTs=9223372036854775808":    `{"title":"Bad Request","status":400,"detail":"endTs: not a whole number of 64 bits"}`,
		"values/timeseries?keys=a&startTs=0&endTs=1&limit=0":              `{"title":"Bad Request","status":400,"detail":"limit: not in 1 to 200000"}`,
		"values/timeseries?keys=a&startTs=0&endTs=1&interval=1.5":         `{"title":"Bad Request","status":400,"detail":"interval: not a whole number of 64 bits"}`,
		"values/timeseries?keys=a&startTs=0&endTs=701&interval=1&agg=SUM": `{"title":"Bad Request","status":400,"detail":"telemetry query: more than 700 intervals or 285 keys"}`,
		"values/timeseries?keys=a&startTs=0&endTs=1&agg=MEDIAN":           `{"title":"Bad Request","status":400,"detail":"telemetry query: aggregation is not NONE, MIN, MAX, AVG, SUM or COUNT"}`,
		"values/timeseries?keys=a&startTs=0&endTs=1&orderBy=up":           `{"title":"Bad Request","status":400,"detail":"telemetry query: order is neither ASC nor DESC"}`,
		"values/timeseries?keys=a&startTs=0&endTs=1&intervalType=WEEK":    `{"title":"Bad Request","status":400,"detail":"intervalType: only MILLISECONDS is served"}`,
		"values/timeseries?startTs=0&endTs=1":                             `{"title":"Bad Request","status":400,"detail":"telemetry query: no keys"}`,
		"values/timeseries?keys=a&startTs=1&endTs=0":                      `{"title":"Bad Request","status":400,"detail":"telemetry query: the end lies before the start"}`,
		"values/timeseries?keys=a&useStrictDataTypes=yes":                 `{"title":"Bad Request","status":400,"detail":"useStrictDataTypes: neither true nor false"}`,
		"values/timeseries?keys=%zz":                                      `{"title":"Bad Request","status":400,"detail":"query string: invalid URL escape \"%zz\""}`,
		"values/timeseries?keys=a;b":                                      `{"title":"Bad Request","status":400,"detail":"query string: invalid semicolon separator in query"}`,
		"values/timeseries?keys=%ff":                                      `{"title":"Bad Request","status":400,"detail":"query string: not UTF-8"}`,
		"values/timeseries?keys=,":                                        `{"title":"Bad Request","status":400,"detail":"keys: names no key"}`,
		"values/timeseries?keys=a&key=":                                   `{"title":"Bad Request","status":400,"detail":"key: is empty"}`,
		"values/timeseries?keys=a&startTs=0&endTs=1&endTs=2":              `{"title":"Bad Request","status":400,"detail":"endTs: given more than once"}`,
		"values/timeseries?keys=a&startTs=0&endTs=1&agg=MIN&agg=MAX":      `{"title":"Bad Request","status":400,"detail":"agg: given more than once"}`,
		"values/timeseries?useStrictDataTypes=true&useStrictDataTypes=":   `{"title":"Bad Request","status":400,"detail":"useStrictDataTypes: given more than once"}`,
		"values/attributes?keys=%zz":                                      `{"title":"Bad Request","status":400,"detail":"query string: invalid URL escape \"%zz\""}`,
		"keys/timeseries?a;b":                                             `{"title":"Bad Request","status":400,"detail":"query string: invalid semicolon separator in query"}`,
		"keys/attributes?%zz":                                             `{"title":"Bad Request","status":400,"detail":"query string: invalid URL escape \"%zz\""}`,
		"values/attributes/SERVER_SCOPE":                                  `{"title":"Not Found","status":404,"detail":"only CLIENT_SCOPE attributes are stored"}`,
		"keys/attributes/SHARED_SCOPE":                                    `{"title":"Not Found","status":404,"detail":"only CLIENT_SCOPE attributes are stored"}`,
		"values":                                                          `{"title":"Not Found","status":404,"detail":"there is nothing at this path"}`,
	} {
		status, got := get(t, h, devicePath("d1", path))
		if got != want || !strings.Contains(want, fmt.Sprintf(`"status":%d`, status)) {
			t.Errorf("%s:\n got %d %s\nwant %s", path, status, got, want)
		}
	}
}

func TestHandlerMethods(t *testing.T) {
	s := open(t, Options{})
	for method, want := range map[string]int{
		http.MethodGet: 200, http.MethodHead: 200, http.MethodPost: 405, http.MethodDelete: 405,
	} {
		w := httptest.NewRecorder()
		Handler(s).ServeHTTP(w, httptest.NewRequestWithContext(t.Context(), method, devicePath("d", "keys/timeseries"), nil))
		if w.Code != want {
			t.Errorf("%s: status %d, want %d", method, w.Code, want)
		}
		if allow := w.Header().Get("Allow"); (want == 405) != (allow == "GET, HEAD") {
			t.Errorf("%s: Allow is %q", method, allow)
		}
	}
}

func TestHandlerStoreFailure(t *testing.T) {
	s := open(t, Options{Path: filepath.Join(t.TempDir(), "t.db")})
	h := Handler(s)
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{"keys/timeseries", "values/timeseries", "values/timeseries?keys=a&startTs=0&endTs=1", "keys/attributes", "values/attributes"} {
		status, got := get(t, h, devicePath("d", path))
		if status != http.StatusServiceUnavailable || !strings.HasPrefix(got, `{"title":"Service Unavailable","status":503,`) {
			t.Errorf("%s: got %d %s", path, status, got)
		}
	}
}

func FuzzHandler(f *testing.F) {
	for _, seed := range []string{
		"keys=a", "keys=a,b&startTs=0&endTs=100&agg=AVG&interval=10", "startTs=-9223372036854775808&endTs=9223372036854775807&keys=a&agg=MIN&interval=9223372036854775807",
		"keys=%zz&limit=0", "key=a,b&key=c&keys=a,,b&keys=", "keys=a;b", "keys=a&startTs=5&endTs=5&orderBy=asc&useStrictDataTypes=true",
	} {
		f.Add("d", seed)
	}
	s := open(f, Options{})
	publish(f, s, "d", `[{"ts":1,"values":{"a":1,"b":"x"}},{"ts":50,"values":{"a":2.5}},{"ts":-9223372036854775808,"values":{"a":1}}]`)
	h := Handler(s)
	f.Fuzz(func(t *testing.T, subject, query string) {
		w := httptest.NewRecorder()
		r := httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/", nil)
		r.URL = &url.URL{
			Path:     "/api/plugins/telemetry/DEVICE/" + subject + "/values/timeseries",
			RawPath:  "/api/plugins/telemetry/DEVICE/" + percentEncode(subject) + "/values/timeseries",
			RawQuery: query,
		}
		h.ServeHTTP(w, r)
		switch w.Code {
		case http.StatusOK, http.StatusBadRequest, http.StatusNotFound:
			if !json.Valid(w.Body.Bytes()) {
				t.Fatalf("answer is not JSON: %s", w.Body)
			}
		case http.StatusMovedPermanently, http.StatusTemporaryRedirect: // an empty subject
		default:
			t.Fatalf("status %d: %s", w.Code, w.Body)
		}
	})
}
