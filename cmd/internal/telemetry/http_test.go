package telemetry_test

import (
	"context"
	"encoding/json"
	"fmt"
	"iter"
	"net/http"
	"net/http/httptest"
	"net/url"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"

	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/cmd/internal/telemetry"
	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/cmd/internal/telemetry/sqlite"
)

// open opens a store and closes it with the test.
func open(t testing.TB) *sqlite.Store {
	t.Helper()
	s, err := sqlite.Open(context.Background(), sqlite.Options{Path: filepath.Join(t.TempDir(), "t.db"), Durability: "none"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Errorf("close: %v", err)
		}
	})
	return s
}

func publish(t testing.TB, s telemetry.Writer, device, data string) {
	t.Helper()
	if err := (&telemetry.Intake{Store: s}).Telemetry(t.Context(), device, []byte(data)); err != nil {
		t.Fatal(err)
	}
}

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

// percentEncode encodes every byte, dots included.
func percentEncode(s string) string {
	var b strings.Builder
	for i := range len(s) {
		fmt.Fprintf(&b, "%%%02X", s[i])
	}
	return b.String()
}

func TestHandlerProblems(t *testing.T) {
	s := open(t)
	h := telemetry.Handler(s, nil)
	for path, want := range map[string]string{
		"values/timeseries?keys=a&startTs=1":                              `{"title":"Bad Request","status":400,"detail":"startTs and endTs belong together: one of them is missing"}`,
		"values/timeseries?keys=a&endTs=1":                                `{"title":"Bad Request","status":400,"detail":"startTs and endTs belong together: one of them is missing"}`,
		"values/timeseries?keys=a&startTs=x&endTs=1":                      `{"title":"Bad Request","status":400,"detail":"startTs: not a whole number of 64 bits"}`,
		"values/timeseries?keys=a&startTs=0&endTs=":                       `{"title":"Bad Request","status":400,"detail":"startTs and endTs belong together: one of them is missing"}`,
		"values/timeseries/history?keys=a":                                `{"title":"Bad Request","status":400,"detail":"startTs and endTs belong together: one of them is missing"}`,
		"values/timeseries?keys=a&startTs=0&endTs=9223372036854775808":    `{"title":"Bad Request","status":400,"detail":"endTs: not a whole number of 64 bits"}`,
		"values/timeseries?keys=a&startTs=0&endTs=1&limit=0":              `{"title":"Bad Request","status":400,"detail":"limit: not in 1 to 200000"}`,
		"values/timeseries?keys=a&startTs=0&endTs=1&interval=1.5":         `{"title":"Bad Request","status":400,"detail":"interval: not a whole number of 64 bits"}`,
		"values/timeseries?keys=a&startTs=0&endTs=701&interval=1&agg=SUM": `{"title":"Bad Request","status":400,"detail":"telemetry query: more than 700 intervals or 285 keys"}`,
		"values/timeseries?keys=a&startTs=0&endTs=1&agg=MEDIAN":           `{"title":"Bad Request","status":400,"detail":"telemetry query: aggregation is not NONE, MIN, MAX, AVG, SUM or COUNT"}`,
		"values/timeseries?keys=a&startTs=0&endTs=1&orderBy=up":           `{"title":"Bad Request","status":400,"detail":"telemetry query: order is neither ASC nor DESC"}`,
		"values/timeseries?keys=a&startTs=0&endTs=1&intervalType=WEEK":    `{"title":"Bad Request","status":400,"detail":"intervalType: only MILLISECONDS is served"}`,
		"values/timeseries?startTs=0&endTs=1":                             `{"title":"Bad Request","status":400,"detail":"telemetry query: no keys"}`,
		"values/timeseries?keys=a&startTs=1&endTs=0":                      `{"title":"Bad Request","status":400,"detail":"telemetry query: the end is before the start"}`,
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
		"values/attributes/SERVER_SCOPE":                                  `{"title":"Not Found","status":404,"detail":"only CLIENT_SCOPE and SHARED_SCOPE attributes are stored"}`,
		"keys/attributes/shared":                                          `{"title":"Not Found","status":404,"detail":"only CLIENT_SCOPE and SHARED_SCOPE attributes are stored"}`,
		"values":                                                          `{"title":"Not Found","status":404,"detail":"there is nothing at this path"}`,
	} {
		status, got := get(t, h, devicePath("d1", path))
		if got != want || !strings.Contains(want, fmt.Sprintf(`"status":%d`, status)) {
			t.Errorf("%s:\n got %d %s\nwant %s", path, status, got, want)
		}
	}
}

// TestUnknownKeysAreNull: the answer has null at the present time, as with ThingsBoard.
func TestUnknownKeysAreNull(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := open(t)
		publish(t, s, "d", `{"ts":2000,"values":{"a":26.5}}`)
		for query, want := range map[string]string{
			"keys=a,nope":                       `{"a":[{"ts":2000,"value":"26.5"}],"nope":[{"ts":946684800000,"value":null}]}`,
			"keys=nope&useStrictDataTypes=true": `{"nope":[{"ts":946684800000,"value":null}]}`,
			"key=a,b":                           `{"a,b":[{"ts":946684800000,"value":null}]}`,
		} {
			if status, got := get(t, telemetry.Handler(s, nil), devicePath("d", "values/timeseries?"+query)); status != http.StatusOK || got != want {
				t.Errorf("%s: got %d %s, want %s", query, status, got, want)
			}
		}
	})
}

func TestHandlerMethods(t *testing.T) {
	s := open(t)
	for method, want := range map[string]int{
		http.MethodGet: 200, http.MethodHead: 200, http.MethodPost: 405, http.MethodDelete: 405,
	} {
		w := httptest.NewRecorder()
		telemetry.Handler(s, nil).ServeHTTP(w, httptest.NewRequestWithContext(t.Context(), method, devicePath("d", "keys/timeseries"), nil))
		if w.Code != want {
			t.Errorf("%s: status %d, want %d", method, w.Code, want)
		}
		if allow := w.Header().Get("Allow"); (want == 405) != (allow == "GET, HEAD") {
			t.Errorf("%s: Allow is %q", method, allow)
		}
	}
}

func TestHandlerStoreFailure(t *testing.T) {
	s := open(t)
	h := telemetry.Handler(s, nil)
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

// slowStore answers when the test lets it.
type slowStore struct {
	telemetry.Reader
	asked atomic.Int32
	gate  chan struct{}
}

func (s *slowStore) Keys(context.Context, string) iter.Seq2[string, error] {
	return func(func(string, error) bool) {
		s.asked.Add(1)
		<-s.gate
	}
}

// TestQueriesWaitTheirTurn: each may take memory, so that only a few are answered at once.
func TestQueriesWaitTheirTurn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const atOnce = 4
		s := &slowStore{gate: make(chan struct{})}
		h := telemetry.Handler(s, nil)
		answers := make(chan *httptest.ResponseRecorder, 20)
		ask := func(ctx context.Context) {
			go func() {
				w := httptest.NewRecorder()
				h.ServeHTTP(w, httptest.NewRequestWithContext(ctx, http.MethodGet, devicePath("d", "keys/timeseries"), nil))
				answers <- w
			}()
			synctest.Wait()
		}
		for range 6 {
			ask(t.Context())
		}
		if n := s.asked.Load(); n != atOnce {
			t.Errorf("%d questions are answered at once, want %d", n, atOnce)
		}
		ctx, cancel := context.WithCancel(t.Context())
		ask(ctx)
		cancel()
		<-answers // it does not wait for those before it
		for range 2 {
			w := <-answers // after ten seconds
			if w.Code != http.StatusServiceUnavailable || w.Header().Get("Retry-After") == "" {
				t.Errorf("status %d, header %v, want 503 and when to ask again", w.Code, w.Header())
			}
		}
		ask(t.Context())
		close(s.gate)
		for range atOnce + 1 {
			if w := <-answers; w.Code != http.StatusOK {
				t.Errorf("status %d, want 200", w.Code)
			}
		}
	})
}

// TestAnswersAreBounded: the memory of a request does not depend on how much devices have stored.
// If the answer would be too large, the error says how to narrow the request.
func TestAnswersAreBounded(t *testing.T) {
	const values, size = 20, 1_000_000
	s := open(t)
	text := strings.Repeat("x", size)
	for i := range values {
		publish(t, s, "d", fmt.Sprintf(`{"ts":%d,"values":{"n":%d,"text":"%s"}}`, i*10, i, text))
		publish(t, s, "wide", fmt.Sprintf(`{"ts":1,"values":{"k%d":"%s"}}`, i, text[:900_000/values]))
		publish(t, s, "many", fmt.Sprintf(`{"ts":%d,"values":{"k%d":"%s"}}`, i, i, text))
		if err := (&telemetry.Intake{Store: s}).Attributes(t.Context(), "many", fmt.Appendf(nil, `{"k%d":"%s"}`, i, text)); err != nil {
			t.Fatal(err)
		}
	}
	h := telemetry.Handler(s, nil)
	for path, want := range map[string]int{
		"d/values/timeseries?keys=text&startTs=0&endTs=999":                                        400,
		"d/values/timeseries?keys=text&startTs=0&endTs=999&limit=10":                               200,
		"d/values/timeseries?keys=text&startTs=0&endTs=100":                                        200,
		"d/values/timeseries?keys=n&startTs=0&endTs=999":                                           200,
		"d/values/timeseries?keys=text&startTs=0&endTs=200&interval=10&agg=MAX":                    400,
		"d/values/timeseries?keys=text&startTs=0&endTs=200&interval=200&agg=MAX":                   200,
		"d/values/timeseries?keys=text&startTs=0&endTs=200&interval=10&agg=COUNT":                  200,
		"wide/values/timeseries":                                                                   200,
		"many/values/timeseries":                                                                   400,
		"many/values/timeseries?keys=k1,k2,k3":                                                     200,
		"many/keys/timeseries":                                                                     200,
		"many/values/attributes":                                                                   400,
		"many/values/attributes?keys=k1,k2":                                                        200,
		"d/values/timeseries?keys=" + strings.Repeat("k,", 3):                                      200,
		"d/values/timeseries?keys=" + numbered(telemetry.MaxKeys+1):                                400,
		"d/values/timeseries?startTs=0&endTs=999&limit=1&keys=" + numbered(telemetry.MaxKeys):      200,
		"d/values/timeseries?startTs=0&endTs=999&limit=200000&keys=" + numbered(telemetry.MaxKeys): 400,
	} {
		status, body := get(t, h, "/api/plugins/telemetry/DEVICE/"+path)
		if status != want {
			t.Errorf("%.80s: status %d, want %d: %.200s", path, status, want, body)
		}
		if status == http.StatusBadRequest && !strings.Contains(body, "ask for fewer keys, a shorter span or a smaller limit") && !strings.Contains(path, numbered(telemetry.MaxKeys)) {
			t.Errorf("%.80s: the answer does not say what to do: %.200s", path, body)
		}
	}
}

// numbered lists n keys.
func numbered(n int) string {
	var b strings.Builder
	for i := range n {
		fmt.Fprintf(&b, "%d,", i)
	}
	return b.String()
}

func FuzzHandler(f *testing.F) {
	for _, seed := range []string{
		"keys=a", "keys=a,b&startTs=0&endTs=100&agg=AVG&interval=10", "startTs=-9223372036854775808&endTs=9223372036854775807&keys=a&agg=MIN&interval=9223372036854775807",
		"keys=%zz&limit=0", "key=a,b&key=c&keys=a,,b&keys=", "keys=a;b", "keys=a&startTs=5&endTs=5&orderBy=asc&useStrictDataTypes=true",
	} {
		f.Add("d", seed)
	}
	s := open(f)
	publish(f, s, "d", `[{"ts":1,"values":{"a":1,"b":"x"}},{"ts":50,"values":{"a":2.5}},{"ts":-9223372036854775808,"values":{"a":1}}]`)
	h := telemetry.Handler(s, nil)
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

// TestDeletionNamesUnknownParameters: an unknown parameter is most likely misspelled.
func TestDeletionNamesUnknownParameters(t *testing.T) {
	h := telemetry.Handler(open(t), &telemetry.Changes{})
	for _, c := range []struct {
		path  string
		wants []string
	}{
		{"timeseries/delete?keys=a&deleteAllDataForKeys=true&deletelatest=false&agg=", []string{`\"agg\", \"deletelatest\"`, "startTs, endTs, deleteAllDataForKeys, deleteLatest, rewriteLatestIfDeleted"}},
		{"SHARED_SCOPE?keys=a&startTs=1", []string{`\"startTs\"`, "keys, key"}},
		{"attributes/CLIENT_SCOPE?key=a&Keys=b", []string{`\"Keys\"`, "keys, key"}},
	} {
		w := httptest.NewRecorder()
		h.ServeHTTP(w, httptest.NewRequestWithContext(t.Context(), http.MethodDelete, "/api/plugins/telemetry/DEVICE/d/"+c.path, nil))
		for _, want := range c.wants {
			if w.Code != http.StatusBadRequest || !strings.Contains(w.Body.String(), want) {
				t.Errorf("%s: status %d, %s, want 400 and %s", c.path, w.Code, w.Body, want)
			}
		}
	}
}
