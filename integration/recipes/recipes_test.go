//go:build integration

package recipes

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"go.yaml.in/yaml/v4"

	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/integration/harness"
)

// recipe is a copy of the files of a folder, as a reader of its README has it.
type recipe struct {
	t   testing.TB
	dir string
}

// copyRecipe copies a folder. A recipe must work unchanged: only the ports and paths that
// a test machine cannot offer are replaced afterwards.
func copyRecipe(t testing.TB, folder string) *recipe {
	t.Helper()
	r := &recipe{t: t, dir: filepath.Join(t.TempDir(), folder)}
	if err := os.CopyFS(r.dir, os.DirFS(folder)); err != nil {
		t.Fatal(err)
	}
	return r
}

// path returns the path of a file in the copy.
func (r *recipe) path(file string) string { return filepath.Join(r.dir, file) }

func (r *recipe) read(file string) string {
	r.t.Helper()
	text, err := os.ReadFile(r.path(file))
	if err != nil {
		r.t.Fatal(err)
	}
	return string(text)
}

func (r *recipe) write(file, text string) {
	r.t.Helper()
	if err := os.WriteFile(r.path(file), []byte(text), 0o600); err != nil {
		r.t.Fatal(err)
	}
}

// replace replaces texts, each of which must be there.
func (r *recipe) replace(file string, oldnew ...string) {
	r.t.Helper()
	text := r.read(file)
	for i := 0; i < len(oldnew); i += 2 {
		if !strings.Contains(text, oldnew[i]) {
			r.t.Fatalf("%s has no %q", file, oldnew[i])
		}
		text = strings.ReplaceAll(text, oldnew[i], oldnew[i+1])
	}
	r.write(file, text)
}

// proxy installs the program with the recipe's proxy.yaml. Addresses and the data
// directory come from the environment, which takes precedence over the file.
func (r *recipe) proxy(upstream string) *harness.Proxy {
	r.t.Helper()
	p := harness.BareProxy(r.t)
	p.Config = r.path("proxy.yaml")
	p.Env = append(p.Env, "MQTT_AUTH_PROXY_DATA="+p.Data, "MQTT_AUTH_PROXY_ADMIN_ADDRESS="+p.Admin, "MQTT_AUTH_PROXY_LOG_LEVEL=debug",
		"MQTT_AUTH_PROXY_LISTENERS_0_ADDRESS="+p.Plain, "MQTT_AUTH_PROXY_LISTENERS_1_ADDRESS="+p.TLS)
	if upstream != "" {
		p.Env = append(p.Env, "MQTT_AUTH_PROXY_UPSTREAM_SERVERS="+upstream)
	}
	return p
}

// check runs the command check on the recipe's proxy.yaml with the environment of p.
func (r *recipe) check(p *harness.Proxy) {
	r.t.Helper()
	if c := (harness.Command{Env: p.Env, Args: []string{harness.Binary(), "check", "--config", p.Config}}).Run(r.t); c.Status != 0 {
		r.t.Fatalf("check: status %d\n%s", c.Status, c.Output())
	}
}

// documents returns the documents of a YAML file.
func (r *recipe) documents(file string) (all []map[string]any) {
	r.t.Helper()
	for part := range strings.SplitSeq("\n"+r.read(file), "\n---\n") {
		var doc map[string]any
		if err := yaml.Unmarshal([]byte(part), &doc); err != nil {
			r.t.Fatalf("%s: %v", file, err)
		}
		if doc != nil {
			all = append(all, doc)
		}
	}
	return all
}

// lookup returns the value in a document at a path of keys and list indexes.
func lookup(t testing.TB, doc any, path ...any) any {
	t.Helper()
	for i, key := range path {
		switch key := key.(type) {
		case string:
			m, ok := doc.(map[string]any)
			if doc = m[key]; !ok || doc == nil {
				t.Fatalf("there is no %v", path[:i+1])
			}
		case int:
			list, ok := doc.([]any)
			if !ok || len(list) <= key {
				t.Fatalf("there is no %v", path[:i+1])
			}
			doc = list[key]
		}
	}
	return doc
}

func asJSON(t testing.TB, v any) string {
	t.Helper()
	b, err := json.MarshalIndent(v, "", " ")
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// TestREADMELinksRecipes: the README links to every recipe, and each recipe has a README.
func TestREADMELinksRecipes(t *testing.T) {
	text, err := os.ReadFile("../../README.md")
	if err != nil {
		t.Fatal(err)
	}
	readmes, err := filepath.Glob("*/README.md")
	if err != nil || len(readmes) == 0 {
		t.Fatalf("no recipes: %v", err)
	}
	for _, readme := range readmes {
		if link := fmt.Sprintf("(integration/recipes/%s", filepath.ToSlash(filepath.Dir(readme))); !strings.Contains(string(text), link) {
			t.Errorf("README.md does not lead to %s", readme)
		}
	}
}
