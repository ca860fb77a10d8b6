package telemetrytest

import (
	"context"
	"fmt"
	"math"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/cmd/internal/telemetry"
	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/cmd/internal/telemetry/payload"
)

// remove asks the HTTP API to delete telemetry of a device, and returns the status and what was
// recorded.
func (f *fixture) remove(device, query string) (int, string) {
	f.Helper()
	var log []string
	changes := &telemetry.Changes{Store: f.Store, Record: func(_ context.Context, action, device, outcome string) {
		log = append(log, fmt.Sprintf("%s of %s: %s", action, device, outcome))
	}}
	w := httptest.NewRecorder()
	r := httptest.NewRequestWithContext(f.Context(), http.MethodDelete, "/api/plugins/telemetry/DEVICE/"+device+"/timeseries/delete?"+query, nil)
	telemetry.Handler(f.Store, changes).ServeHTTP(w, r)
	if w.Code == http.StatusOK && w.Body.Len() > 0 {
		f.Errorf("%s: the answer has a body: %s", query, w.Body)
	}
	return w.Code, strings.Join(log, "; ")
}

// all shows all points of a key, the oldest first.
func (f *fixture) all(device, key string) string {
	f.Helper()
	return f.points(telemetry.Query{Device: device, Keys: []string{key}, Start: math.MinInt64, End: math.MaxInt64, Order: "ASC"})
}

// checkTelemetryDeletion: the parameters mean what they mean in ThingsBoard.
func checkTelemetryDeletion(t *testing.T, s Suite) {
	f := s.open(t, 0)
	f.publish("e", `{"ts":20,"values":{"a":9}}`)
	for i, c := range []struct {
		query              string
		status             int
		a, b, latest, keys string // afterwards
		log                string
	}{
		{"keys=a&startTs=20&endTs=30", 200, `1@10 3@30`, `1@10 2@20 4@40`, `a=3@30 b=4@40`, `["a","b"]`, "1 keys in 1 messages"},
		{"keys=a&startTs=20&endTs=20", 200, `1@10 2@20 3@30`, `1@10 2@20 4@40`, `a=3@30 b=4@40`, `["a","b"]`, "1 keys in 0 messages"},
		{"keys=a&startTs=30&endTs=31&rewriteLatestIfDeleted=true", 200, `1@10 2@20`, `1@10 2@20 4@40`, `a=2@20 b=4@40`, `["a","b"]`, "1 keys in 1 messages"},
		{"keys=a&startTs=30&endTs=31", 200, `1@10 2@20`, `1@10 2@20 4@40`, `b=4@40`, `["b"]`, "1 keys in 1 messages"},
		{"keys=a&startTs=30&endTs=31&deleteLatest=false&rewriteLatestIfDeleted=true", 200, `1@10 2@20`, `1@10 2@20 4@40`, `a=3@30 b=4@40`, `["a","b"]`, "1 keys in 1 messages"},
		{"keys=a,b&startTs=20&endTs=99&rewriteLatestIfDeleted=TRUE", 200, `1@10`, `1@10`, `a=1@10 b=1@10`, `["a","b"]`, "2 keys in 3 messages"},
		{"key=a&key=b&startTs=0&endTs=99&rewriteLatestIfDeleted=true", 200, ``, ``, ``, `[]`, "2 keys in 4 messages"},
		{"keys=a&deleteAllDataForKeys=true&startTs=&endTs=", 200, ``, `1@10 2@20 4@40`, `b=4@40`, `["b"]`, "1 keys in 3 messages"},
		{"keys=a&deleteAllDataForKeys=true&startTs=1&endTs=2&rewriteLatestIfDeleted=true", 200, ``, `1@10 2@20 4@40`, `b=4@40`, `["b"]`, "1 keys in 3 messages"},
		{"keys=nope&deleteAllDataForKeys=true", 200, `1@10 2@20 3@30`, `1@10 2@20 4@40`, `a=3@30 b=4@40`, `["a","b"]`, "1 keys in 0 messages"},
		{"keys=a", 400, `1@10 2@20 3@30`, `1@10 2@20 4@40`, `a=3@30 b=4@40`, `["a","b"]`, ""},
		{"keys=a&startTs=0&endTs=", 400, `1@10 2@20 3@30`, `1@10 2@20 4@40`, `a=3@30 b=4@40`, `["a","b"]`, ""},
		{"keys=a&startTs=9&endTs=8", 400, `1@10 2@20 3@30`, `1@10 2@20 4@40`, `a=3@30 b=4@40`, `["a","b"]`, ""},
		{"keys=a&startTs=x&endTs=8", 400, `1@10 2@20 3@30`, `1@10 2@20 4@40`, `a=3@30 b=4@40`, `["a","b"]`, ""},
		{"deleteAllDataForKeys=true", 400, `1@10 2@20 3@30`, `1@10 2@20 4@40`, `a=3@30 b=4@40`, `["a","b"]`, ""},
		{"keys=&deleteAllDataForKeys=true", 400, `1@10 2@20 3@30`, `1@10 2@20 4@40`, `a=3@30 b=4@40`, `["a","b"]`, ""},
		{"keys=a&deleteAllDataForKeys=yes", 400, `1@10 2@20 3@30`, `1@10 2@20 4@40`, `a=3@30 b=4@40`, `["a","b"]`, ""},
		{"keys=a&deleteAllDataForKeys=true&deletelatest=false", 400, `1@10 2@20 3@30`, `1@10 2@20 4@40`, `a=3@30 b=4@40`, `["a","b"]`, ""},
		{"keys=a&startTs=0&endTs=99&agg=", 400, `1@10 2@20 3@30`, `1@10 2@20 4@40`, `a=3@30 b=4@40`, `["a","b"]`, ""},
		{"keys=a&deleteAllDataForKeys=false&deleteAllDataForKeys=true", 400, `1@10 2@20 3@30`, `1@10 2@20 4@40`, `a=3@30 b=4@40`, `["a","b"]`, ""},
	} {
		d := fmt.Sprint("d", i)
		f.publish(d, `[{"ts":10,"values":{"a":1,"b":1}},{"ts":20,"values":{"a":2,"b":2}},{"ts":30,"values":{"a":3}},{"ts":40,"values":{"b":4}}]`)
		status, log := f.remove(d, c.query)
		if c.log != "" {
			c.log = "delete telemetry of " + d + ": " + c.log
		}
		if status != c.status || log != c.log {
			t.Errorf("%s: status %d, recorded %q, want %d, %q", c.query, status, log, c.status, c.log)
		}
		f.check(c.query+": a", f.all(d, "a"), c.a)
		f.check(c.query+": b", f.all(d, "b"), c.b)
		f.check(c.query+": latest", f.latest(d), c.latest)
		_, keys := f.get(d + "/keys/timeseries")
		f.check(c.query+": keys", keys, c.keys)
	}
	f.check("another device", f.latest("e")+" "+f.all("e", "a"), `a=9@20 9@20`)
}

// checkDeletionOfAFutureValue: a value with a time in the far future stays the newest until it is
// deleted.
func checkDeletionOfAFutureValue(t *testing.T, s Suite) {
	f := s.open(t, 0)
	for _, future := range []int64{4102444800000, math.MaxInt64} {
		f.append("d", 1000, `{"t":1}`)
		f.append("d", 0, fmt.Sprintf(`{"ts":%d,"values":{"t":99}}`, future))
		f.append("d", 2000, `{"t":2,"other":1}`)
		f.check("before", f.latest("d", "t"), fmt.Sprintf(`t=99@%d`, future))
		query := fmt.Sprintf("keys=t&startTs=4102444800000&endTs=%d&rewriteLatestIfDeleted=true", int64(math.MaxInt64))
		if status, log := f.remove("d", query); status != http.StatusOK {
			t.Fatalf("status %d, recorded %s", status, log)
		}
		f.check("after", f.latest("d", "t"), `t=2@2000`)
		f.reopen()
		f.check("reopened", f.latest("d", "t"), `t=2@2000`)
		f.append("d", 3000, `{"t":3}`)
		f.check("the next message", f.latest("d", "t"), `t=3@3000`)
		if status, _ := f.remove("d", "keys=t,other&deleteAllDataForKeys=true"); status != http.StatusOK {
			t.Fatalf("status %d", status)
		}
		f.check("all of it", f.latest("d"), ``)
		if n := f.messages("d"); n != 0 {
			t.Errorf("%d messages are left without values", n)
		}
	}
}

// checkKeyWithoutLatest: a key whose newest value was deleted keeps its messages, and a later
// message is its newest value again.
func checkKeyWithoutLatest(t *testing.T, s Suite) {
	f := s.open(t, 0)
	f.append("d", 0, `[{"ts":10,"values":{"a":1}},{"ts":30,"values":{"a":3}}]`)
	if status, _ := f.remove("d", "keys=a&startTs=20&endTs=40"); status != http.StatusOK {
		t.Fatalf("status %d", status)
	}
	for range 2 {
		f.check("latest", f.latest("d"), ``)
		f.check("messages", f.all("d", "a"), `1@10`)
		if _, body := f.get("d/values/timeseries?keys=a"); !strings.HasSuffix(body, `"value":null}]}`) {
			t.Errorf("the newest value is %s, want null", body)
		}
		f.reopen()
	}
	f.append("d", 20, `{"a":2}`)
	f.check("with a later message", f.latest("d"), `a=2@20`)
	f.check("all messages", f.all("d", "a"), `1@10 2@20`)
}

// checkKeyBehindMany: when the newest value of a key is deleted because it lies ahead, older ones
// are still found, however many messages without the key came after them.
func checkKeyBehindMany(t *testing.T, s Suite) {
	const retention, many = 48 * time.Hour, 5001
	f := s.open(t, retention)
	now := f.Now().UnixMilli()
	list := []payload.Message{message(now-many, payload.Field{Key: "old", Value: payload.Long(1)})}
	for i := range int64(many) {
		list = append(list, message(now-i, payload.Field{Key: "a", Value: payload.Long(i)}))
	}
	if err := f.Store.Append(t.Context(), "d", list); err != nil {
		t.Fatal(err)
	}
	f.append("d", 99999999999999, `{"old":99,"a":99}`)
	f.Advance(time.Hour)
	f.check("latest", f.latest("d"), fmt.Sprintf(`a=0@%d`, now))
	f.check("messages", f.all("d", "old"), fmt.Sprintf(`1@%d`, now-many))
	f.append("d", now+1, `{"old":2}`)
	f.check("latest after another message", f.latest("d", "old"), fmt.Sprintf(`old=2@%d`, now+1))
}

// checkDeletionInOneTime: messages of one time stay in the order of their arrival, whichever of
// them lose their values.
func checkDeletionInOneTime(t *testing.T, s Suite) {
	f := s.open(t, 0)
	f.append("d", 5, `[{"a":1},{"b":1},{"a":2,"b":2}]`)
	if err := f.Store.DeleteValues(t.Context(), "d", []string{"a", "nope", "\x00"}, []int64{5, 6}); err != nil {
		t.Fatal(err)
	}
	f.append("d", 5, `{"b":3}`)
	f.check("b", f.all("d", "b"), `1@5 2@5 3@5`)
	f.check("a", f.all("d", "a"), ``)
	if err := f.Store.DeleteValues(t.Context(), "d", []string{"b"}, []int64{5}); err != nil {
		t.Fatal(err)
	}
	if n := f.messages("d"); n != 0 {
		t.Errorf("%d messages are left without values", n)
	}
	// A value that has arrived meanwhile stays the newest one.
	f.append("d", 7, `{"c":1}`)
	span := telemetry.Range{Device: "d", Start: 0, End: 100}
	if err := f.Store.ReplaceLatest(t.Context(), span, []telemetry.KeyPoint{{Key: "c", Point: telemetry.Point{TS: math.MinInt64}}}); err != nil {
		t.Fatal(err)
	}
	f.check("latest", f.latest("d", "c"), `c=1@7`)
	for _, err := range []error{
		f.Store.DeleteValues(t.Context(), "", []string{"a"}, []int64{1}),
		f.Store.ReplaceLatest(t.Context(), telemetry.Range{}, []telemetry.KeyPoint{{Key: "a"}}),
	} {
		if err == nil {
			t.Error("a device without a name: accepted")
		}
	}
}

// checkManyDeletions: a deletion takes many steps, and the messages of others are not lost.
func checkManyDeletions(t *testing.T, s Suite) {
	f := s.open(t, 0)
	var list []payload.Message
	for i := range int64(manyMessages) {
		m := message(i, payload.Field{Key: "a", Value: payload.Long(i)}, payload.Field{Key: "b", Value: payload.Long(i)})
		list = append(list, m)
	}
	if err := f.Store.Append(t.Context(), "d", list); err != nil {
		t.Fatal(err)
	}
	if status, log := f.remove("d", fmt.Sprintf("keys=a&startTs=1&endTs=%d&rewriteLatestIfDeleted=true", manyMessages)); status != http.StatusOK {
		t.Fatalf("status %d, recorded %s", status, log)
	}
	f.check("a", f.all("d", "a"), `0@0`)
	f.check("latest", f.latest("d"), fmt.Sprintf(`a=0@0 b=%d@%[1]d`, manyMessages-1))
	points, err := telemetry.Points(t.Context(), f.Store, telemetry.Query{Device: "d", Keys: []string{"b"}, End: manyMessages, Limit: manyMessages})
	if err != nil || len(points["b"]) != manyMessages || !slices.IsSortedFunc(points["b"], func(a, b telemetry.Point) int { return int(b.TS - a.TS) }) {
		t.Errorf("%d points of the other key, error %v", len(points["b"]), err)
	}
}
