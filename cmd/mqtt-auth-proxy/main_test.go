package main

import (
	"os"
	"path/filepath"
	"regexp"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"
)

func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){
		"mqtt-auth-proxy": func() { os.Exit(run(os.Args[1:])) },
	})
}

// TestScripts runs the commands as a shell would.
func TestScripts(t *testing.T) {
	testscript.Run(t, testscript.Params{Dir: "testdata/script", RequireExplicitExec: true})
}

// TestTokensInAFile: the token commands on a token file. TestTokensInPostgres has the same scripts
// on a database.
func TestTokensInAFile(t *testing.T) {
	runTokenScripts(t, func(e *testscript.Env) (name, source string) {
		path := filepath.Join(e.WorkDir, "tokens.jsonl")
		return path, "file: {path: '" + path + "'}"
	})
}

// runTokenScripts runs the scripts that concern every store of tokens. store returns the name of
// the store in messages, and the source in the configuration. In the scripts, $STORE is the name,
// and the command shown writes stdout to a file, without the numbers of lines, which only files
// have.
func runTokenScripts(t *testing.T, store func(*testscript.Env) (name, source string)) {
	setup := func(e *testscript.Env) error {
		name, source := store(e)
		config := filepath.Join(e.WorkDir, "proxy.yaml")
		e.Setenv("MQTT_AUTH_PROXY_CONFIG", config)
		e.Setenv("STORE", name)
		return os.WriteFile(config, []byte("auth: {sources: [{"+source+"}]}\n"), 0o600)
	}
	shown := func(ts *testscript.TestScript, _ bool, args []string) {
		text := regexp.MustCompile(`,\s*"line": ?[0-9]+`).ReplaceAllString(ts.ReadFile("stdout"), "")
		ts.Check(os.WriteFile(ts.MkAbs(args[0]), []byte(text), 0o600))
	}
	testscript.Run(t, testscript.Params{
		Dir: "testdata/tokens", RequireExplicitExec: true, Setup: setup,
		Cmds: map[string]func(*testscript.TestScript, bool, []string){"shown": shown},
	})
}
