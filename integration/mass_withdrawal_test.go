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

	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/packets"
)

// fleetToken is the token of one of a fleet's devices.
func fleetToken(n int) string { return fmt.Sprintf("token-of-fleet-device-%d", n) }

// fleetFile is a token file with the devices 0 to n-1.
func fleetFile(n int) string {
	var text strings.Builder
	for i := range n {
		fmt.Fprintf(&text, `{"id":"fleet-%d","token_hash":"sha256:%x"}`+"\n", i, sha256.Sum256([]byte(fleetToken(i))))
	}
	return text.String()
}

// rename puts a file in the place of another.
func rename(t *testing.T, file, content string) {
	t.Helper()
	write(t, file+".new", content)
	if err := os.Rename(file+".new", file); err != nil {
		t.Fatal(err)
	}
}

// TestMassWithdrawal: most of a fleet's tokens are withdrawn at once, which counts at
// once whichever way it is meant, and not at all if the file may be half written.
func TestMassWithdrawal(t *testing.T) {
	t.Parallel()
	left := fleetFile(15)
	for name, withdraw := range map[string]func(t *testing.T, p *proxy, file string){
		"renamed over": func(t *testing.T, _ *proxy, file string) { rename(t, file, left) },
		"behind a link": func(t *testing.T, _ *proxy, file string) {
			write(t, file+".2", left)
			if err := os.Symlink(file+".2", file+".link"); err != nil {
				t.Fatal(err)
			}
			if err := os.Rename(file+".link", file); err != nil {
				t.Fatal(err)
			}
		},
		"with an end line": func(t *testing.T, _ *proxy, file string) { write(t, file, left+`{"end":true,"count":15}`+"\n") },
		"with SIGHUP": func(t *testing.T, p *proxy, file string) {
			write(t, file, left)
			p.signal(syscall.SIGHUP)
		},
		"with a reload": func(t *testing.T, p *proxy, file string) {
			write(t, file, left)
			if status, text := p.request(http.MethodPost, "/v1/reload", ""); status != 200 {
				t.Errorf("the reload is answered %s", text)
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := startFleet(t)
			file := filepath.Join(p.data, "tokens.jsonl")
			gone := connect(t, dial(t, p.plain), identity(5, "gone", fleetToken(30)))
			stays := connect(t, dial(t, p.plain), identity(5, "stays", fleetToken(3)))
			withdraw(t, p, file)
			begin := time.Now()
			if code, err := gone.farewell(patience); err != nil || code != packets.AdministrativeAction {
				t.Errorf("the session of a withdrawn token: %v, %v", code, err)
			}
			if took := time.Since(begin); took > promised+busy {
				t.Errorf("it took %v, promised is %v", took, promised)
			}
			if err := stays.publish("a", "b"); err != nil {
				t.Errorf("the session of a token that stays: %v", err)
			}
			p.awaitLog("the reason", func(l logged) bool {
				return l.String("message") == "token file accepted although most entries are gone" && l.String("because") != ""
			})
		})
	}
}

// TestHalfWrittenTokenFile: the file is cut between two lines, or empty. No session
// ends, the log says what to do, and to do it is enough.
func TestHalfWrittenTokenFile(t *testing.T) {
	t.Parallel()
	p := startFleet(t)
	file := filepath.Join(p.data, "tokens.jsonl")
	live := connect(t, dial(t, p.plain), identity(5, "live", fleetToken(30)))
	for content, advice := range map[string]string{
		fleetFile(15): "send SIGHUP or POST /v1/reload",
		"":            `write the line {"end":true,"count":0} into it`,
	} {
		write(t, file, content)
		p.awaitLog("refusal", func(l logged) bool { return strings.Contains(l.String("error"), advice) })
		if !strings.Contains(p.lastReload(), strings.ReplaceAll(advice, `"`, `\"`)) {
			t.Errorf("the status does not have the advice: %s", p.lastReload())
		}
		if err := live.publish("a", "b"); err != nil {
			t.Errorf("a live session after a half-written file: %v", err)
		}
		connect(t, dial(t, p.plain), identity(5, "new", fleetToken(31)))
	}
	write(t, file, `{"end":true,"count":0}`+"\n")
	if code, err := live.farewell(patience); err != nil || code != packets.AdministrativeAction {
		t.Errorf("the session after the withdrawal that the advice is for: %v, %v", code, err)
	}
}

// startFleet runs the program in front of a sink, with a fleet of forty devices.
func startFleet(t *testing.T) *proxy {
	t.Helper()
	p := newProxy(t, startSink(t).upstream())
	if err := os.MkdirAll(p.data, 0o700); err != nil {
		t.Fatal(err)
	}
	write(t, filepath.Join(p.data, "tokens.jsonl"), fleetFile(40))
	p.start()
	return p
}
