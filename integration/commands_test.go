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
)

// TestTokenCommands follows one device's token through its life, by command line
// alone.
func TestTokenCommands(t *testing.T) {
	t.Parallel()
	p := bareProxy(t)
	first := p.token("pump") // newToken sees to stdout holding nothing else
	second := p.newToken("rotate", "pump", "--overlap", "1h")
	if first == second {
		t.Fatal("rotate printed the old token")
	}
	chosen := "a token that was chosen elsewhere"
	p.keep(chosen)
	if r := p.tokenCommand("create", "chosen", "--token", chosen); r.status != 0 || r.stdout != chosen+"\n" {
		t.Errorf("a chosen token: status %d, printed %q\n%s", r.status, r.stdout, r.stderr)
	}
	asJSON := p.tokenCommand("create", "machine", "--json")
	var made map[string]any
	if err := json.Unmarshal([]byte(asJSON.stdout), &made); err != nil || made["token"] == nil || made["subject"] != "machine" {
		t.Errorf("create --json: %v\n%s", err, asJSON.stderr)
	} else {
		p.keep(fmt.Sprint(made["token"]))
	}
	list := p.tokenCommand("list")
	for _, device := range []string{"pump", "chosen", "machine"} {
		if !strings.Contains(list.stdout, device) {
			t.Errorf("the list lacks %s:\n%s", device, list.all())
		}
	}
	for _, args := range [][]string{{"list"}, {"list", "--json"}, {"show", "pump"}, {"lint"}, {"disable", "pump"}, {"enable", "pump"}, {"revoke", "pump"}} {
		r := p.tokenCommand(args...)
		if r.status != 0 {
			t.Errorf("token %s: status %d\n%s", args, r.status, r.stderr)
		}
		for _, secret := range p.secrets {
			if strings.Contains(r.all(), secret) {
				t.Errorf("token %s prints a token", args)
			}
		}
	}
	if list := p.tokenCommand("list"); strings.Contains(list.stdout, "pump") {
		t.Errorf("after revoke the list has\n%s", list.stdout)
	}
	info, err := os.Stat(filepath.Join(p.data, "tokens.jsonl"))
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("token file: %v, %v, want mode 0600", info.Mode(), err)
	}
}

// TestMistakesOnTheCommandLine: each fails, says so on stderr, says nothing on
// stdout, and leaves no half of anything behind.
func TestMistakesOnTheCommandLine(t *testing.T) {
	t.Parallel()
	p := bareProxy(t)
	token := p.token("pump")
	before, err := os.ReadFile(filepath.Join(p.data, "tokens.jsonl"))
	if err != nil {
		t.Fatal(err)
	}
	data := []string{"--data", p.data}
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
		{[]string{"token", "list", "--file", filepath.Join(p.data, "missing.jsonl")}, "missing.jsonl"},
	} {
		r := command{environ: cleanEnvironment(), argv: append([]string{binary}, tt.args...)}.run(t)
		if r.status == 0 || r.stdout != "" || r.stderr == "" || !strings.Contains(r.stderr, tt.says) {
			t.Errorf("%q: status %d, stdout %q, stderr %q", tt.args, r.status, r.stdout, r.stderr)
		}
		if strings.Contains(r.stderr, token) || strings.Contains(r.stderr, "goroutine ") {
			t.Errorf("%q: stderr %q", tt.args, r.stderr)
		}
	}
	after, err := os.ReadFile(filepath.Join(p.data, "tokens.jsonl"))
	if err != nil || string(after) != string(before) {
		t.Errorf("the token file has changed: %v", err)
	}
}

// TestCheck reports every fault of a config at once, and shows what is in force
// when there is none.
func TestCheck(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	check := func(name, text string) result {
		file := filepath.Join(dir, name)
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return command{dir: dir, environ: cleanEnvironment(), argv: []string{binary, "check", "--config", name}}.run(t)
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
	places := regexp.MustCompile(`(?m)^bad\.yaml:\d+: [\w.]+`).FindAllString(bad.stderr, -1)
	want := []string{
		"bad.yaml:2: listners", "bad.yaml:4: connect.timeout", "bad.yaml:5: connect.max_packet",
		"bad.yaml:7: upstream.servers", "bad.yaml:9: upstream.username", "bad.yaml:10: limits.connections", "bad.yaml:11: limits",
	}
	if bad.status != 1 || bad.stdout != "" || !slices.Equal(places, want) {
		t.Errorf("status %d, faults at\n%q, want\n%q\n%s", bad.status, places, want, bad.all())
	}
	good := check("good.yaml", "upstream: {servers: ['tcp://broker:1883'], username: proxy, password: hush-hush}\n")
	if good.status != 0 || good.stderr != "" || !strings.Contains(good.stdout, "password: '***'") || !strings.Contains(good.stdout, "timeout: 10s") {
		t.Errorf("status %d\n%s", good.status, good.all())
	}
	if text := bad.all() + good.all(); strings.Contains(text, "hush-hush") {
		t.Error("the password was printed")
	}
	if entries, err := os.ReadDir(dir); err != nil || len(entries) != 2 {
		t.Errorf("check left %v behind", entries)
	}
	// What it shows is a config by itself.
	if again := check("again.yaml", good.stdout); again.status != 0 {
		t.Errorf("the config that check shows is refused: %s", again.all())
	}
}

func TestVersion(t *testing.T) {
	t.Parallel()
	if r := run(t, binary, "version"); r.status != 0 || r.stderr != "" || !regexp.MustCompile(`^mqtt-auth-proxy \S+ go1\.\S+ \w+/\w+\n$`).MatchString(r.stdout) {
		t.Errorf("status %d, printed %q", r.status, r.all())
	}
	for _, args := range [][]string{{"help"}, {"--help"}, {"token", "--help"}, {"serve", "--help"}} {
		if r := run(t, append([]string{binary}, args...)...); r.status != 0 || !strings.Contains(r.stdout, "Usage:") {
			t.Errorf("%s: status %d, printed %q", args, r.status, r.all())
		}
	}
}
