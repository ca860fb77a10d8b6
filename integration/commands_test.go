//go:build integration

package integration

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/integration/harness"
)

// TestTokenCommands follows the tokens of one device through all token commands.
func TestTokenCommands(t *testing.T) {
	t.Parallel()
	p := harness.BareProxy(t)
	first := p.Token("pump") // NewToken fails if stdout holds anything else
	second := p.NewToken("rotate", "pump", "--overlap", "1h")
	if first == second {
		t.Fatal("rotate printed the old token")
	}
	chosen := "a token that was chosen elsewhere"
	p.AddSecret(chosen)
	if r := p.TokenCommand("create", "chosen", "--token", chosen); r.Status != 0 || r.Stdout != chosen+"\n" {
		t.Errorf("a chosen token: status %d, printed %q\n%s", r.Status, r.Stdout, r.Stderr)
	}
	asJSON := p.TokenCommand("create", "machine", "--json")
	var made map[string]any
	if err := json.Unmarshal([]byte(asJSON.Stdout), &made); err != nil || made["token"] == nil || made["subject"] != "machine" {
		t.Errorf("create --json: %v\n%s", err, asJSON.Stderr)
	} else {
		p.AddSecret(fmt.Sprint(made["token"]))
	}
	list := p.TokenCommand("list")
	for _, device := range []string{"pump", "chosen", "machine"} {
		if !strings.Contains(list.Stdout, device) {
			t.Errorf("the list lacks %s:\n%s", device, list.Output())
		}
	}
	for _, args := range [][]string{{"list"}, {"list", "--json"}, {"show", "pump"}, {"lint"}, {"disable", "pump"}, {"enable", "pump"}, {"revoke", "pump"}} {
		r := p.TokenCommand(args...)
		if r.Status != 0 {
			t.Errorf("token %s: status %d\n%s", args, r.Status, r.Stderr)
		}
		for _, secret := range p.Secrets {
			if strings.Contains(r.Output(), secret) {
				t.Errorf("token %s prints a token", args)
			}
		}
	}
	if list := p.TokenCommand("list"); strings.Contains(list.Stdout, "pump") {
		t.Errorf("after revoke the list has\n%s", list.Stdout)
	}
	info, err := os.Stat(filepath.Join(p.Data, "tokens.jsonl"))
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("token file: %v, %v, want mode 0600", info.Mode(), err)
	}
}

// TestMistakesOnTheCommandLine: every mistake makes the command fail with an error on
// stderr. Nothing is printed on stdout, and no file is left behind.
func TestMistakesOnTheCommandLine(t *testing.T) {
	t.Parallel()
	p := harness.BareProxy(t)
	token := p.Token("pump")
	before, err := os.ReadFile(filepath.Join(p.Data, "tokens.jsonl"))
	if err != nil {
		t.Fatal(err)
	}
	data := []string{"--data", p.Data}
	for _, tt := range []struct {
		args []string
		says string // on stderr
	}{
		{[]string{"nonsense"}, "nonsense"},
		{[]string{"serve", "--no-such-flag"}, "no-such-flag"},
		{[]string{"serve", "--config", "no-such-file.yaml"}, "no-such-file.yaml"},
		{append([]string{"token", "create"}, data...), ""},
		{append([]string{"token", "create", "new\nline"}, data...), ""},
		{append([]string{"token", "create", "late", "--expires", "yesterday"}, data...), "yesterday"},
		{append([]string{"token", "create", "again", "--token", token}, data...), ""},
		{append([]string{"token", "revoke", "nobody"}, data...), "nobody"},
		{append([]string{"token", "rotate", "nobody"}, data...), "nobody"},
		{append([]string{"token", "disable", "nobody"}, data...), "nobody"},
		{append([]string{"token", "show", "nobody"}, data...), "nobody"},
		{[]string{"token", "list", "--file", filepath.Join(p.Data, "missing.jsonl")}, "missing.jsonl"},
	} {
		r := harness.Command{Env: harness.CleanEnvironment(), Args: append([]string{harness.Binary()}, tt.args...)}.Run(t)
		if r.Status == 0 || r.Stdout != "" || r.Stderr == "" || !strings.Contains(r.Stderr, tt.says) {
			t.Errorf("%q: status %d, stdout %q, stderr %q", tt.args, r.Status, r.Stdout, r.Stderr)
		}
		if strings.Contains(r.Stderr, token) || strings.Contains(r.Stderr, "goroutine ") {
			t.Errorf("%q: stderr %q", tt.args, r.Stderr)
		}
	}
	after, err := os.ReadFile(filepath.Join(p.Data, "tokens.jsonl"))
	if err != nil || string(after) != string(before) {
		t.Errorf("the token file has changed: %v", err)
	}
}

// TestCheck: the command reports all faults of a config at once. Without a fault it shows
// the configuration in force.
func TestCheck(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	check := func(name, text string) harness.Result {
		file := filepath.Join(dir, name)
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return harness.Command{Dir: dir, Env: harness.CleanEnvironment(), Args: []string{harness.Binary(), "check", "--config", name}}.Run(t)
	}
	bad := check("bad.yaml", `data: here
listners: []
connect:
  timeout: forever
  max_packet: 1GiB
upstream:
  servers: ["http://broker"]
  password: "hush-hush"
  username: "${nonsense}"
limits: {connections: -1}
limits: {per_address: 1}
`)
	places := regexp.MustCompile(`(?m)^bad\.yaml:\d+: [\w.]+`).FindAllString(bad.Stderr, -1)
	want := []string{
		"bad.yaml:2: listners", "bad.yaml:4: connect.timeout", "bad.yaml:5: connect.max_packet",
		"bad.yaml:7: upstream.servers", "bad.yaml:9: upstream.username", "bad.yaml:10: limits.connections", "bad.yaml:11: limits",
	}
	if bad.Status != 1 || bad.Stdout != "" || !slices.Equal(places, want) {
		t.Errorf("status %d, faults at\n%q, want\n%q\n%s", bad.Status, places, want, bad.Output())
	}
	tokens := filepath.Join(t.TempDir(), "tokens.jsonl")
	text := "upstream: {servers: ['tcp://broker:1883'], username: proxy, password: hush-hush}\nauth: {sources: [{file: {path: '" + tokens + "'}}]}\n"
	if r := check("good.yaml", text); r.Status != 1 || !strings.HasPrefix(r.Stderr, "good.yaml:2: auth.sources[0].file: there is no token file ") {
		t.Errorf("status %d without a token file\n%s", r.Status, r.Output())
	}
	if err := os.WriteFile(tokens, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	good := check("good.yaml", text)
	if good.Status != 0 || good.Stderr != "" || !strings.Contains(good.Stdout, "password: '***'") || !strings.Contains(good.Stdout, "timeout: 10s") {
		t.Errorf("status %d\n%s", good.Status, good.Output())
	}
	if text := bad.Output() + good.Output(); strings.Contains(text, "hush-hush") {
		t.Error("the password was printed")
	}
	if entries, err := os.ReadDir(dir); err != nil || len(entries) != 2 {
		t.Errorf("check left %v behind", entries)
	}
	// What it shows is itself a valid config.
	if again := check("again.yaml", good.Stdout); again.Status != 0 {
		t.Errorf("the config that check shows is refused: %s", again.Output())
	}
}

func TestVersion(t *testing.T) {
	t.Parallel()
	if r := harness.Run(t, harness.Binary(), "version"); r.Status != 0 || r.Stderr != "" || !regexp.MustCompile(`^mqtt-auth-proxy \S+ go1\.\S+ \w+/\w+\n$`).MatchString(r.Stdout) {
		t.Errorf("status %d, printed %q", r.Status, r.Output())
	}
	for _, args := range [][]string{{"help"}, {"--help"}, {"token", "--help"}, {"serve", "--help"}} {
		if r := harness.Run(t, append([]string{harness.Binary()}, args...)...); r.Status != 0 || !strings.Contains(r.Stdout, "Usage:") {
			t.Errorf("%s: status %d, printed %q", args, r.Status, r.Output())
		}
	}
}
