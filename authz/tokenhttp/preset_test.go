package tokenhttp

import (
	"io"
	"net/http"
	"slices"
	"strconv"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/authz"
)

// TestNativeStatus is the native contract's table of status codes.
func TestNativeStatus(t *testing.T) {
	const allow, js = `{"result":"allow"}`, "application/json"
	for _, c := range []struct {
		name string
		a    reply
		o    Options
		want string
	}{
		{"200 allow", reply{200, js, allow, nil}, Options{}, "allow"},
		{"200 deny", reply{200, js, `{"result":"deny"}`, nil}, Options{}, "deny not_authorized"},
		{"200 ignore", reply{200, js, `{"result":"ignore"}`, nil}, Options{}, "deny unknown_token"},
		{"200 with charset", reply{200, js + "; charset=utf-8", allow, nil}, Options{}, "allow"},
		{"200 of a +json type", reply{200, "application/vnd.x+json", allow, nil}, Options{}, "allow"},
		{"200 without a type", reply{200, "", " " + allow, nil}, Options{}, "allow"},
		{"200 without a type, no object", reply{200, "", "allow", nil}, Options{}, "error"},
		{"200 as text", reply{200, "text/plain", allow, nil}, Options{}, "error"},
		{"200 as HTML", reply{200, "text/html", "<html>" + allow, nil}, Options{}, "error"},
		{"200 with a bad type", reply{200, "application/json;;=", allow, nil}, Options{}, "error"},
		{"200 empty", reply{200, js, "", nil}, Options{}, "error"},
		{"200 no result", reply{200, js, `{}`, nil}, Options{}, "error"},
		{"200 unknown result", reply{200, js, `{"result":"maybe"}`, nil}, Options{}, "error"},
		{"200 bad JSON", reply{200, js, `{"result":"allow"`, nil}, Options{}, "error"},
		{"204", reply{204, "", "", nil}, Options{}, "allow"},
		{"201", reply{201, js, allow, nil}, Options{}, "error"},
		{"403", reply{403, js, allow, nil}, Options{}, "deny not_authorized"},
		{"401", reply{401, js, allow, nil}, Options{}, "error"},
		{"401 to the device's token", reply{401, js, "", nil}, Options{Headers: map[string]string{"authorization": "Bearer ${token}"}}, "deny unknown_token"},
		{"401 listed", reply{401, js, "", nil}, Options{DenyStatus: []int{401}}, "deny unknown_token"},
		{"404", reply{404, js, allow, nil}, Options{}, "error"},
		{"404 listed", reply{404, js, allow, nil}, Options{DenyStatus: []int{404}}, "deny unknown_token"},
		{"202 listed", reply{202, js, "", nil}, Options{AllowStatus: []int{202}}, "allow"},
		{"400", reply{400, js, allow, nil}, Options{}, "error"},
		{"429", reply{429, js, allow, nil}, Options{}, "busy"},
		{"500", reply{500, js, `{"result":"deny"}`, nil}, Options{}, "error"},
		{"503", reply{503, js, allow, nil}, Options{}, "error"},
		{"302", reply{302, js, allow, http.Header{"Location": {"/elsewhere"}}}, Options{}, "error"},
		{"304", reply{304, "", "", nil}, Options{}, "error"},
	} {
		t.Run(c.name, func(t *testing.T) {
			g, err := asked(t, c.a, c.o, pump())
			if got := outcomeOf(g, err); got != c.want {
				t.Errorf("the outcome is %s (%v), want %s", got, err, c.want)
			}
		})
	}
}

// TestPresetAnswers is the table of what each kind of service means.
func TestPresetAnswers(t *testing.T) {
	const js, text = "application/json", "text/plain"
	for _, c := range []struct {
		preset string
		a      reply
		want   string
	}{
		{"emqx", reply{204, "", "", nil}, "allow"},
		{"emqx", okJSON(`{"result":"allow","is_superuser":"true"}`), "allow"},
		{"emqx", okJSON(`{"result":"allow","zone_override":"z"}`), "allow"},
		{"emqx", okJSON(`{"result":"deny"}`), "deny not_authorized"},
		{"emqx", okJSON(`{"result":"ignore"}`), "deny unknown_token"},
		{"emqx", okJSON(`{}`), "deny unknown_token"},
		{"emqx", okJSON(`{"result":"yes"}`), "error"},
		{"emqx", okJSON(`{"result":"allow","expire_at":1}`), "deny expired"},
		{"emqx", okJSON(`{"result":"allow","expire_at":1900000000000}`), "error"},
		{"emqx", okJSON(`{"result":"allow","acl":[{"permission":"allow","action":"all","topic":"#","username":"x"}]}`), "allow"},
		{"emqx", okJSON(`{"result":"allow","acl":[{"permission":"deny","action":"all","topic":"#","zone":"x"}]}`), "error"},
		{"emqx", okJSON(`{"result":"allow","acl":{"pub":["a"]}}`), "allow"},
		{"emqx", okJSON(`{"result":"allow","RESULT":"deny"}`), "error"},
		{"emqx", reply{200, "application/x-www-form-urlencoded", "result=allow&expire_at=4000000000", nil}, "allow"},
		{"emqx", reply{200, "application/x-www-form-urlencoded", "result=allow&result=deny", nil}, "error"},
		{"emqx", reply{200, text, "allow", nil}, "error"},
		{"emqx", reply{401, "", "", nil}, "error"},
		{"emqx", reply{403, "", "", nil}, "error"},
		{"emqx", reply{404, "", "", nil}, "error"},
		{"emqx", reply{500, "", "", nil}, "error"},

		{"emqx4", reply{200, text, "", nil}, "allow"},
		{"emqx4", reply{200, text, "anything", nil}, "allow"},
		{"emqx4", reply{200, text, "ignore", nil}, "deny unknown_token"},
		{"emqx4", reply{401, text, "", nil}, "deny unknown_token"},
		{"emqx4", reply{403, text, "", nil}, "deny not_authorized"},
		{"emqx4", reply{404, text, "", nil}, "error"},
		{"emqx4", reply{500, text, "", nil}, "error"},

		{"goauth", okJSON(`{"ok":true}`), "allow"},
		{"goauth", okJSON(`{"Ok":true,"Error":""}`), "allow"},
		{"goauth", okJSON(`{"OK":true}`), "error"},
		{"goauth", okJSON(`{"ok":false,"error":"no"}`), "deny unknown_token"},
		{"goauth", okJSON(`{"ok":false,"Ok":true}`), "error"},
		{"goauth", okJSON(`{"ok":"true"}`), "error"},
		{"goauth", okJSON(`{"ok":`), "error"},
		{"goauth", reply{201, text, "ok", nil}, "allow"},
		{"goauth", reply{200, text, `{"ok":false}`, nil}, "deny unknown_token"},
		{"goauth", reply{200, text, "not ok", nil}, "deny unknown_token"},
		{"goauth", reply{200, text, "", nil}, "error"},
		{"goauth", reply{401, text, "", nil}, "deny unknown_token"},
		{"goauth", reply{403, text, "", nil}, "deny not_authorized"},
		{"goauth", reply{400, text, "", nil}, "error"},
		{"goauth", reply{404, text, "", nil}, "error"},
		{"goauth", reply{502, text, "ok", nil}, "error"},

		{"vernemq", okJSON(`{"result":"ok"}`), "allow"},
		{"vernemq", okJSON(`{"result":"ok","modifiers":{"username":"u","retry_interval":5}}`), "allow"},
		{"vernemq", okJSON(`{"result":"ok","modifiers":{"allow_publish":false}}`), "allow"},
		{"vernemq", okJSON(`{"result":"ok","modifiers":{"allow_publish":"no"}}`), "error"},
		{"vernemq", okJSON(`{"result":"ok","modifiers":{"mountpoint":""}}`), "allow"},
		{"vernemq", okJSON(`{"result":"ok","modifiers":{"mountpoint":"tenant"}}`), "error"},
		{"vernemq", okJSON(`{"result":"ok","modifiers":{"allow_publish":true}}`), "allow"},
		{"vernemq", okJSON(`{"result":"ok","modifiers":{"max_message_rate":5}}`), "allow"},
		{"vernemq", okJSON(`{"result":"ok","modifiers":{"max_message_rate":0,"max_message_size":0}}`), "allow"},
		{"vernemq", okJSON(`{"result":"ok","modifiers":{"max_message_rate":"many"}}`), "error"},
		{"vernemq", okJSON(`{"result":"ok","modifiers":{"max_message_size":-1}}`), "error"},
		{"vernemq", okJSON(`{"result":"next"}`), "deny unknown_token"},
		{"vernemq", okJSON(`{"result":{"error":"not_allowed"}}`), "deny not_authorized"},
		{"vernemq", okJSON(`{"result":{}}`), "error"},
		{"vernemq", okJSON(`{}`), "error"},
		{"vernemq", reply{200, text, `{"result":"ok"}`, nil}, "error"},
		{"vernemq", reply{204, "", "", nil}, "error"},
		{"vernemq", reply{403, js, "", nil}, "error"},

		{"introspection", okJSON(`{"active":true}`), "allow"},
		{"introspection", okJSON(`{"active":true,"exp":null,"sub":"pump"}`), "allow"},
		{"introspection", okJSON(`{"active":true,"exp":1}`), "deny expired"},
		{"introspection", okJSON(`{"active":true,"nbf":4000000000}`), "deny not_yet_valid"},
		{"introspection", okJSON(`{"active":false}`), "deny unknown_token"},
		{"introspection", okJSON(`{"active":"true"}`), "error"},
		{"introspection", okJSON(`{"Active":true}`), "error"},
		{"introspection", okJSON(`{}`), "error"},
		{"introspection", reply{200, "application/jwt", "e30", nil}, "error"},
		{"introspection", reply{401, js, "", nil}, "error"},
		{"introspection", reply{403, js, "", nil}, "error"},

		{"status", reply{200, text, "anything", nil}, "allow"},
		{"status", reply{204, "", "", nil}, "allow"},
		{"status", reply{206, "", "", nil}, "error"},
		{"status", reply{401, "", "", nil}, "deny unknown_token"},
		{"status", reply{403, "", "", nil}, "deny not_authorized"},
		{"status", reply{404, "", "", nil}, "error"},
		{"status", reply{500, "", "", nil}, "error"},

		{"rabbitmq", reply{200, text, "allow", nil}, "allow"},
		{"rabbitmq", reply{201, text, "allow administrator management\n", nil}, "allow"},
		{"rabbitmq", reply{200, text, " Allow\r\n", nil}, "allow"},
		{"rabbitmq", reply{200, text, "\nDENY it", nil}, "deny unknown_token"},
		{"rabbitmq", reply{200, text, "allowed", nil}, "error"},
		{"rabbitmq", reply{200, text, "deny", nil}, "deny unknown_token"},
		{"rabbitmq", reply{200, text, "deny blocked", nil}, "deny unknown_token"},
		{"rabbitmq", reply{200, text, "", nil}, "error"},
		{"rabbitmq", reply{204, text, "", nil}, "error"},
		{"rabbitmq", reply{403, text, "deny", nil}, "error"},
	} {
		t.Run(c.preset+" "+strconv.Itoa(c.a.status)+" "+c.a.body, func(t *testing.T) {
			o := Options{Preset: c.preset}
			if c.preset == "status" {
				o.URL = "/${token}"
			}
			g, err := asked(t, c.a, o, pump())
			if got := outcomeOf(g, err); got != c.want {
				t.Errorf("the outcome is %s (%v), want %s", got, err, c.want)
			}
		})
	}
}

// TestModifiersOfVerneMQ: the proxy follows the modifiers that it can. The others are reported
// once and lock out no device.
func TestModifiersOfVerneMQ(t *testing.T) {
	server := serve(t, okJSON(`{"result":"ok","modifiers":{"allow_publish":false,"max_message_size":1024,"max_message_rate":5,"max_inflight_messages":20,"username":null}}`).ServeHTTP)
	var told []string
	s := sourceOf(t, Options{URL: server.URL, Preset: "vernemq", OnPassedOver: func(path string) { told = append(told, path) }})
	for range 3 {
		g, err := s.Authorize(t.Context(), pump())
		if err != nil {
			t.Fatal(err)
		}
		want, _ := authz.NewACL(authz.DeferRest, authz.Rule{Deny: true, Publish: true, Topics: []string{"#"}})
		if !g.ACL.Equal(want) {
			t.Errorf("the rules are %v, want %v", g.ACL, want)
		}
		// A remaining length of 1024 and a fixed header of three bytes.
		if want := (authz.Limits{MaxPacket: 1027, PublishRate: 5}); !g.Limits.Equal(want) {
			t.Errorf("the limits are %v, want %v", g.Limits, want)
		}
	}
	if want := []string{"modifiers.max_inflight_messages"}; !slices.Equal(told, want) {
		t.Errorf("told of %q, want %q", told, want)
	}
}

// sent is what a service received.
type sent struct {
	Method, URL, ContentType, Hook, Authorization, Body string
}

// TestPresetRequests checks the requests of each preset.
func TestPresetRequests(t *testing.T) {
	const js, form = "application/json", "application/x-www-form-urlencoded"
	body := `{"username":"pump","password":"` + secretToken + `","clientid":"pump-7"}`
	five := pump()
	five.Protocol = 5
	binary := pump()
	binary.Token = authz.NewToken("\xff\x00tok")
	const head = `{"peer_addr":"","peer_port":0,"mountpoint":"","client_id":"pump-7","username":"pump","password":"` + secretToken + `",`
	for name, c := range map[string]struct {
		o    Options
		r    authz.Request
		want sent
		vars []string
	}{
		"native": {Options{URL: "/a"}, pump(), sent{"POST", "/a", js, "", "", `{"v":1,"token":"` + secretToken + `","username":"pump","clientid":"pump-7","reason":"connect"}`}, []string{"client_id", "token", "username"}},
		"native binary": {Options{URL: "/a"}, binary, sent{"POST", "/a", js, "", "",
			`{"v":1,"token_b64":"/wB0b2s=","username":"pump","clientid":"pump-7","reason":"connect"}`}, []string{"client_id", "token", "username"}},
		"emqx":      {Options{Preset: "emqx"}, pump(), sent{"POST", "/", js, "", "", body}, []string{"client_id", "token", "username"}},
		"emqx GET":  {Options{Preset: "emqx", Method: "GET", URL: "/a?b=c"}, pump(), sent{"GET", "/a?b=c&username=pump&password=" + secretToken + "&clientid=pump-7", "", "", "", ""}, []string{"client_id", "token", "username"}},
		"emqx form": {Options{Preset: "emqx", Format: "form", Body: "p=${password}&h=${peerhost}"}, pump(), sent{"POST", "/", form, "", "", "p=" + secretToken + "&h="}, []string{"client_addr", "token"}},
		"emqx4":     {Options{Preset: "emqx4"}, pump(), sent{"POST", "/", form, "", "", "clientid=pump-7&username=pump&password=" + secretToken}, []string{"client_id", "token", "username"}},
		"goauth":    {Options{Preset: "goauth"}, pump(), sent{"POST", "/", js, "", "", body}, []string{"client_id", "token", "username"}},
		"goauth jwt": {Options{Preset: "goauth", Headers: map[string]string{"Authorization": "Bearer ${token}"}, Body: `{"clientid":"${clientid}"}`}, pump(),
			sent{"POST", "/", js, "", "Bearer " + secretToken, `{"clientid":"pump-7"}`}, []string{"client_id", "token"}},
		"vernemq":       {Options{Preset: "vernemq"}, pump(), sent{"POST", "/", js, "auth_on_register", "", head + `"clean_session":true}`}, []string{"client_addr", "client_id", "proto_version", "token", "username"}},
		"vernemq 5":     {Options{Preset: "vernemq"}, five, sent{"POST", "/", js, "auth_on_register_m5", "", head + `"clean_start":true,"properties":{}}`}, []string{"client_addr", "client_id", "proto_version", "token", "username"}},
		"introspection": {Options{Preset: "introspection"}, pump(), sent{"POST", "/", form, "", "", "token=" + secretToken + "&token_type_hint=access_token"}, []string{"token"}},
		"status":        {Options{Preset: "status", URL: "/api/v1/${token}/attributes?clientKeys=x"}, pump(), sent{"GET", "/api/v1/" + secretToken + "/attributes?clientKeys=x", "", "", "", ""}, []string{"token"}},
		"rabbitmq":      {Options{Preset: "rabbitmq", URL: "/user"}, pump(), sent{"POST", "/user", form, "", "", "username=pump&password=" + secretToken + "&client_id=pump-7&vhost=%2F"}, []string{"client_id", "token", "username"}},
	} {
		t.Run(name, func(t *testing.T) {
			var got sent
			server := serve(t, func(_ http.ResponseWriter, r *http.Request) {
				text, _ := io.ReadAll(r.Body)
				got = sent{r.Method, r.RequestURI, r.Header.Get("Content-Type"), r.Header.Get("Vernemq-Hook"), r.Header.Get("Authorization"), string(text)}
				if r.Header["Idempotency-Key"] != nil || r.Header.Get("User-Agent") != "mqtt-auth-proxy" {
					t.Errorf("unexpected headers: %v", r.Header)
				}
			})
			c.o.URL = server.URL + c.o.URL
			s := sourceOf(t, c.o)
			_, _ = s.Authorize(t.Context(), c.r)
			if diff := cmp.Diff(c.want, got); diff != "" {
				t.Error(diff)
			}
			if !slices.Equal(s.builder.vars, c.vars) {
				t.Errorf("vars = %v, want %v", s.builder.vars, c.vars)
			}
			var parts authz.Parts
			for _, v := range c.vars {
				part, known := partOf(v)
				if !known {
					t.Errorf("no part of a request is known for %s: one device could have another's answer", v)
				}
				parts |= part
			}
			if s.Parts() != parts {
				t.Errorf("Parts = %b, want %b", s.Parts(), parts)
			}
		})
	}
}
