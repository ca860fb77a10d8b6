//go:build integration

package integration

import (
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/packets"
)

// TestTokenFileThenService: a token that is not in the file is the service's.
func TestTokenFileThenService(t *testing.T) {
	t.Parallel()
	service := startTokenService(t, allows)
	p := newProxy(t, fmt.Sprintf("auth:\n  sources:\n    - file: {path: tokens.jsonl}\n    - http: {url: 'http://%s/mqtt'}\n", service.address))
	token := p.token("filed")
	disabled := p.token("disabled")
	if r := p.tokenCommand("disable", "disabled"); r.status != 0 {
		t.Fatal(r.all())
	}
	p.start()
	connect(t, dial(t, p.plain), identity(5, "filed", token))
	if _, ack := present(t, dial(t, p.plain), identity(5, "disabled", disabled)); ack.Code != packets.NotAuthorized {
		t.Errorf("the token that the file disables gets %v, want %v", ack.Code, packets.NotAuthorized)
	}
	if asked := service.questions(); len(asked) != 0 {
		t.Errorf("the service was asked %d times about tokens of the file", len(asked))
	}
	if _, code := enter(t, p, 5, "elsewhere"); code != packets.Success {
		t.Errorf("the service's token gets %v", code)
	}
	asked := service.questions()
	if len(asked) != 1 {
		t.Fatalf("the service was asked %d times, want once", len(asked))
	}
	if q := asked[0]; q.V != 1 || q.Token != "elsewhere"+secretTail || q.ClientID != "elsewhere" || q.Username != "" || q.Reason != "connect" {
		t.Errorf("the service was asked with %d, a token of %d bytes, %q, %q", q.V, len(q.Token), q.ClientID, q.Reason)
	}
	connect(t, dial(t, p.plain), identity(5, "", "elsewhere"+secretTail))
	if asked := service.questions(); len(asked) != 1 || asked[0].ClientID != "" {
		t.Errorf("%d questions about a device without a client id, or it was given one", len(asked))
	}
	service.change(func(question) reply { return says(`{"result":"ignore"}`) })
	if _, code := enter(t, p, 5, "nobody"); code != packets.BadUserNameOrPassword {
		t.Errorf("a token that nobody knows gets %v, want %v", code, packets.BadUserNameOrPassword)
	}
	service.stop()
	if _, code := enter(t, p, 5, "later"); code != packets.ServerUnavailable {
		t.Errorf("a token that the file does not know gets %v without the service, want %v", code, packets.ServerUnavailable)
	}
}

// TestTopicRulesOfAnAnswer: what acl does not allow does not reach the broker, and
// the device learns it.
func TestTopicRulesOfAnAnswer(t *testing.T) {
	t.Parallel()
	service := startTokenService(t, func(q question) reply {
		if strings.HasPrefix(q.Token, "observer") {
			return says(`{"result":"allow","subject":"observer"}`)
		}
		return says(`{"result":"allow","subject":"gauge","acl":[{"permission":"allow","action":"all","topics":["plant/${subject}/#"]}]}`)
	})
	p := newProxy(t, service.auth())
	p.keep(secretTail)
	p.start()
	observer := subscribe(t, append(p.clientArgs("observer"+secretTail), "-q", "1", "-t", "plant/#")...)
	pub := func(topic string, args ...string) result {
		args = append(p.clientArgs("gauge"+secretTail), append(args, "-d", "-q", "1", "-t", topic, "-m", "x")...)
		return mosquittoPub(t, args...)
	}
	if r := pub("plant/gauge/level", "-V", "5"); r.status != 0 || !strings.Contains(r.stdout, "RC:0)") {
		t.Errorf("allowed: status %d\n%s", r.status, r.all())
	}
	if r := pub("plant/other/level", "-V", "5"); !strings.Contains(r.stdout, "RC:135)") {
		t.Errorf("forbidden: status %d, want a PUBACK with 135\n%s", r.status, r.all())
	}
	// 3.1.1 has no way to say no: it is acknowledged and dropped, or cut.
	pub("plant/other/level", "-V", "311")
	p.awaitLog("what was denied before 5.0", func(l logged) bool {
		return l["message"] == "publish denied" && l["subject"] == "gauge" && l["topic"] == "plant/other/level" && l["version"] == "3.1.1"
	})
	d := connect(t, dial(t, p.plain), identity(5, "reader", "gauge"+secretTail))
	s := packets.Subscribe{Type: packets.SUBSCRIBE, PacketID: 7}
	s.Add("plant/gauge/#", 1)
	s.Add("plant/#", 1)
	s.Add("#", 0)
	if _, err := d.conn.Write(s.Append(nil, 5)); err != nil {
		t.Fatal(err)
	}
	raw, err := d.readType(packets.SUBACK)
	if err != nil {
		t.Fatal(err)
	}
	var ack packets.Suback
	if err := ack.Parse(raw, 5); err != nil || fmt.Sprint(ack.Codes) != fmt.Sprint([]packets.ReasonCode{1, packets.NotAuthorized, packets.NotAuthorized}) {
		t.Errorf("SUBACK %v, %v", ack.Codes, err)
	}
	if _, sessions := p.get("/v1/sessions?client_id=reader"); !strings.Contains(sessions, `"denied":2`) {
		t.Errorf("of two denied filters the session shows %s", sessions)
	}
	withWill := identity(5, "will", "gauge"+secretTail)
	withWill.HasWill, withWill.Will = true, packets.Will{Topic: "plant/other/gone"}
	if _, ack := present(t, dial(t, p.plain), withWill); ack.Code != packets.NotAuthorized {
		t.Errorf("a forbidden will gets %v", ack.Code)
	}
	if r := pub("plant/gauge/last", "-V", "5"); r.status != 0 {
		t.Errorf("allowed: status %d\n%s", r.status, r.all())
	}
	for i, m := range observer.messages(2) {
		if want := []string{"plant/gauge/level", "plant/gauge/last"}; i >= 2 || m.topic != want[i] {
			t.Errorf("message %d came through on %s", i, m.topic)
		}
	}
}

// TestRecheckOfLiveSessions: a service that begins to say no ends sessions, one
// that is down does not.
func TestRecheckOfLiveSessions(t *testing.T) {
	t.Parallel()
	service := startTokenService(t, allows)
	const every = 6 * time.Second
	p := newProxy(t, service.auth("recheck: 6s"))
	p.start()
	withdrawn, code := enter(t, p, 5, "withdrawn")
	kept, codeOfKept := enter(t, p, 5, "kept")
	if code != packets.Success || codeOfKept != packets.Success {
		t.Fatalf("refused with %v, %v", code, codeOfKept)
	}
	service.change(func(q question) reply {
		if strings.HasPrefix(q.Token, "withdrawn") {
			return says(`{"result":"deny","reason_code":"banned"}`)
		}
		return allows(q)
	})
	begun := time.Now()
	got, err := withdrawn.farewell(patience)
	took := time.Since(begun)
	t.Logf("cut %v after the service began to say no, with %v", took.Round(time.Millisecond), got)
	if err != nil || got != packets.AdministrativeAction && got != packets.NotAuthorized || took > every+promised+busy {
		t.Errorf("the session ended with %v, %v after %v", got, err, took)
	}
	service.stop()
	service.questions()
	time.Sleep(every + time.Second)
	if err := kept.publish("a", "b"); err != nil {
		t.Errorf("the session ended while the service was down: %v", err)
	}
	service.start()
	eventually(t, "the next recheck", func() bool {
		for _, q := range service.questions() {
			if q.Reason == "recheck" && strings.HasPrefix(q.Token, "kept") {
				return true
			}
		}
		return false
	})
}

// TestIntrospection asks an OAuth 2.0 endpoint in the words of RFC 7662.
func TestIntrospection(t *testing.T) {
	t.Parallel()
	credential := "proxy:a-secret-of-the-proxy"
	service := newTokenService(t, nil)
	service.handler = func(w http.ResponseWriter, r *http.Request) {
		user, password, _ := r.BasicAuth()
		if user+":"+password != credential || r.Header.Get("Content-Type") != "application/x-www-form-urlencoded" {
			w.WriteHeader(http.StatusUnauthorized)
			return
		}
		w.Header().Set("Content-Type", "application/json")
		issuer, active := "https://id.example", true
		switch strings.TrimSuffix(r.PostFormValue("token"), secretTail) {
		case "active":
		case "of another issuer":
			issuer = "https://elsewhere.example"
		default:
			active = false
		}
		if r.PostFormValue("token_type_hint") != "access_token" || !active {
			_, _ = io.WriteString(w, `{"active":false}`)
			return
		}
		fmt.Fprintf(w, `{"active":true,"iss":%q,"sub":"pump-7","jti":"id-of-the-token","scope":"mqtt read","exp":%d}`, issuer, time.Now().Unix()+4)
	}
	service.start()
	basic := filepath.Join(t.TempDir(), "basic")
	if err := os.WriteFile(basic, []byte(credential+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	p := newProxy(t, fmt.Sprintf("auth:\n  sources:\n    - http: {url: 'http://%s/introspect', preset: introspection, basic_file: %s, require: ['iss=https://id.example', scope=mqtt]}\n", service.address, basic))
	p.keep(strings.TrimPrefix(credential, "proxy:"))
	p.start()
	live, code := enter(t, p, 5, "active")
	if code != packets.Success {
		t.Fatalf("an active token gets %v", code)
	}
	entered := time.Now()
	opened := p.awaitLog("session", func(l logged) bool { return l.String("client_id") == "active" })
	if opened.String("subject") != "pump-7" || opened.String("token_id") != "id-of-the-token" {
		t.Errorf("the session is of %q, %q", opened.String("subject"), opened.String("token_id"))
	}
	for name, want := range map[string]packets.ReasonCode{"inactive": packets.BadUserNameOrPassword, "of another issuer": packets.NotAuthorized} {
		if _, code := enter(t, p, 5, name); code != want {
			t.Errorf("%s: %v, want %v", name, code, want)
		}
	}
	if code, err := live.farewell(patience); err != nil || code != packets.NotAuthorized || time.Since(entered) > 4*time.Second+promised+busy {
		t.Errorf("the session ended with %v, %v after %v, its token after 4s", code, err, time.Since(entered))
	}
	if err := os.WriteFile(basic, []byte("proxy:wrong\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the new credential's failure", func() bool {
		_, code := enter(t, p, 5, "unheard of "+time.Now().String())
		return code == packets.ServerUnavailable
	})
}
