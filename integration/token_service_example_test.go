//go:build integration

package integration

import (
	"crypto/rand"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/integration/harness"
	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/packets"
)

// startExample runs the example service and returns its address.
func startExample(t *testing.T) string {
	t.Helper()
	address := harness.FreeAddress(t)
	service := harness.Launch(t, nil, harness.Need(t, "python3"), "token_service/service.py", harness.Port(address))
	harness.Eventually(t, "the example's readiness", func() bool {
		conn, err := net.Dial("tcp", address)
		if err != nil {
			select {
			case <-service.Exited:
				t.Fatalf("the example ended\n%s", service.Stderr)
			default:
			}
			return false
		}
		conn.Close()
		return true
	})
	return address
}

// TestExampleService: the example service gives the answers shown in the manual, and
// devices get the codes that follow from them.
func TestExampleService(t *testing.T) {
	t.Parallel()
	address := startExample(t)
	var script, want strings.Builder
	for _, block := range manualBlocks(t, "console") {
		for line := range strings.Lines(block) {
			if command, ok := strings.CutPrefix(line, "$ "); ok {
				script.WriteString(strings.ReplaceAll(command, "127.0.0.1:8090", address))
			} else {
				want.WriteString(line)
			}
		}
	}
	harness.Need(t, "curl")
	if r := harness.Run(t, "sh", "-c", script.String()); r.Status != 0 || r.Stdout != want.String() || want.Len() == 0 {
		t.Errorf("status %d, the commands of the manual print\n%s, want\n%s", r.Status, r.Output(), want.String())
	}

	p := harness.NewProxy(t, fmt.Sprintf("auth:\n  sources:\n    - http: {url: 'http://%s/mqtt'}\n", address))
	p.Start()
	for token, want := range map[string][2]int{
		"pump-7-token": {0, 0}, "gauge-3-token": {0, 0}, "valve-2-token": {5, 0x87}, "guest-token": {5, 0x87}, "a-guess": {5, 0x86},
	} {
		for i, version := range []string{"mqttv311", "mqttv5"} {
			args := []string{"-V", version, "-d", "-q", "1", "-t", "v1/devices/me/telemetry", "-m", `{"a":1}`}
			p.AddSecret(token)
			if r := harness.MosquittoPub(t, append(p.ClientArgs(token), args...)...); r.Status != want[i] {
				t.Errorf("%.5s..., %s: status %d, want %d\n%s", token, version, r.Status, want[i], r.Output())
			}
		}
	}
	d, connack := p.Present(t, 5, "gauge", "gauge-3-token")
	if qos, ok := connack.Properties.MaximumQoS(); !ok || qos != 1 {
		t.Errorf("the limit max_qos of the example: Maximum QoS %d, %v", qos, ok)
	}
	if err := d.Publish("elsewhere", "x"); err == nil || !strings.Contains(err.Error(), packets.NotAuthorized.String()) {
		t.Errorf("a topic that the example does not allow: %v", err)
	}
}

// TestPushedRevocation: the command with which the manual revokes a token works.
func TestPushedRevocation(t *testing.T) {
	t.Parallel()
	harness.Need(t, "curl")
	harness.Need(t, "openssl")
	service := harness.StartTokenService(t, func(harness.Question) harness.Reply {
		return harness.ReplyJSON(`{"result":"allow","subject":"pump-7"}`)
	})
	p := harness.NewProxy(t, service.Auth())
	dir, secret := t.TempDir(), rand.Text()+rand.Text()
	p.AddSecret(secret)
	if err := os.WriteFile(filepath.Join(dir, "push-secret"), []byte(secret+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	p.Env = append(p.Env, "MQTT_AUTH_PROXY_ADMIN_PUSH_SECRET_FILE="+filepath.Join(dir, "push-secret"))
	p.Start()
	live, code := presentToken(t, p, 5, "pump")
	if code != packets.Success {
		t.Fatalf("refused with %v", code)
	}
	blocks := manualBlocks(t, "sh")
	if len(blocks) != 1 {
		t.Fatalf("%d blocks of shell, want only the revocation", len(blocks))
	}
	script := strings.ReplaceAll(blocks[0], "127.0.0.1:9883", p.Admin)
	again := script[strings.LastIndex(script, "curl"):]
	r := harness.Command{Dir: dir, Args: []string{"sh", "-c", script + "echo\n" + again}}.Run(t)
	first, second, _ := strings.Cut(r.Stdout, "}")
	if first+"}" != `{"entries":1,"sessions":1}` || !strings.Contains(second, `409`) {
		t.Errorf("status %d\n%s", r.Status, r.Output())
	}
	if code, err := live.AwaitEnd(harness.Patience); err != nil || code != packets.AdministrativeAction {
		t.Errorf("the session ended with %v, %v", code, err)
	}
	if _, code := presentToken(t, p, 5, "pump"); code != packets.NotAuthorized {
		t.Errorf("the withdrawn token gets %v", code)
	}
	if r := (harness.Command{Dir: dir, Args: []string{"sh", "-c", "cd " + t.TempDir() + " && echo another-secret > push-secret\n" + script}}).Run(t); !strings.Contains(r.Stdout, "401") {
		t.Errorf("a push with another secret: %s", r.Output())
	}
}

// TestManualConfigs: every proxy.yaml in the manual for token services is valid.
func TestManualConfigs(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "introspection-client"), []byte("proxy:secret\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	blocks := manualBlocks(t, "yaml")
	for i, block := range blocks {
		file := filepath.Join(dir, fmt.Sprintf("proxy-%d.yaml", i))
		if err := os.WriteFile(file, []byte(block), 0o600); err != nil {
			t.Fatal(err)
		}
		if r := harness.Run(t, harness.Binary(), "check", "--config", file, "--data", dir); r.Status != 0 {
			t.Errorf("%s\n%s", block, r.Output())
		}
	}
	if len(blocks) < 9 {
		t.Errorf("%d configs, want one for each preset and more", len(blocks))
	}
}

// TestThingsBoardAsTokenService: the configuration of the manual asks ThingsBoard's
// device API, which the test provides.
func TestThingsBoardAsTokenService(t *testing.T) {
	t.Parallel()
	service := harness.NewTokenService(t, nil)
	service.Handler = func(w http.ResponseWriter, r *http.Request) {
		token, ok := strings.CutPrefix(r.URL.Path, "/api/v1/")
		token, ok2 := strings.CutSuffix(token, "/attributes")
		switch {
		case !ok || !ok2 || r.Method != http.MethodGet || r.URL.RawQuery != "clientKeys=x":
			w.WriteHeader(http.StatusNotFound)
		case token == "good/+ token"+harness.SecretTail:
			w.Header().Set("Content-Type", "application/json")
			fmt.Fprint(w, `{}`)
		case token == "broken"+harness.SecretTail:
			w.WriteHeader(http.StatusInternalServerError)
		default:
			w.WriteHeader(http.StatusUnauthorized)
		}
	}
	service.Start()
	p := harness.NewProxy(t, fmt.Sprintf("auth:\n  sources:\n    - http: {url: 'http://%s/api/v1/${token}/attributes?clientKeys=x', preset: status}\n", service.Address))
	p.Start()
	for name, want := range map[string]packets.ReasonCode{
		"good/+ token": packets.Success, "bad": packets.BadUserNameOrPassword, "broken": packets.ServerUnavailable, "../x": packets.BadUserNameOrPassword,
	} {
		if _, code := presentToken(t, p, 5, name); code != want {
			t.Errorf("%s: %v, want %v", name, code, want)
		}
	}
}
