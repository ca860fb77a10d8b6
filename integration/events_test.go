//go:build integration

package integration

import (
	"crypto/rand"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/integration/harness"
	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/packets"
)

// TestEventsReachAReceiver: a service that is down while devices come, go and are refused gets
// their events once it is there, and at the end of the proxy the last ones. The service is the
// example in the manual, which takes only what is signed.
func TestEventsReachAReceiver(t *testing.T) {
	t.Parallel()
	python, secret := harness.Need(t, "python3"), rand.Text()+rand.Text()
	file, address := filepath.Join(t.TempDir(), "secret"), harness.FreeAddress(t)
	harness.WriteFile(t, file, secret+"\n")
	p := harness.NewProxy(t, fmt.Sprintf("hooks: {url: 'http://%s/events', secret_file: %q}\n", address, file))
	p.AddSecret(secret)
	good := p.Token("pump-7")
	p.Start()
	p.Connect(t, 5, "live", good)
	p.Connect(t, 4, "short", good).Close()
	if _, connack := p.Present(t, 5, "guess", "a-wrong-token-of-the-story"); connack.Code != packets.BadUserNameOrPassword {
		t.Errorf("a wrong token gets %v", connack.Code)
	}
	harness.Eventually(t, "the failed requests", func() bool {
		_, status := p.Get("/v1/status")
		return strings.Contains(status, `"last_error":"`) && strings.Contains(status, `"hooks":{"receiver":"`+address)
	})

	receiver := harness.Launch(t, nil, python, "event_receiver/receiver.py", file, harness.Port(address))
	has := func(parts ...string) func() bool {
		return func() bool {
			for line := range strings.Lines(receiver.Stdout.String()) {
				found := json.Valid([]byte(line))
				for _, part := range parts {
					found = found && strings.Contains(line, part)
				}
				if found {
					return true
				}
			}
			return false
		}
	}
	harness.Eventually(t, "the connect", has(`"event": "connected"`, `"subject": "pump-7"`, `"client_id": "live"`, `"address": "127.0.0.1:`))
	harness.Eventually(t, "the disconnect", has(`"event": "disconnected"`, `"client_id": "short"`, `"by": "client"`))
	harness.Eventually(t, "the refusal", has(`"event": "refused"`, `"client_id": "guess"`, `"reason": "unknown_token"`))
	if text := receiver.Stdout.String(); strings.Contains(text, good) || strings.Contains(text, "a-wrong-token-of-the-story") {
		t.Error("an event has a token")
	}
	program, err := os.ReadFile("event_receiver/receiver.py")
	if err != nil {
		t.Fatal(err)
	}
	if manual, err := os.ReadFile("../cmd/mqtt-auth-proxy/README.md"); err != nil || !strings.Contains(string(manual), "```python\n"+string(program)+"```\n") {
		t.Errorf("the manual does not show the receiver as it is: %v", err)
	}
	forged := harness.Run(t, harness.Need(t, "curl"), "-s", "-o", "/dev/null", "-w", "%{http_code}", "-H", "X-Timestamp: 1700000000",
		"-H", "X-Signature: hmac-sha256=00", "-d", `{"events":[]}`, "http://"+address+"/events")
	if forged.Stdout != "401" {
		t.Errorf("a request without a signature: %s", forged.Output())
	}

	p.Stop()
	harness.Eventually(t, "the end of the last session", has(`"event": "disconnected"`, `"client_id": "live"`, `"reason": "draining"`))
}
