//go:build integration

package integration

import (
	"crypto/sha256"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/integration/harness"
	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/packets"
)

// fleetToken returns the token of device n of the fleet.
func fleetToken(n int) string { return fmt.Sprintf("token-of-fleet-device-%d", n) }

// fleetFile returns a token file with the devices 0 to n-1.
func fleetFile(n int) string {
	var text strings.Builder
	for i := range n {
		fmt.Fprintf(&text, `{"id":"fleet-%d","token_hash":"sha256:%x"}`+"\n", i, sha256.Sum256([]byte(fleetToken(i))))
	}
	return text.String()
}

// rename replaces a file by renaming another one.
func rename(t *testing.T, file, content string) {
	t.Helper()
	harness.WriteFile(t, file+".new", content)
	if err := os.Rename(file+".new", file); err != nil {
		t.Fatal(err)
	}
}

// TestMassWithdrawal: most tokens of a fleet are withdrawn in one edit. It takes effect
// at once in every way that shows intent, and not at all if the file may be half written.
func TestMassWithdrawal(t *testing.T) {
	t.Parallel()
	left := fleetFile(15)
	for name, withdraw := range map[string]func(t *testing.T, p *harness.Proxy, file string){
		"renamed over": func(t *testing.T, _ *harness.Proxy, file string) { rename(t, file, left) },
		"behind a link": func(t *testing.T, _ *harness.Proxy, file string) {
			harness.WriteFile(t, file+".2", left)
			if err := os.Symlink(file+".2", file+".link"); err != nil {
				t.Fatal(err)
			}
			if err := os.Rename(file+".link", file); err != nil {
				t.Fatal(err)
			}
		},
		"with an end line": func(t *testing.T, _ *harness.Proxy, file string) {
			harness.WriteFile(t, file, left+`{"end":true,"count":15}`+"\n")
		},
		"with SIGHUP": func(t *testing.T, p *harness.Proxy, file string) {
			harness.WriteFile(t, file, left)
			p.Signal(syscall.SIGHUP)
		},
		"with a reload": func(t *testing.T, p *harness.Proxy, file string) {
			harness.WriteFile(t, file, left)
			if status, text := p.Request(http.MethodPost, "/v1/reload", ""); status != 200 {
				t.Errorf("the reload is answered %s", text)
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := startFleet(t)
			file := filepath.Join(p.Data, "tokens.jsonl")
			gone := p.Connect(t, 5, "gone", fleetToken(30))
			stays := p.Connect(t, 5, "stays", fleetToken(3))
			withdraw(t, p, file)
			begin := time.Now()
			if code, err := gone.AwaitEnd(harness.Patience); err != nil || code != packets.AdministrativeAction {
				t.Errorf("the session of a withdrawn token: %v, %v", code, err)
			}
			if took := time.Since(begin); took > harness.WithdrawalLimit+harness.Slack {
				t.Errorf("it took %v, promised is %v", took, harness.WithdrawalLimit)
			}
			if err := stays.Publish("a", "b"); err != nil {
				t.Errorf("the session of a token that stays: %v", err)
			}
			p.AwaitLog("the reason", func(l harness.LogLine) bool {
				return l.String("message") == "token file accepted although most entries are gone" && l.String("because") != ""
			})
		})
	}
}

// TestHalfWrittenTokenFile: the token file is cut between two lines, or is empty. No
// session ends, and the log says how to confirm the change if it is meant.
func TestHalfWrittenTokenFile(t *testing.T) {
	t.Parallel()
	p := startFleet(t)
	file := filepath.Join(p.Data, "tokens.jsonl")
	live := p.Connect(t, 5, "live", fleetToken(30))
	for content, advice := range map[string]string{
		fleetFile(15): "send SIGHUP or POST /v1/reload",
		"":            `write the line {"end":true,"count":0} into it`,
	} {
		harness.WriteFile(t, file, content)
		p.AwaitLog("refusal", func(l harness.LogLine) bool { return strings.Contains(l.String("error"), advice) })
		if !strings.Contains(p.Status(), strings.ReplaceAll(advice, `"`, `\"`)) {
			t.Errorf("the status does not have the advice: %s", p.Status())
		}
		if err := live.Publish("a", "b"); err != nil {
			t.Errorf("a live session after a half-written file: %v", err)
		}
		p.Connect(t, 5, "new", fleetToken(31))
	}
	harness.WriteFile(t, file, `{"end":true,"count":0}`+"\n")
	if code, err := live.AwaitEnd(harness.Patience); err != nil || code != packets.AdministrativeAction {
		t.Errorf("the session after the withdrawal that the advice is for: %v, %v", code, err)
	}
}

// startFleet runs the program in front of a sink, with a fleet of forty devices.
func startFleet(t *testing.T) *harness.Proxy {
	t.Helper()
	p := harness.NewProxy(t, harness.StartSink(t).Upstream())
	if err := os.MkdirAll(p.Data, 0o700); err != nil {
		t.Fatal(err)
	}
	harness.WriteFile(t, filepath.Join(p.Data, "tokens.jsonl"), fleetFile(40))
	p.Start()
	return p
}
