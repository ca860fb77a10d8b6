//go:build integration

package recipes

import (
	"os"
	"regexp"
	"strings"
	"testing"

	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/integration/harness"
)

// TestRecipesBeginOnABareMachine: the commands of a recipe about the proxy work in their order
// where nothing has been set up, and give no other user a secret.
func TestRecipesBeginOnABareMachine(t *testing.T) {
	for _, folder := range []string{"mosquitto", "emqx", "rabbitmq", "thingsboard"} {
		r := copyRecipe(t, folder)
		etc, data := r.path("etc"), r.path("data")
		_, block, _ := strings.Cut(r.read("README.md"), "```sh\n")
		block, _, _ = strings.Cut(block, "```\n")
		commands := "set -e; umask 022\n"
		for line := range strings.Lines(block) {
			if ours := regexp.MustCompile(`^(install|\(umask|mqtt-auth-proxy (token|check)) `); ours.MatchString(line) {
				line = strings.ReplaceAll(line, "/etc/mqtt-auth-proxy", etc)
				commands += strings.Replace(line, "mqtt-auth-proxy ", harness.Binary()+" ", 1)
			}
		}
		if folder == "thingsboard" { // whose tokens are its own
			commands += harness.Binary() + " check --config " + etc + "/proxy.yaml\n"
		}
		run := harness.Command{Dir: r.dir, Env: append(harness.CleanEnvironment(), "MQTT_AUTH_PROXY_DATA="+data), Args: []string{"sh", "-c", commands}}.Run(t)
		if run.Status != 0 || strings.Contains(run.Stderr, "every user") || strings.Contains(run.Stderr, "any user") {
			t.Errorf("%s: status %d\n%s", folder, run.Status, run.Stderr)
			continue
		}
		modes := map[string]os.FileMode{etc: 0o750, etc + "/proxy.yaml": 0o640}
		if folder != "thingsboard" {
			modes[etc+"/upstream-password"] = 0o600
		}
		for path, mode := range modes {
			if info, err := os.Stat(path); err != nil || info.Mode().Perm() != mode {
				t.Errorf("%s: %s: %v, %v; want mode %v", folder, path, info, err, mode)
			}
		}
	}
}
