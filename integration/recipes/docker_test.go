//go:build integration

package recipes

import (
	"fmt"
	"net"
	"os/exec"
	"strings"
	"testing"

	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/integration/harness"
)

// TestDockerfile: the image only holds the program and the CA certificates, and its user
// is not root.
func TestDockerfile(t *testing.T) {
	t.Parallel()
	r := copyRecipe(t, "docker")
	stages := strings.Split("\n"+r.read("Dockerfile"), "\nFROM ")
	last := stages[len(stages)-1]
	if len(stages) != 3 || !strings.HasPrefix(last, "scratch\n") {
		t.Fatalf("%d stages, the last is %.20q", len(stages)-1, last)
	}
	for _, line := range []string{"\nUSER 65532:65532\n", "\nENTRYPOINT [\"/mqtt-auth-proxy\"]\n", " /etc/ssl/certs/ca-certificates.crt "} {
		if !strings.Contains(last, line) {
			t.Errorf("the image lacks %q", line)
		}
	}
	if strings.Contains(last, "\nRUN ") {
		t.Error("there is nothing in the image that could run anything")
	}
	// What TestReleaseArchives shows for a release also holds for the image.
	const flags = `go build -trimpath -ldflags "-s -w -X main.release=$`
	if !strings.Contains(stages[1], "CGO_ENABLED=0 "+flags+"VERSION") || !strings.Contains(harness.ReadFile(t, "packages/build"), flags+"version") {
		t.Error("image and release are not built with the same flags")
	}
}

// TestComposeRecipe: both configurations work together, and only the proxy can reach the
// broker.
func TestComposeRecipe(t *testing.T) {
	t.Parallel()
	r, address := copyRecipe(t, "docker"), harness.FreeAddress(t)
	compose := r.documents("compose.yaml")[0]
	if _, reachable := lookup(t, compose, "services", "mosquitto").(map[string]any)["ports"]; reachable || lookup(t, compose, "networks", "broker", "internal") != true {
		t.Error("the broker can be reached past the proxy")
	}
	if lookup(t, compose, "services", "proxy", "read_only") != true || lookup(t, compose, "services", "proxy", "cap_drop", 0) != "ALL" {
		t.Error("the proxy has more rights than it needs")
	}
	if docker, err := exec.LookPath("docker"); err == nil && harness.Run(t, docker, "compose", "version").Status == 0 {
		if c := harness.Run(t, docker, "compose", "-f", "docker/compose.yaml", "config", "--quiet"); c.Status != 0 {
			t.Errorf("docker compose config: %s", c.Output())
		}
	}
	host, port, _ := net.SplitHostPort(address)
	r.replace("mosquitto.conf", "listener 1883", fmt.Sprintf("listener %s %s\nuser root\nlog_dest stderr", port, host), "/mosquitto/data/", r.dir+"/")
	harness.RunMosquitto(t, r.path("mosquitto.conf"), address)
	p := r.proxy("tcp://" + address)
	token := p.Token("sensor-17")
	r.check(p)
	p.Start()
	checkMessage(t, p, token)
}
