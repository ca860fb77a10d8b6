package tokenhttp

import (
	"encoding/json"
	"errors"
	"testing"
	"time"

	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/authz"
)

// FuzzAnswers reads the same answer as every preset.
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
	f.Fuzz(func(t *testing.T, body, contentType string, status int) {
		a := answer{status: status, contentType: contentType, body: []byte(body), received: time.Unix(1_800_000_000, 0)}
		for _, name := range Presets() {
			p, _ := presetNamed(name)
			rd := reader{preset: p}
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

// checkAllowed asks encoding/json, which reads more than it should, whether it
// sees a reason against the grant too.
func checkAllowed(t *testing.T, preset string, a answer, g *authz.Grant) {
	t.Helper()
	if n := len(g.TokenID); n == 0 || n > maxTokenID || g.Subject == "" {
		t.Errorf("%s: a grant without names", preset)
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

func FuzzObject(f *testing.F) {
	f.Add([]byte(`{"a":{"b":[1,"x",null,true]},"A":1}`))
	f.Add([]byte(`{"a":1} `))
	f.Fuzz(func(t *testing.T, text []byte) {
		o, err := parseObject(text)
		if err != nil {
			return
		}
		var m map[string]json.RawMessage
		if err := json.Unmarshal(text, &m); err != nil || len(m) != len(o) {
			t.Fatalf("%d members, encoding/json finds %d (%v)", len(o), len(m), err)
		}
		for _, member := range o {
			if string(member.raw) != string(m[member.key]) {
				t.Errorf("the raw value of %q differs", member.key)
			}
		}
	})
}
