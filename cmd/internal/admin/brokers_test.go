package admin

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
)

// TestBrokersAreTakenOutOfUse: what the requests ask for, their answers, and what is recorded.
func TestBrokersAreTakenOutOfUse(t *testing.T) {
	f := newFakeProxy()
	api, h := f.audited()
	var changes []BrokerChange
	api.Drain = func(c BrokerChange) (BrokerStatus, error) {
		changes = append(changes, c)
		if c.Server != "tcp://a:1883" {
			return BrokerStatus{}, fmt.Errorf("%w; there are tcp://a:1883", ErrNoBroker)
		}
		return BrokerStatus{Server: c.Server, State: "drained", Sessions: 3}, nil
	}
	for _, tc := range []struct {
		path, body string
		status     int
		want       string
	}{
		{"drain", `{"server":"tcp://a:1883"}`, http.StatusOK, `"state":"drained","sessions":3`},
		{"drain", `{"server":"tcp://a:1883","end":true}`, http.StatusOK, `"sessions":3`},
		{"enable", `{"server":"tcp://a:1883"}`, http.StatusOK, `"sessions":3`},
		{"drain", `{"server":"tcp://b:1883"}`, http.StatusNotFound, "no such broker; there are tcp://a:1883"},
		{"enable", `{"server":"tcp://a:1883","end":true}`, http.StatusBadRequest, "not a JSON object with the fields of this call"},
		{"drain", `server=a`, http.StatusBadRequest, "not a JSON object"},
	} {
		r := httptest.NewRequest("POST", "/v1/brokers/"+tc.path, strings.NewReader(tc.body))
		r.Header.Set("Authorization", "Bearer "+testToken)
		w := httptest.NewRecorder()
		h.ServeHTTP(w, r)
		if w.Code != tc.status || !strings.Contains(w.Body.String(), tc.want) {
			t.Errorf("%s %s: %d %s, want %d and %s", tc.path, tc.body, w.Code, w.Body, tc.status, tc.want)
		}
	}
	want := fmt.Sprint([]BrokerChange{{"tcp://a:1883", true, false}, {"tcp://a:1883", true, true}, {"tcp://a:1883", false, false}, {"tcp://b:1883", true, false}})
	if got := fmt.Sprint(changes); got != want {
		t.Errorf("changes %s, want %s", got, want)
	}
	recorded := ""
	for _, c := range api.Audit.Latest(10) {
		recorded += c.Action + " " + c.Object + ": " + c.Outcome + "\n"
	}
	if want := "enable broker tcp://a:1883: 3 sessions are on it\ndrain broker and end its sessions tcp://a:1883: 3 sessions are on it\ndrain broker tcp://a:1883: 3 sessions are on it\n"; recorded != want {
		t.Errorf("recorded:\n%swant:\n%s", recorded, want)
	}
}
