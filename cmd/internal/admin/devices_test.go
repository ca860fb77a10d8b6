package admin

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/cmd/internal/presence"
)

// TestDevicesAreAskedFor: the parameters select devices, and wrong ones are refused instead of
// being passed over.
func TestDevicesAreAskedFor(t *testing.T) {
	var asked presence.Query
	var fault error
	h := newHandler(Options{Access: operator(testToken), API: &API{Devices: func(_ context.Context, q presence.Query) (presence.Page, error) {
		asked = q
		seen := time.Unix(1e9, 0).UTC()
		return presence.Page{Devices: []presence.Device{{Subject: "a", FirstSeen: seen, LastSeen: seen, Connected: true}}, Next: "a"}, fault
	}}})
	yes, no := true, false
	for query, want := range map[string]*presence.Query{
		"":                           {Limit: 100},
		"?subject=a":                 {Limit: 100, Subject: "a"},
		"?connected=true&limit=1000": {Limit: 1000, Connected: &yes},
		"?connected=false&after=pump%2F7&limit=1": {Limit: 1, Connected: &no, After: "pump/7"},
		"?limit=0":             nil,
		"?limit=1001":          nil,
		"?limit=x":             nil,
		"?connected=perhaps":   nil,
		"?offset=7":            nil,
		"?subject=a&subject=b": nil,
	} {
		status, body := call(h, "GET", "/v1/devices"+query, "")
		if want == nil {
			if status != http.StatusBadRequest {
				t.Errorf("%q: %d %s", query, status, body)
			}
			continue
		}
		if diff := cmp.Diff(*want, asked); diff != "" || status != http.StatusOK {
			t.Errorf("%q: %d (-want +got)\n%s", query, status, diff)
		}
		const answer = `{"devices":[{"subject":"a","first_seen":"2001-09-09T01:46:40Z","last_seen":"2001-09-09T01:46:40Z","connected":true}],"next":"a"}`
		if strings.TrimSpace(body) != answer {
			t.Errorf("%q: %s", query, body)
		}
	}
	fault = fmt.Errorf("%w: %w", presence.ErrUnavailable, errors.New("the disk is full"))
	if status, body := call(h, "GET", "/v1/devices", ""); status != http.StatusServiceUnavailable || !strings.Contains(body, "the disk is full") {
		t.Errorf("without a store: %d %s", status, body)
	}
}
