//go:build integration && linux

package integration

import (
	"crypto/rand"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/authz"
	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/integration/harness"
)

// guide is a section of a page of the manual, with a folder in which the test follows its instructions.
type guide struct {
	t      *testing.T
	dir    string
	env    []string
	blocks map[string][]string // of code, by their language
	used   map[string]bool
	texts  []string // of the section, each followed by what takes its place on this machine
}

// follow reads a section of the page about migration.
func follow(t *testing.T, heading string, texts ...string) *guide {
	t.Helper()
	return followPage(t, "MIGRATION.md", heading, texts...)
}

// followPage reads the section with that heading. Every block of code of it must be used by the
// test. texts, each followed by another, are replaced in it.
func followPage(t *testing.T, page, heading string, texts ...string) *guide {
	t.Helper()
	g := &guide{t: t, dir: t.TempDir(), blocks: map[string][]string{}, used: map[string]bool{}, texts: texts}
	_, section, found := strings.Cut(harness.ReadFile(t, "..", "cmd", "mqtt-auth-proxy", page), "\n"+heading+"\n")
	if !found {
		t.Fatalf("the page has no section %q", heading)
	}
	section, _, _ = strings.Cut(section, "\n## ")
	section, _, _ = strings.Cut(section, "\n### ")
	parts := strings.Split("\n"+section, "\n```")
	for i := 1; i+1 < len(parts); i += 2 {
		language, code, _ := strings.Cut(parts[i], "\n")
		g.blocks[language] = append(g.blocks[language], code+"\n")
	}
	bin := filepath.Join(g.dir, "bin")
	if err := os.Mkdir(bin, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(harness.Binary(), filepath.Join(bin, "mqtt-auth-proxy")); err != nil {
		t.Fatal(err)
	}
	g.env = append(harness.CleanEnvironment(), "PATH="+bin+":"+os.Getenv("PATH"))
	t.Cleanup(func() {
		for language, blocks := range g.blocks {
			for i := range blocks {
				if language != "mermaid" && !g.used[fmt.Sprint(language, i)] {
					t.Errorf("%s: block %d of %q is not tested", heading, i+1, language)
				}
			}
		}
	})
	return g
}

// block returns a block of code with what this machine needs.
func (g *guide) block(language string, i int) string {
	g.t.Helper()
	if i >= len(g.blocks[language]) {
		g.t.Fatalf("the section has %d blocks of %q", len(g.blocks[language]), language)
	}
	g.used[fmt.Sprint(language, i)] = true
	return strings.NewReplacer(g.texts...).Replace(g.blocks[language][i])
}

func (g *guide) path(file string) string { return filepath.Join(g.dir, file) }

func (g *guide) write(file, text string) { g.t.Helper(); harness.WriteFile(g.t, g.path(file), text) }

// run runs the commands of a block, all of which must succeed, and returns what they print.
func (g *guide) run(i int) string {
	g.t.Helper()
	return g.shell(g.block("sh", i))
}

func (g *guide) shell(commands string) string {
	g.t.Helper()
	r := harness.Command{Dir: g.dir, Env: g.env, Args: []string{harness.Need(g.t, "sh"), "-e", "-c", commands}}.Run(g.t)
	if r.Status != 0 {
		g.t.Fatalf("%s\nstatus %d\n%s", commands, r.Status, r.Output())
	}
	return r.Stdout
}

// proxy installs the program with the configuration of the section. The ports are those of the
// test.
func (g *guide) proxy(upstream string) *harness.Proxy {
	g.t.Helper()
	g.write("proxy.yaml", g.block("yaml", 0))
	p := harness.BareProxy(g.t)
	p.Config = g.path("proxy.yaml")
	settings := []string{"MQTT_AUTH_PROXY_DATA=" + p.Data, "MQTT_AUTH_PROXY_ADMIN_ADDRESS=" + p.Admin, "MQTT_AUTH_PROXY_LISTENERS_0_ADDRESS=" + p.Plain, "MQTT_AUTH_PROXY_LOG_LEVEL=debug"}
	if upstream != "" {
		settings = append(settings, "MQTT_AUTH_PROXY_UPSTREAM_SERVERS="+upstream)
	}
	p.Env, g.env = append(p.Env, settings...), append(g.env, settings...)
	return p
}

// behind runs a Mosquitto that knows only the user proxy, and writes the file with its password.
func (g *guide) behind() (m *harness.Mosquitto, upstream string) {
	g.t.Helper()
	m = harness.StartMosquitto(g.t)
	g.write("upstream-password", m.Password+"\n")
	return m, "tcp://" + m.Addr
}

// mosquitto runs a Mosquitto with the configuration of the section.
func (g *guide) mosquitto() (*harness.Mosquitto, string) {
	g.t.Helper()
	address := harness.FreeAddress(g.t)
	host, port, _ := net.SplitHostPort(address)
	text := strings.Replace(g.block("", 0), "listener 1884 127.0.0.1", fmt.Sprintf("listener %s %s\nuser root\nlog_dest stderr", port, host), 1)
	g.write("mosquitto.conf", text)
	return harness.RunMosquitto(g.t, g.path("mosquitto.conf"), address), "tcp://" + address
}

// old is a device with its old user name and password.
type old struct{ user, password string }

// secret says that the program may never print the password.
func (d old) secret(p *harness.Proxy) old {
	p.AddSecret(d.password)
	p.AddSecret(authz.NewToken(d.password).Fingerprint())
	return d
}

// publish returns the exit status of mosquitto_pub.
func (d old) publish(t testing.TB, p *harness.Proxy, topic string) int {
	t.Helper()
	return harness.MosquittoPub(t, append(p.ClientArgs(d.user), "-P", d.password, "-q", "1", "-t", topic, "-m", "x")...).Status
}

// checkTopics: the devices publish to their topics, and a new device with its token to the topic
// new, and those are what the subscriber gets. A wrong password is refused.
func checkTopics(t testing.TB, p *harness.Proxy, token string, behind *harness.Subscriber, devices map[old]string) {
	t.Helper()
	want := map[string]bool{"new": true}
	for d, topic := range devices {
		want[topic] = true
		if status := d.publish(t, p, "not/"+topic); status != 0 { // acknowledged and dropped
			t.Errorf("%s: status %d", d.user, status)
		}
		if status := d.publish(t, p, topic); status != 0 {
			t.Errorf("%s: status %d", d.user, status)
		}
		if status := (old{d.user, rand.Text()}).publish(t, p, topic); status != 5 {
			t.Errorf("%s with a wrong password: status %d", d.user, status)
		}
	}
	harness.Publish(t, append(p.ClientArgs(token), "-q", "1", "-t", "new", "-m", "x")...)
	for _, message := range behind.Messages(len(want)) {
		if !want[message.Topic] {
			t.Errorf("a message in %s", message.Topic)
		}
		delete(want, message.Topic)
	}
	if len(want) > 0 {
		t.Errorf("no message in %v", want)
	}
}
