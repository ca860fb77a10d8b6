package service

import (
	"encoding/json"
	"errors"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/authz"
	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/authz/tokenfile"
	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/cmd/internal/config"
	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/cmd/internal/page"
	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/packets"
	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/proxy"
)

// TestSubjectThatCannotBeInATopicIsRefused: with the bundled broker, which has topics with the
// subject in them.
func TestSubjectThatCannotBeInATopicIsRefused(t *testing.T) {
	source := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		var question struct{ Token string }
		_ = json.NewDecoder(r.Body).Decode(&question)
		answer, _ := json.Marshal(map[string]string{"result": "allow", "subject": question.Token[len("subject="):], "token_id": "t"})
		w.Header().Set("Content-Type", "application/json")
		_, _ = w.Write(answer)
	}))
	defer source.Close()
	s, _ := startService(t, bundledConfig+"auth: {sources: [{http: {url: '"+source.URL+"', timeout: 1m, body: '{\"token\":\"${token}\"}'}}]}\n")
	for _, level := range []byte{3, 4, 5} {
		want := packets.RefusedIdentifier
		if level == 5 {
			want = packets.ClientIDNotValid
		}
		for _, subject := range []string{"plant/pump", "me", "pump+", "#", "pump\u0001"} {
			p := packets.Connect{Level: level, CleanStart: true, ClientID: "test", HasUsername: true, Username: "subject=" + subject}
			if _, ack := login(t, s, p); ack.Code != want {
				t.Errorf("level %d, subject %q: CONNACK %v, want %v", level, subject, ack.Code, want)
			}
		}
		p := packets.Connect{Level: level, CleanStart: true, ClientID: "test", HasUsername: true, Username: "subject=pump (1)"}
		if _, ack := login(t, s, p); ack.Code != packets.Success {
			t.Errorf("level %d: CONNACK %v", level, ack.Code)
		}
	}
	await(t, "all refusals are counted", func() bool { return s.reading().Totals[page.SeriesRefused+"subject_not_usable"] == 15 })
}

// TestExternalBrokerTakesEverySubject: the topics of an external broker need not contain the
// subject.
func TestExternalBrokerTakesEverySubject(t *testing.T) {
	path := filepath.Join(t.TempDir(), "proxy.yaml")
	if err := os.WriteFile(path, []byte("upstream: {servers: ['tcp://127.0.0.1:1']}\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	external, err := Load(config.Options{Path: path}, "test")
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(bundledConfig), 0o600); err != nil {
		t.Fatal(err)
	}
	bundled, err := Load(config.Options{Path: path}, "test")
	if err != nil {
		t.Fatal(err)
	}
	request := func() *proxy.ConnectRequest {
		in := &packets.Connect{Level: 4, ClientID: "a"}
		out := *in
		return &proxy.ConnectRequest{Client: &proxy.Client{Grant: &authz.Grant{Subject: "plant/pump"}}, ClientID: "a", In: in, Out: &out}
	}
	if err := external.credentials.rewrite(request()); err != nil {
		t.Errorf("external broker: %v", err)
	}
	refused, ok := errors.AsType[*proxy.RefusedError](bundled.credentials.rewrite(request()))
	if !ok || refused.Reason != proxy.SubjectNotUsable {
		t.Errorf("bundled broker: %v", refused)
	}
}

// TestCheckWarnsOfSubjectsThatAreRefused: devices with such subjects can no longer connect to the
// bundled broker. With an external broker there is no warning.
func TestCheckWarnsOfSubjectsThatAreRefused(t *testing.T) {
	dir := t.TempDir()
	tokens, path := filepath.Join(dir, "tokens.jsonl"), filepath.Join(dir, "proxy.yaml")
	for _, name := range []string{"pump-1", "plant/pump", "me"} {
		if _, err := tokenfile.Create(tokens, tokenfile.CreateOptions{Name: name}); err != nil {
			t.Fatal(err)
		}
	}
	warned := func(yaml string) (about []string) {
		t.Helper()
		if err := os.WriteFile(path, []byte("auth: {sources: [{file: {path: "+tokens+"}}]}\n"+yaml), 0o600); err != nil {
			t.Fatal(err)
		}
		plan, err := Load(config.Options{Path: path}, "test")
		if err != nil {
			t.Fatal(err)
		}
		for _, w := range subjectWarnings(plan.Config) {
			about = append(about, w.String())
		}
		return about
	}
	if got := warned(""); len(got) != 1 || !strings.Contains(got[0], `auth.sources[0].file.path: has 2 tokens of devices that the bundled broker refuses, such as line 3, device "plant/pump": the subject contains one of /`) {
		t.Errorf("warned of %q", got)
	}
	if got := warned("upstream: {servers: ['tcp://127.0.0.1:1']}\n"); got != nil {
		t.Errorf("with an external broker warned of %q", got)
	}
}
