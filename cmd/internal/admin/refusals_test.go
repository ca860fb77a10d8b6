package admin

import (
	"encoding/json"
	"errors"
	"net/http"
	"net/netip"
	"strings"
	"testing"

	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/cmd/internal/refusals"
	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/proxy"
)

// refusing serves the API of a proxy that has refused three devices, the second one twice.
func refusing() http.Handler {
	kept := refusals.New(10)
	for _, id := range []string{"pump", "fan", "fan"} {
		kept.Add(proxy.Refusal{
			Reason: proxy.NoToken, Addr: netip.MustParseAddrPort("192.0.2.1:1000"), ClientID: id, Listener: "mqtts",
			Err: errors.New("no user name"), Level: 5, Sent: true, Code: 0x85,
		})
	}
	kept.Add(proxy.Refusal{
		Reason: proxy.Busy, Addr: netip.MustParseAddrPort("[2001:db8::1]:1000"), ClientID: "v", Subject: "valve", Fingerprint: "12345678", Listener: "mqtts",
	})
	return newHandler(Options{Access: operator(testToken), API: &API{Refusals: kept}})
}

func TestRefusalsAreListedAndFiltered(t *testing.T) {
	h := refusing()
	for query, want := range map[string]string{
		"":                                   "v fan pump",
		"?client_id=fan":                     "fan",
		"?subject=valve":                     "v",
		"?subject=nothing":                   "",
		"?subject=":                          "v fan pump",
		"?reason=busy":                       "v",
		"?reason=no_token&client_id=v":       "",
		"?address=192.0.2.1":                 "fan pump",
		"?address=::ffff:192.0.2.1":          "fan pump",
		"?address=2001:db8::/32":             "v",
		"?since=1h":                          "v fan pump",
		"?since=2100-01-01T00:00:00Z":        "",
		"?since=2000-01-01T00:00:00%2B01:00": "v fan pump",
		"?limit=1":                           "v",
		"?limit=1&before=4":                  "fan",
	} {
		status, body := call(h, http.MethodGet, "/v1/refusals"+query, "")
		var got Refusals
		if err := json.Unmarshal([]byte(body), &got); status != http.StatusOK || err != nil {
			t.Fatalf("%s: status %d, %v", query, status, err)
		}
		var ids []string
		for _, r := range got.Refusals {
			ids = append(ids, r.ClientID)
		}
		if strings.Join(ids, " ") != want || len(got.Reasons) != 2 {
			t.Errorf("%s: %q and %d reasons, want %q and 2", query, ids, len(got.Reasons), want)
		}
	}
}

// TestRefusalHasTheseNames: programs rely on the names of the fields.
func TestRefusalHasTheseNames(t *testing.T) {
	_, body := call(refusing(), http.MethodGet, "/v1/refusals?limit=2", "")
	var got struct {
		Refusals    []map[string]any
		Total, Next int
		Reasons     []map[string]any
	}
	if err := json.Unmarshal([]byte(body), &got); err != nil {
		t.Fatal(err)
	}
	if got.Total != 3 || got.Next != 3 || len(got.Refusals) != 2 {
		t.Fatal(body)
	}
	for _, r := range got.Refusals {
		delete(r, "first")
		delete(r, "last")
	}
	text, err := json.Marshal(got)
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{
		`{"address":"[2001:db8::1]:1000","client_id":"v","count":1,"fingerprint":"12345678","listener":"mqtts","number":4,"reason":"busy","subject":"valve"}`,
		`{"address":"192.0.2.1:1000","client_id":"fan","code":133,"count":2,"detail":"no user name","listener":"mqtts","number":3,"reason":"no_token","version":"5.0"}`,
		`"day":3,"hour":3,"meaning":"there is a client id, but no token","reason":"no_token"`,
	} {
		if !strings.Contains(string(text), want) {
			t.Errorf("%s\nlacks %s", text, want)
		}
	}
}

func TestBadQueriesForRefusalsAreExplained(t *testing.T) {
	h := refusing()
	for query, want := range map[string]string{
		"limit=0":                "from 1 to 10000",
		"limit=10001":            "from 1 to 10000",
		"reason=tired":           "one of unknown_token, wrong_password",
		"address=pump":           "an IP address, or a network",
		"address=fe80::1%25eth0": "an IP address, or a network",
		"since=yesterday":        "how long ago, such as 90m",
		"since=-1h":              "how long ago, such as 90m",
		"before=x":               "of the page before",
		"before=0":               "of the page before",
		"offset=5":               "the parameters are subject, client_id",
		"subject=a&subject=b":    "each at most once",
	} {
		if status, body := call(h, http.MethodGet, "/v1/refusals?"+query, ""); status != http.StatusBadRequest || !strings.Contains(body, want) {
			t.Errorf("%s: status %d, %s; want %q", query, status, body, want)
		}
	}
	if status, _ := call(h, http.MethodPost, "/v1/refusals", ""); status != http.StatusMethodNotAllowed && status != http.StatusNotFound {
		t.Errorf("POST: status %d", status)
	}
}
