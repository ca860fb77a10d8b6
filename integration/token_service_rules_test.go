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

	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/integration/harness"
	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/packets"
	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/packets/packetstest"
)

// TestTokenFileThenService: the service is asked about tokens that are not in the token
// file.
func TestTokenFileThenService(t *testing.T) {
	t.Parallel()
	service := harness.StartTokenService(t, harness.Allow)
	p := harness.NewProxy(t, fmt.Sprintf("auth:\n  sources:\n    - file: {path: tokens.jsonl}\n    - http: {url: 'http://%s/mqtt'}\n", service.Address))
	token := p.Token("filed")
	disabled := p.Token("disabled")
	if r := p.TokenCommand("disable", "disabled"); r.Status != 0 {
		t.Fatal(r.Output())
	}
	p.Start()
	p.Connect(t, 5, "filed", token)
	if _, ack := p.Present(t, 5, "disabled", disabled); ack.Code != packets.NotAuthorized {
		t.Errorf("the token that the file disables gets %v, want %v", ack.Code, packets.NotAuthorized)
	}
	if asked := service.Questions(); len(asked) != 0 {
		t.Errorf("the service was asked %d times about tokens of the file", len(asked))
	}
	if _, code := presentToken(t, p, 5, "elsewhere"); code != packets.Success {
		t.Errorf("the service's token gets %v", code)
	}
	asked := service.Questions()
	if len(asked) != 1 {
		t.Fatalf("the service was asked %d times, want once", len(asked))
	}
	if q := asked[0]; q.V != 1 || q.Token != "elsewhere"+harness.SecretTail || q.ClientID != "elsewhere" || q.Username != "" || q.Reason != "connect" {
		t.Errorf("the service was asked with %d, a token of %d bytes, %q, %q", q.V, len(q.Token), q.ClientID, q.Reason)
	}
	p.Connect(t, 5, "", "elsewhere"+harness.SecretTail)
	if asked := service.Questions(); len(asked) != 1 || asked[0].ClientID != "" {
		t.Errorf("%d questions about a device without a client id, or it was given one", len(asked))
	}
	service.Change(func(harness.Question) harness.Reply { return harness.ReplyJSON(`{"result":"ignore"}`) })
	if _, code := presentToken(t, p, 5, "nobody"); code != packets.BadUserNameOrPassword {
		t.Errorf("a token that no source knows gets %v, want %v", code, packets.BadUserNameOrPassword)
	}
	service.Stop()
	if _, code := presentToken(t, p, 5, "later"); code != packets.ServerUnavailable {
		t.Errorf("a token that the file does not know gets %v without the service, want %v", code, packets.ServerUnavailable)
	}
}

// TestTopicRulesOfAnAnswer: what the rules do not allow does not reach the broker, and a
// 5.0 device gets the reason.
func TestTopicRulesOfAnAnswer(t *testing.T) {
	t.Parallel()
	service := harness.StartTokenService(t, func(q harness.Question) harness.Reply {
		if strings.HasPrefix(q.Token, "observer") {
			return harness.ReplyJSON(`{"result":"allow","subject":"observer"}`)
		}
		return harness.ReplyJSON(`{"result":"allow","subject":"gauge","acl":[{"permission":"allow","action":"all","topics":["plant/${subject}/#"]}]}`)
	})
	p := harness.NewProxy(t, service.Auth())
	p.AddSecret(harness.SecretTail)
	p.Start()
	observer := harness.Subscribe(t, append(p.ClientArgs("observer"+harness.SecretTail), "-q", "1", "-t", "plant/#")...)
	pub := func(topic string, args ...string) harness.Result {
		args = append(p.ClientArgs("gauge"+harness.SecretTail), append(args, "-d", "-q", "1", "-t", topic, "-m", "x")...)
		return harness.MosquittoPub(t, args...)
	}
	if r := pub("plant/gauge/level", "-V", "5"); r.Status != 0 || !strings.Contains(r.Stdout, "RC:0)") {
		t.Errorf("allowed: status %d\n%s", r.Status, r.Output())
	}
	if r := pub("plant/other/level", "-V", "5"); !strings.Contains(r.Stdout, "RC:135)") {
		t.Errorf("forbidden: status %d, want a PUBACK with 135\n%s", r.Status, r.Output())
	}
	// 3.1.1 has no code for this: the message is acknowledged and dropped, or the session ends.
	pub("plant/other/level", "-V", "311")
	p.AwaitLog("what was denied before 5.0", func(l harness.LogLine) bool {
		return l["message"] == "publish denied" && l["subject"] == "gauge" && l["topic"] == "plant/other/level" && l["version"] == "3.1.1"
	})
	d := p.Connect(t, 5, "reader", "gauge"+harness.SecretTail)
	s := packets.Subscribe{Type: packets.SUBSCRIBE, PacketID: 7}
	s.Add("plant/gauge/#", 1)
	s.Add("plant/#", 1)
	s.Add("#", 0)
	if _, err := d.Conn.Write(s.Append(nil, 5)); err != nil {
		t.Fatal(err)
	}
	raw, err := d.ReadType(packets.SUBACK)
	if err != nil {
		t.Fatal(err)
	}
	var ack packets.Suback
	if err := ack.Parse(raw, 5); err != nil || fmt.Sprint(ack.Codes) != fmt.Sprint([]packets.ReasonCode{1, packets.NotAuthorized, packets.NotAuthorized}) {
		t.Errorf("SUBACK %v, %v", ack.Codes, err)
	}
	if _, sessions := p.Get("/v1/sessions?client_id=reader"); !strings.Contains(sessions, `"denied":2`) {
		t.Errorf("of two denied filters the session shows %s", sessions)
	}
	withWill := packetstest.Identity(5, "will", "gauge"+harness.SecretTail)
	withWill.HasWill, withWill.Will = true, packets.Will{Topic: "plant/other/gone"}
	if _, ack := packetstest.Present(t, packetstest.Dial(t, p.Plain), withWill); ack.Code != packets.NotAuthorized {
		t.Errorf("a forbidden will gets %v", ack.Code)
	}
	if r := pub("plant/gauge/last", "-V", "5"); r.Status != 0 {
		t.Errorf("allowed: status %d\n%s", r.Status, r.Output())
	}
	for i, m := range observer.Messages(2) {
		if want := []string{"plant/gauge/level", "plant/gauge/last"}; i >= 2 || m.Topic != want[i] {
			t.Errorf("message %d reached the broker on %s", i, m.Topic)
		}
	}
}

// TestRecheckOfLiveSessions: a session ends when the service denies its token later. It
// does not end when the service is down.
func TestRecheckOfLiveSessions(t *testing.T) {
	t.Parallel()
	service := harness.StartTokenService(t, harness.Allow)
	const every = 6 * time.Second
	p := harness.NewProxy(t, service.Auth("recheck: 6s"))
	p.Start()
	withdrawn, code := presentToken(t, p, 5, "withdrawn")
	kept, codeOfKept := presentToken(t, p, 5, "kept")
	if code != packets.Success || codeOfKept != packets.Success {
		t.Fatalf("refused with %v, %v", code, codeOfKept)
	}
	service.Change(func(q harness.Question) harness.Reply {
		if strings.HasPrefix(q.Token, "withdrawn") {
			return harness.ReplyJSON(`{"result":"deny","reason_code":"banned"}`)
		}
		return harness.Allow(q)
	})
	begun := time.Now()
	got, err := withdrawn.AwaitEnd(harness.Patience)
	took := time.Since(begun)
	t.Logf("cut %v after the service began to say no, with %v", took.Round(time.Millisecond), got)
	if err != nil || got != packets.AdministrativeAction && got != packets.NotAuthorized || took > every+harness.WithdrawalLimit+harness.Slack {
		t.Errorf("the session ended with %v, %v after %v", got, err, took)
	}
	service.Stop()
	service.Questions()
	time.Sleep(every + time.Second)
	if err := kept.Publish("a", "b"); err != nil {
		t.Errorf("the session ended while the service was down: %v", err)
	}
	service.Start()
	harness.Eventually(t, "the next recheck", func() bool {
		for _, q := range service.Questions() {
			if q.Reason == "recheck" && strings.HasPrefix(q.Token, "kept") {
				return true
			}
		}
		return false
	})
}

// TestIntrospection asks an OAuth 2.0 introspection endpoint (RFC 7662).
func TestIntrospection(t *testing.T) {
	t.Parallel()
	credential := "proxy:a-secret-of-the-proxy"
	service := harness.NewTokenService(t, nil)
	service.Handler = func(w http.ResponseWriter, r *http.Request) {
		user, password, _ := r.BasicAuth()
		if user+":"+password != credential || r.Header.Get("Content-Type") != "application/x-www-form-urlencoded" {
			w.WriteHeader(http.StatusUnauthorized)
			return
		}
		w.Header().Set("Content-Type", "application/json")
		issuer, active := "https://id.example", true
		switch strings.TrimSuffix(r.PostFormValue("token"), harness.SecretTail) {
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
		fmt.Fprintf(w, `{"active":true,"iss":%q,"sub":"pump-7","jti":"id-of-the-token","scope":"mqtt read","exp":%d}`, issuer, time.Now().Unix()+15)
	}
	service.Start()
	basic := filepath.Join(t.TempDir(), "basic")
	if err := os.WriteFile(basic, []byte(credential+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	p := harness.NewProxy(t, fmt.Sprintf("auth:\n  sources:\n    - http: {url: 'http://%s/introspect', preset: introspection, basic_file: %s, require: ['iss=https://id.example', scope=mqtt]}\n", service.Address, basic))
	p.AddSecret(strings.TrimPrefix(credential, "proxy:"))
	p.Start()
	live, code := presentToken(t, p, 5, "active")
	if code != packets.Success {
		t.Fatalf("an active token gets %v", code)
	}
	entered := time.Now()
	opened := p.AwaitLog("session", func(l harness.LogLine) bool { return l.String("client_id") == "active" })
	if opened.String("subject") != "pump-7" || opened.String("token_id") != "id-of-the-token" {
		t.Errorf("the session is of %q, %q", opened.String("subject"), opened.String("token_id"))
	}
	for name, want := range map[string]packets.ReasonCode{"inactive": packets.BadUserNameOrPassword, "of another issuer": packets.NotAuthorized} {
		if _, code := presentToken(t, p, 5, name); code != want {
			t.Errorf("%s: %v, want %v", name, code, want)
		}
	}
	if code, err := live.AwaitEnd(harness.Patience); err != nil || code != packets.NotAuthorized || time.Since(entered) > 15*time.Second+harness.WithdrawalLimit+harness.Slack {
		t.Errorf("the session ended with %v, %v after %v, its token after 15s", code, err, time.Since(entered))
	}
	if err := os.WriteFile(basic, []byte("proxy:wrong\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	harness.Eventually(t, "the new credential's failure", func() bool {
		_, code := presentToken(t, p, 5, "unheard of "+time.Now().String())
		return code == packets.ServerUnavailable
	})
}
