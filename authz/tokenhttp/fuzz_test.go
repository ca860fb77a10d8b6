package tokenhttp

import (
	"encoding/json"
	"errors"
	"net/http"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/authz"
	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/authz/internal/freshness"
)

// FuzzAnswers reads the same answer with every preset.
func FuzzAnswers(f *testing.F) {
	for _, seed := range []string{
		`{"result":"allow","acl":[{"permission":"allow","action":"all","topics":["#"]}],"clientid":["a"],"upstream":{"password":"x"}}`,
		`{"result":"deny","RESULT":"allow"}`, `{"result":"ok","modifiers":{"client_id":"x"}}`, `{"result":{"error":"x"}}`,
		`{"active":true,"exp":4000000000}`, `{"Ok":true}`, "allow a b", "deny", "ok", "ignore", "result=allow&expire_at=1", "", "\xff",
	} {
		for _, status := range []int{200, 204, 401, 500} {
			f.Add(seed, "application/json", status)
			f.Add(seed, "", status)
			f.Add(seed, "application/x-www-form-urlencoded", status)
		}
	}
	r := pump()
	for _, seed := range []string{
		`{"result":"ok","modifiers":{"allow_publish":false,"max_message_size":1}}`, " Allow A", `{"result":"allow","subject":7,"expire_at":4e9}`,
	} {
		f.Add(seed, "", 200)
	}
	f.Fuzz(func(t *testing.T, body, contentType string, status int) {
		a := answer{status: status, contentType: contentType, body: []byte(body), received: time.Unix(1_800_000_000, 0)}
		for _, name := range Presets() {
			p, _ := presetNamed(name)
			rd := reader{preset: p, pair: p.pair}
			d, err := rd.decide(a, &r)
			set := 0
			for _, is := range []bool{err != nil, d.grant != nil, d.denial != nil} {
				if is {
					set++
				}
			}
			if set != 1 {
				t.Fatalf("%s: %d of grant, denial and error", name, set)
			}
			if d.grant != nil {
				checkAllowed(t, name, a, d.grant)
			}
		}
	})
}

// checkAllowed checks with encoding/json, which is more lenient, that nothing speaks against
// the grant.
func checkAllowed(t *testing.T, preset string, a answer, g *authz.Grant) {
	t.Helper()
	if n := len(g.TokenID); n == 0 || n > maxTokenID || g.Subject == "" {
		t.Errorf("%s: a grant without names", preset)
	}
	if r := pump(); contains(g.TokenID+" "+g.Subject, r.Token) || len(g.Subject) > maxSubject {
		t.Errorf("%s: a grant for %q", preset, g.Subject)
	}
	if preset != "native" || a.status != 200 {
		return
	}
	var lenient struct {
		Result    string
		ExpireAt  *int64 `json:"expire_at"`
		ClientID  any
		ACL       any
		Superuser bool `json:"is_superuser"`
	}
	if err := json.Unmarshal(a.body, &lenient); err != nil && !errors.As(err, new(*json.UnmarshalTypeError)) {
		t.Fatalf("granted: %v", err)
	}
	switch {
	case lenient.Result != "allow",
		lenient.ExpireAt != nil && g.Expires.IsZero(),
		lenient.ClientID != nil && g.Only.ClientIDs == nil,
		lenient.ACL != nil && g.ACL == nil:
		t.Error("a grant that drops a restriction")
	}
}

// FuzzCacheControl checks the bounds of RFC 9111: an answer is never kept longer than any
// max-age in the header, and a directive that forbids reuse is effective at every position.
func FuzzCacheControl(f *testing.F) {
	for _, seed := range [][3]string{
		{"max-age=60", "", "10"}, {"no-store", "max-age=60", ""}, {`Max-Age="60", must-revalidate`, "", "60"},
		{"max-age=5, max-age=10", "private, s-maxage=7", "-1"}, {"max-age=99999999999999999999", "", "99999999999999999999"},
		{"max-age", "=", ",,"}, {"no-cache=\"Set-Cookie\"", "", ""}, {"max-age=+1", "", "0x1"}, {"\x00", "\xff", " 1 "},
	} {
		f.Add(seed[0], seed[1], seed[2])
	}
	f.Fuzz(func(t *testing.T, first, second, age string) {
		keep := keepOf(http.Header{"Cache-Control": {first, second}, "Age": {age}})
		switch {
		case keep.TTL < -1 || keep.TTL > freshness.Longest || keep.TTL > 0 && keep.TTL%time.Second != 0:
			t.Errorf("a time to keep of %v", keep.TTL)
		case keep.Stale != 0 && keep.Stale != -1:
			t.Errorf("a time to keep on of %v", keep.Stale)
		case keep.TTL < 0 && keep.Stale >= 0:
			t.Error("an answer that is not to be kept may serve in an outage")
		}
		for name, most := range map[string]time.Duration{"no-store": -1, "no-cache": -1, "max-age=7": 7 * time.Second, "max-age=x": -1, "max-age=18700000000000000000A": -1} {
			for _, all := range [][]string{{first, second, name}, {name, first, second}} {
				if got := keepOf(http.Header{"Cache-Control": all, "Age": {age}}).TTL; got > most || got == 0 {
					t.Errorf("with %s a time to keep of %v", name, got)
				}
			}
		}
		if older := keepOf(http.Header{"Cache-Control": {first, second}, "Age": {"5"}}).TTL; age == "" && older > max(keep.TTL-5*time.Second, -1) && keep.TTL != 0 {
			t.Errorf("after five seconds %v are left of %v", older, keep.TTL)
		}
	})
}

// FuzzRetryAfter bounds the pause, and compares a date with what net/http reads.
func FuzzRetryAfter(f *testing.F) {
	for _, seed := range []string{
		"7", " 7 ", "-5", "+5", "0x7", "1.5", "soon", "", "99999999999999999999999999999", "18700000000000000000A",
		"Fri, 15 Jan 2027 08:00:30 GMT", "Friday, 15-Jan-27 08:00:30 GMT", "Fri Jan 15 08:00:30 2027", "Fri, 15 Jan 2027 07:00:00 GMT",
	} {
		f.Add(seed)
	}
	now := time.Unix(1_800_000_000, 0) // 2027-01-15 08:00:00 UTC
	f.Fuzz(func(t *testing.T, text string) {
		got := retryAfter(http.Header{"Retry-After": {text}}, now)
		if got < 0 || got > maxPause {
			t.Fatalf("a pause of %v", got)
		}
		text = strings.TrimSpace(text)
		want := time.Duration(0)
		if n, err := strconv.ParseUint(text, 10, 32); err == nil {
			want = time.Duration(n) * time.Second
		} else if at, err := http.ParseTime(text); err == nil {
			want = at.Sub(now)
		} else if strings.Trim(text, "0123456789") == "" && text != "" {
			want = maxPause // more than can be counted
		}
		if want = min(max(want, 0), maxPause); got != want {
			t.Errorf("a pause of %v, want %v", got, want)
		}
	})
}
