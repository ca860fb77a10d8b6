package main

import (
	"bytes"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/authz"
	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/authz/tokenfile"
	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/cmd/internal/presence"
	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/packets/packetstest"
	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/proxy"
)

// runWith runs a command and returns what it writes to both streams.
func runWith(t *testing.T, environ []string, args ...string) (string, error) {
	t.Helper()
	var out, messages bytes.Buffer
	p := &program{stdout: &out, stderr: &messages, environ: environ}
	root := p.rootCommand()
	root.SetArgs(args)
	err := root.ExecuteContext(t.Context())
	return out.String() + messages.String(), err
}

// TestDevicesCommand runs the command against a service that has seen one device.
func TestDevicesCommand(t *testing.T) {
	addrs, data, token := serveOne(t)
	packetstest.Connect(t, packetstest.Dial(t, addrs["127.0.0.1:0"]), packetstest.Identity(5, "test", token))
	run := func(args ...string) (string, error) {
		t.Helper()
		return runWith(t, []string{"MQTT_AUTH_PROXY_ADMIN_ADDRESS=" + addrs["admin"]}, append(args, "--data", data)...)
	}
	line := regexp.MustCompile(`(?m)^pump +yes +\S+Z +\S+Z +127\.0\.0\.1$`)
	out, err := "", error(nil)
	for end := time.Now().Add(time.Minute); !line.MatchString(out); <-time.After(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("devices list: %v\n%s", err, out)
		}
		out, err = run("devices", "list", "--connected") // a session is recorded after its CONNACK
	}
	if out, err := run("devices", "list", "--away", "--json"); err != nil || out != "{\n  \"devices\": []\n}\n" {
		t.Errorf("devices list --away: %v\n%s", err, out)
	}
}

// TestTokensSayWhenTheyWereSeen: from the record in the data directory, and without one or with one
// that cannot be read the commands do the same as ever.
func TestTokensSayWhenTheyWereSeen(t *testing.T) {
	data := t.TempDir()
	state := filepath.Join(data, "state.db")
	made, err := tokenfile.Create(filepath.Join(data, "tokens.jsonl"), tokenfile.CreateOptions{Name: "pump"})
	if err != nil {
		t.Fatal(err)
	}
	run := func(want string, args ...string) {
		t.Helper()
		if out, err := runWith(t, nil, append(args, "--data", data)...); err != nil || !regexp.MustCompile(want).MatchString(out) {
			t.Errorf("%s: %v\n%s", args, err, out)
		}
	}
	run(`good +never +-\n$`, "token", "list")
	r := presence.New(presence.Options{Target: func() presence.Target { return presence.Target{Path: state} }})
	r.Opened(&proxy.Client{Grant: &authz.Grant{Subject: "pump", TokenID: made.ID}})
	if err := r.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	run(`good +never +2\S+Z\n$`, "token", "list")
	run(`"last_seen": "2`, "token", "show", "pump")
	if err := os.WriteFile(state, []byte(strings.Repeat("not a database", 1000)), 0o600); err != nil {
		t.Fatal(err)
	}
	run(`good +never +-\n`, "token", "list")
	run(`warning: cannot read when tokens were last seen: .*state.db`, "token", "list")
}
