//go:build integration && linux

package integration

import (
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/integration/harness"
	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/packets"
)

// TestSandbox: the running program cannot read files that its config did not name at the start. A
// reload that needs one fails with that reason, and the program continues as before.
func TestSandbox(t *testing.T) {
	t.Parallel()
	for _, mode := range []string{"auto", "off"} {
		t.Run(mode, func(t *testing.T) {
			t.Parallel()
			s := harness.StartSink(t)
			p := harness.NewProxy(t, s.Upstream()+"sandbox: "+mode+"\n")
			// The stories use the directory for temporary files, to which the program
			// may write.
			private := t.TempDir()
			p.Env = append(p.Env, "TMPDIR="+private)
			token := p.Token("device")
			p.Start()
			confined := mode == "auto" && isConfined(t, p)

			elsewhere := filepath.Join(t.TempDir(), "tokens.jsonl")
			if err := os.WriteFile(elsewhere, []byte("# none yet\n"), 0o600); err != nil {
				t.Fatal(err)
			}
			text, err := os.ReadFile(p.Config)
			if err != nil {
				t.Fatal(err)
			}
			added := string(text) + fmt.Sprintf("auth: {sources: [{file: {path: tokens.jsonl}}, {file: {path: %q}}]}\n", elsewhere)
			if err := os.WriteFile(p.Config, []byte(added), 0o600); err != nil {
				t.Fatal(err)
			}
			status, body := p.Request(http.MethodPost, "/v1/reload", "")
			switch {
			case confined && (status != 422 || !strings.Contains(p.Status(), "the sandbox keeps the proxy to the directories")):
				t.Errorf("a reload that needs a file elsewhere: %d %s, status %s", status, body, p.Status())
			case !confined && status != 200:
				t.Errorf("a reload without a sandbox: %d %s", status, body)
			}
			p.Connect(t, 5, "device", token)
			p.Token("another") // takes effect without a reload
			if _, ack := p.Present(t, 5, "other", "wrong"); ack.Code != packets.BadUserNameOrPassword {
				t.Errorf("a wrong token is answered %v", ack.Code)
			}
		})
	}
}

// isConfined reports whether the kernel supports the sandbox.
func isConfined(t *testing.T, p *harness.Proxy) bool {
	t.Helper()
	// The line about the sandbox comes before this one, and lines come a little later than what they
	// are about.
	p.AwaitLog("a listener", func(l harness.LogLine) bool { return l.String("message") == "listening" })
	return strings.Contains(p.Stderr.String(), "confined to the directories of its files")
}

// TestSecretsStayOutOfTheProcessList: neither the command line nor the environment of the
// program holds a secret.
func TestSecretsStayOutOfTheProcessList(t *testing.T) {
	t.Parallel()
	const password = "a-password-for-the-broker"
	s := harness.StartSink(t)
	p := harness.NewProxy(t, strings.TrimSuffix(s.Upstream(), "}\n")+", password_file: broker-password}\n")
	if err := os.WriteFile(filepath.Join(filepath.Dir(p.Config), "broker-password"), []byte(password), 0o600); err != nil {
		t.Fatal(err)
	}
	token := p.Token("device")
	p.Start()
	p.Connect(t, 5, "device", token)
	admin, err := os.ReadFile(filepath.Join(p.Data, "admin-token"))
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range []string{"cmdline", "environ"} {
		text, err := os.ReadFile(fmt.Sprintf("/proc/%d/%s", p.Cmd.Process.Pid, file))
		if err != nil {
			t.Fatal(err)
		}
		for _, secret := range []string{password, token, strings.TrimSpace(string(admin))} {
			if strings.Contains(string(text), secret) {
				t.Errorf("%s shows a secret that begins with %.4s", file, secret)
			}
		}
	}
	if _, connects := s.Reached(); len(connects) != 1 || string(connects[0].Password) != password {
		t.Error("the broker did not get the password from the file")
	}
}
