package admin

import (
	"net/http"
	"strings"
	"testing"
)

// TestBodiesAreNotRepaired: what package json would make something else of is refused.
func TestBodiesAreNotRepaired(t *testing.T) {
	f := newFakeProxy()
	h := f.handler()
	for body, want := range map[string]int{
		`{"subject":"pump"}`:                          200,
		"{\"subject\":\"\uFFFD\"}":                    200,
		`{"subject":"\uFFFD"}`:                        200,
		`{"subject":"\ud83d\ude00"}`:                  200,
		"{\"subject\":\"\xff\"}":                      400,
		`{"subject":"\ud83d"}`:                        400,
		`{"subject":"pump","subject":"valve"}`:        400,
		`{"subject":"pump","SUBJECT":"valve"}`:        400,
		`{"token_id":"subject","subject":""}`:         200,
		`{"subject":"pump","mode":"subject"}`:         400,
		strings.Repeat("[", 20_000):                   400,
		`{"subject":"` + strings.Repeat("a", maxBody): 400,
	} {
		if got, answer := call(h, "POST", "/v1/revocations", body); got != want {
			t.Errorf("%.60q: status %d, want %d: %s", body, got, want, answer)
		}
	}
}

// TestQueriesAreNotRepaired: net/url passes over what it cannot read, and the rest of a query would
// select all sessions, for example.
func TestQueriesAreNotRepaired(t *testing.T) {
	h := newFakeProxy().handler()
	for query, want := range map[string]int{"subject=a%3Bb": 200, "subject=100%25": 200, "subject=a;b": 400, "subject=100%": 400, "subject=a&x;y": 400} {
		if got, answer := call(h, "GET", "/v1/sessions?"+query, ""); got != want {
			t.Errorf("%s: status %d, want %d: %s", query, got, want, answer)
		}
	}
	if got, _ := call(h, "DELETE", "/v1/sessions?subject=a&b;c", ""); got != http.StatusBadRequest {
		t.Errorf("sessions are ended by a query that cannot be read: status %d", got)
	}
}
