package rpc

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/cmd/internal/broker"
)

// fake has what was called, and what to return.
type fake struct {
	answer string
	err    error
	wait   bool // until the context ends

	device, request string
	oneWay          bool
	timeout         time.Duration
	records         []string
}

func (f *fake) handler() http.Handler {
	return Devices{
		Call: func(ctx context.Context, device string, request []byte, oneWay bool) ([]byte, error) {
			deadline, _ := ctx.Deadline()
			f.device, f.request, f.oneWay, f.timeout = device, string(request), oneWay, time.Until(deadline)
			if f.wait {
				<-ctx.Done()
				return nil, context.Cause(ctx)
			}
			return []byte(f.answer), f.err
		},
		Known: func(_ context.Context, device string) bool { return device != "unknown" },
		Record: func(_ context.Context, device, outcome string) {
			f.records = append(f.records, device+": "+outcome)
		},
	}.Handler()
}

func post(h http.Handler, path, body string) *httptest.ResponseRecorder {
	w := httptest.NewRecorder()
	h.ServeHTTP(w, httptest.NewRequest(http.MethodPost, path, strings.NewReader(body)))
	return w
}

// TestCallsReachTheDevice: on all paths of ThingsBoard the device gets the method and the
// parameters as they were written, and the caller gets the answer as it was sent.
func TestCallsReachTheDevice(t *testing.T) {
	f := &fake{answer: `{"value": 1.50}`}
	for _, tt := range []struct {
		path   string
		device string
		oneWay bool
	}{
		{"/api/rpc/oneway/demo", "demo", true}, {"/api/rpc/twoway/demo", "demo", false},
		{"/api/plugins/rpc/oneway/demo", "demo", true}, {"/api/plugins/rpc/twoway/demo", "demo", false},
		{"/api/rpc/twoway/gateway%2Fchild%201", "gateway/child 1", false}, {"/api/rpc/twoway/caf%C3%A9", "café", false},
	} {
		w := post(f.handler(), tt.path, "{\"persistent\": false, \"retries\": 3, \"method\": \"set\\u0047pio\",\n \"params\" : {\"pin\": 07e0, \"x\": 1.0}}")
		if w.Code != 400 {
			t.Errorf("%s: status %d of a body that is not JSON", tt.path, w.Code)
		}
		w = post(f.handler(), tt.path, "{\"persistent\": false, \"retries\": 3, \"method\": \"set\\u0047pio\",\n \"params\" : {\"pin\": 7e0, \"x\": 1.0, \"x\": \" <&\"}}")
		if w.Code != 200 || w.Body.String() != f.answer || w.Header().Get("Content-Type") != "application/json" {
			t.Errorf("%s: status %d: %s", tt.path, w.Code, w.Body)
		}
		if f.device != tt.device || f.oneWay != tt.oneWay || f.request != `{"method":"set\u0047pio","params":{"pin":7e0,"x":1.0,"x":" <&"}}` {
			t.Errorf("%s: called %+v", tt.path, f)
		}
	}
	for _, answer := range []string{"", "5", "null", `"ok"`, "[1, 2]"} {
		f.answer = answer
		if w := post(f.handler(), "/api/rpc/twoway/demo", `{"method":"m","params":{}}`); w.Code != 200 || w.Body.String() != answer {
			t.Errorf("answer %s: status %d: %s", answer, w.Code, w.Body)
		}
	}
}

// TestTimesToWait are ThingsBoard's.
func TestTimesToWait(t *testing.T) {
	now := time.UnixMilli(1_800_000_000_000)
	for _, tt := range []struct {
		fields string
		want   time.Duration
	}{
		{``, 10 * time.Second}, {`,"timeout":null`, 10 * time.Second},
		{`,"timeout":7000`, 7 * time.Second}, {`,"timeout":"7000"`, 7 * time.Second}, {`,"timeout":7.0009e3`, 7 * time.Second},
		{`,"timeout":500`, 5 * time.Second}, {`,"timeout":0`, 5 * time.Second}, {`,"timeout":300000`, 5 * time.Minute},
		{`,"timeout":7000,"expirationTime":1800000001500`, 1500 * time.Millisecond},
	} {
		c, err := parse([]byte(`{"method":"m","params":null`+tt.fields+`}`), now)
		if err != nil || c.timeout != tt.want || string(c.request) != `{"method":"m","params":null}` {
			t.Errorf("%s: %+v, error %v, want %v", tt.fields, c, err, tt.want)
		}
	}
}

// TestBadBodiesAreRefused: the error names the field and repeats nothing of the body.
func TestBadBodiesAreRefused(t *testing.T) {
	for _, tt := range []struct{ body, want string }{
		{``, "not a JSON object"}, {`null`, "not a JSON object"}, {`[]`, "not a JSON object"}, {`{method:secret}`, "not a JSON object"},
		{`{"method":"secret","params":{}} {}`, "not a JSON object"}, {"{\"method\":\"secret\xff\",\"params\":{}}", "not a JSON object"},
		{`{"params":{}}`, "method:"}, {`{"method":"","params":{}}`, "method:"}, {`{"method":5,"params":{}}`, "method:"}, {`{"Method":"secret","params":{}}`, "method:"},
		{`{"method":"secret"}`, "params:"},
		{`{"method":"secret","params":{},"persistent":true}`, "persistent:"}, {`{"method":"secret","params":{},"persistent":"true"}`, "persistent:"},
		{`{"method":"secret","params":{},"timeout":"soon"}`, "timeout:"}, {`{"method":"secret","params":{},"timeout":-1}`, "timeout:"},
		{`{"method":"secret","params":{},"timeout":300001}`, "timeout:"}, {`{"method":"secret","params":{},"timeout":1e99}`, "timeout:"},
		{`{"method":"secret","params":{},"expirationTime":1}`, "expirationTime:"}, {`{"method":"secret","params":{},"expirationTime":[]}`, "expirationTime:"},
		{`{"method":"secret","params":{},"expirationTime":8000000000000}`, "timeout:"},
	} {
		f := &fake{}
		w := post(f.handler(), "/api/rpc/twoway/demo", tt.body)
		if w.Code != 400 || !strings.Contains(w.Body.String(), tt.want) || strings.Contains(w.Body.String(), "secret") || f.request != "" || f.records != nil {
			t.Errorf("%s: status %d: %s", tt.body, w.Code, w.Body)
		}
	}
	f := &fake{}
	if w := post(f.handler(), "/api/rpc/twoway/demo", `{"method":"m","params":"`+strings.Repeat("x", maxBody)+`"}`); w.Code != 413 {
		t.Errorf("a body over 64 KiB: status %d", w.Code)
	}
}

// TestFailedCalls: each kind has its status, says what is wrong, and is recorded without parameters
// and answers.
func TestFailedCalls(t *testing.T) {
	for _, tt := range []struct {
		device string
		answer string
		err    error
		status int
		detail string
	}{
		{"demo", "", broker.ErrNotListening, 504, "offline for calls"},
		{"unknown", "", broker.ErrNotListening, 404, "no device with this name"},
		{"demo", "", context.DeadlineExceeded, 504, "not answered within 10000 ms"},
		{"demo", "", broker.ErrTooManyCalls, 429, "try again later"},
		{"demo", "", broker.ErrNotReading, 429, "try again later"},
		{"demo", "", broker.ErrLongAnswer, 502, "more than 64 KiB"},
		{"demo", "", broker.ErrClosed, 503, "closed"},
		{"demo", "{secret", nil, 406, "not JSON"},
		{"demo", "\"\xff\"", nil, 406, "not JSON"}, // not UTF-8
	} {
		f := &fake{answer: tt.answer, err: tt.err}
		w := post(f.handler(), "/api/rpc/twoway/"+tt.device, `{"method":"reboot","params":{"pin":"secret"}}`)
		if w.Code != tt.status || !strings.Contains(w.Body.String(), tt.detail) || w.Header().Get("Content-Type") != "application/problem+json" {
			t.Errorf("%v: status %d: %s", tt.err, w.Code, w.Body)
		}
		if len(f.records) != 1 || !strings.HasPrefix(f.records[0], tt.device+": two-way reboot: ") || !strings.Contains(f.records[0], tt.detail) || strings.Contains(f.records[0], "secret") {
			t.Errorf("%v: records %q", tt.err, f.records)
		}
		if retry := w.Header().Get("Retry-After"); (retry != "") != (tt.status == 429) {
			t.Errorf("%v: Retry-After %q", tt.err, retry)
		}
	}
}

// TestOtherRequestsAreRefused: only POST calls a device.
func TestOtherRequestsAreRefused(t *testing.T) {
	f := &fake{}
	for _, tt := range []struct {
		method, path string
		status       int
	}{
		{"GET", "/api/rpc/twoway/demo", 405}, {"PUT", "/api/rpc/oneway/demo", 405}, {"POST", "/api/rpc/demo", 404}, {"POST", "/api/rpc/twoway/", 404},
		{"POST", "/api/rpc/twoway/a/b", 404}, {"GET", "/api/rpc/persistent/1", 404},
	} {
		w := httptest.NewRecorder()
		f.handler().ServeHTTP(w, httptest.NewRequest(tt.method, tt.path, strings.NewReader(`{"method":"m","params":{}}`)))
		if w.Code != tt.status || f.request != "" {
			t.Errorf("%s %s: status %d", tt.method, tt.path, w.Code)
		}
	}
}

// TestCallersThatLeaveEndTheirCall.
func TestCallersThatLeaveEndTheirCall(t *testing.T) {
	f := &fake{wait: true}
	ctx, leave := context.WithCancelCause(t.Context())
	leave(errors.New("gone"))
	r := httptest.NewRequestWithContext(ctx, http.MethodPost, "/api/rpc/twoway/demo", strings.NewReader(`{"method":"m","params":{}}`))
	f.handler().ServeHTTP(httptest.NewRecorder(), r)
	if len(f.records) != 1 {
		t.Errorf("records %q", f.records)
	}
}

// FuzzParse: every body gives an error, or a request that is JSON and a time within the limits.
func FuzzParse(f *testing.F) {
	for _, body := range []string{
		`{"method":"getGpio","params":{"pin":7},"timeout":10000}`, `{"method":"m","params":null,"expirationTime":1800000001500,"persistent":false}`,
		`{"method":"\ud800","params":"\u0000","timeout":"7e3"}`, "{\"method\":\"\xff\",\"params\":1}", `[]`, `null`,
	} {
		f.Add([]byte(body))
	}
	now := time.UnixMilli(1_800_000_000_000)
	f.Fuzz(func(t *testing.T, body []byte) {
		c, err := parse(body, now)
		if err != nil {
			return
		}
		var request map[string]json.RawMessage
		if json.Unmarshal(c.request, &request) != nil || len(request) != 2 || len(c.request) > len(body)+len(`{"method":,"params":}`) {
			t.Errorf("%q becomes %q", body, c.request)
		}
		if c.method == "" || c.timeout <= 0 || c.timeout > maxTimeout {
			t.Errorf("%q: %+v", body, c)
		}
	})
}
