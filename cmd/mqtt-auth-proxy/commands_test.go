package main

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/spf13/cobra"
)

// allCommands returns root and every command below it.
func allCommands(root *cobra.Command) []*cobra.Command {
	all := []*cobra.Command{root}
	for _, sub := range root.Commands() {
		all = append(all, allCommands(sub)...)
	}
	return all
}

func quietProgram() *program {
	return &program{stdout: new(bytes.Buffer), stderr: new(bytes.Buffer)}
}

// TestEveryCommandHasAnExample: the help of each command ends with an example that the command
// takes.
func TestEveryCommandHasAnExample(t *testing.T) {
	for _, c := range allCommands(quietProgram().rootCommand()) {
		if c.Example == "" {
			t.Errorf("%s has no example", c.CommandPath())
			continue
		}
		if strings.Contains(c.Long, "\n  mqtt-auth-proxy ") {
			t.Errorf("%s has an example in its Long text; it belongs in the field Example", c.CommandPath())
		}
		for line := range strings.Lines(c.Example) {
			if err := tryExample(c.CommandPath(), line); err != nil {
				t.Errorf("%s: example %q: %v", c.CommandPath(), line, err)
			}
		}
	}
}

// tryExample parses the arguments of an example of the command with that path.
func tryExample(path, line string) error {
	_, words, found := strings.Cut(line, "mqtt-auth-proxy ")
	if !found || !strings.HasPrefix(line, "  ") {
		return fmt.Errorf("is not an indented call of the program")
	}
	if end := strings.IndexAny(words, "|<>;)"); end >= 0 {
		words = words[:end]
	}
	root := quietProgram().rootCommand()
	c, rest, err := root.Find(strings.Fields(strings.ReplaceAll(words, "'", "")))
	if err != nil {
		return err
	}
	root.InitDefaultVersionFlag()
	if err := c.ParseFlags(rest); err != nil {
		return err
	}
	if !strings.HasPrefix(c.CommandPath(), path) && c != root && path != "mqtt-auth-proxy version" {
		return fmt.Errorf("is an example of %s", c.CommandPath())
	}
	return c.ValidateArgs(c.Flags().Args())
}

// TestAWrongCommandIsAnError: at every level a command that does not exist is an error, which names
// the one that was most likely meant.
func TestAWrongCommandIsAnError(t *testing.T) {
	for _, c := range allCommands(quietProgram().rootCommand()) {
		if !c.HasSubCommands() {
			continue
		}
		path := strings.Fields(c.CommandPath())[1:]
		for _, sub := range c.Commands() {
			wrong := sub.Name()[:len(sub.Name())-1] + "#"
			root := quietProgram().rootCommand()
			root.SetArgs(append(path[:len(path):len(path)], wrong))
			want := "did you mean " + sub.Name() + "?"
			if err := root.Execute(); err == nil || !strings.Contains(err.Error(), want) {
				t.Errorf("%s %s: %v, want %q", c.CommandPath(), wrong, err, want)
			}
		}
	}
}

// TestCompletionOfDevices: names in the token file that begin with what was typed are offered, and
// none that a shell would act on. Nothing else is printed.
func TestCompletionOfDevices(t *testing.T) {
	var lines strings.Builder
	for i, name := range []string{"pump-1", "pump-2", "pump-$(touch x)", "pump 3", "fan-1", "pump-2"} {
		fmt.Fprintf(&lines, `{"id":"t%d","subject":%q,"token_hash":"sha256:%064x"}`+"\n", i, name, i+1)
	}
	file := filepath.Join(t.TempDir(), "tokens.jsonl")
	if err := os.WriteFile(file, []byte(lines.String()), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, of := range []string{"revoke", "disable", "enable", "rotate", "extend", "show"} {
		if got, want := completionOf(t, "token", of, "--file", file, "pu"), "pump-1\npump-2\n:4\n"; got != want {
			t.Errorf("%s: %q, want %q", of, got, want)
		}
	}
	for _, wrong := range []string{file + ".none", t.TempDir()} {
		if got, want := completionOf(t, "token", "revoke", "--file", wrong, ""), ":4\n"; got != want {
			t.Errorf("without tokens: %q, want %q", got, want)
		}
	}
	if err := os.Truncate(file, maxCompletedFile+1); err != nil {
		t.Fatal(err)
	}
	if got, want := completionOf(t, "token", "revoke", "--file", file, "pu"), ":4\n"; got != want {
		t.Errorf("with a large file: %q, want %q", got, want)
	}
}

// TestCompletionIsBounded: of many names a hundred are offered.
func TestCompletionIsBounded(t *testing.T) {
	var lines strings.Builder
	for i := range 3 * maxCompleted {
		fmt.Fprintf(&lines, `{"id":"t%d","subject":"pump-%d","token_hash":"sha256:%064x"}`+"\n", i, i, i+1)
	}
	file := filepath.Join(t.TempDir(), "tokens.jsonl")
	if err := os.WriteFile(file, []byte(lines.String()), 0o600); err != nil {
		t.Fatal(err)
	}
	if n := strings.Count(completionOf(t, "token", "revoke", "--file", file, ""), "pump-"); n != maxCompleted {
		t.Errorf("%d names, want %d", n, maxCompleted)
	}
}

// TestCompletionOfChoices: a flag with fixed choices offers them.
func TestCompletionOfChoices(t *testing.T) {
	for _, c := range []struct {
		args []string
		want string
	}{
		{[]string{"token", "import", "--format", ""}, "mosquitto"},
		{[]string{"token", "export", "--format", ""}, "csv"},
		{[]string{"token", "list", "--state", ""}, "disabled"},
		{[]string{"token", "list", "--source", ""}, "file0"},
		{[]string{"refusals", "list", "--reason", ""}, "unknown_token"},
		{[]string{"topic", "--qos", ""}, "2"},
	} {
		if got := completionOf(t, c.args...); !strings.Contains(got, c.want+"\n") {
			t.Errorf("%v: %q lacks %s", c.args, got, c.want)
		}
	}
}

// TestCompletionOfBrokers: a broker to drain or to enable is one of the configuration.
func TestCompletionOfBrokers(t *testing.T) {
	file := filepath.Join(t.TempDir(), "proxy.yaml")
	if err := os.WriteFile(file, []byte("upstream: {servers: ['tcp://10.0.0.1', 'tls://b:8883']}\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, of := range []string{"drain", "enable"} {
		if got, want := completionOf(t, "brokers", of, "--config", file, ""), "tcp://10.0.0.1:1883\ntls://b:8883\n:4\n"; got != want {
			t.Errorf("%s: %q, want %q", of, got, want)
		}
	}
}

// completionOf returns what the shell gets for a line that ends with the last argument. Anything on
// stderr besides the note of cobra about the directive is an error.
func completionOf(t *testing.T, args ...string) string {
	t.Helper()
	var out, errors bytes.Buffer
	root := (&program{stdout: &out, stderr: &errors}).rootCommand()
	root.SetArgs(append([]string{cobra.ShellCompNoDescRequestCmd}, args...))
	if err := root.Execute(); err != nil {
		t.Errorf("%v: %v", args, err)
	}
	if text := errors.String(); strings.Count(text, "\n") > 1 || !strings.HasPrefix(text, "Completion ended") {
		t.Errorf("%v: stderr %q", args, text)
	}
	return out.String()
}
