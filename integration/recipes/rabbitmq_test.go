//go:build integration

package recipes

import (
	"crypto/rand"
	"net"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/integration/harness"
	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/packets"
	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/packets/packetstest"
)

// rabbit is a RabbitMQ node of its own, with its own port mapper, so that it meets no
// other node of this machine.
type rabbit struct {
	*harness.Process
	t       *testing.T
	environ []string
}

// startRabbit runs RabbitMQ on a recipe's configuration. It takes some ten seconds.
func startRabbit(t *testing.T, r *recipe) *rabbit {
	t.Helper()
	harness.Need(t, "rabbitmq-server")
	mapper, node := harness.Port(harness.FreeAddress(t)), harness.Port(harness.FreeAddress(t))
	n := &rabbit{t: t, environ: append(os.Environ(), "HOME="+r.dir,
		"RABBITMQ_NODENAME=story-"+node+"@localhost", "RABBITMQ_DIST_PORT="+node, "ERL_EPMD_PORT="+mapper, "ERL_EPMD_ADDRESS=127.0.0.1",
		"RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS=-kernel inet_dist_use_interface {127,0,0,1}",
		"RABBITMQ_CONFIG_FILE="+r.path("rabbitmq.conf"), "RABBITMQ_ENABLED_PLUGINS_FILE="+r.path("enabled_plugins"), "RABBITMQ_CONF_ENV_FILE=/dev/null",
		"RABBITMQ_MNESIA_BASE="+r.path("mnesia"), "RABBITMQ_LOG_BASE="+r.path("log"), "RABBITMQ_LOGS=-",
		// The script becomes the node, so that what ends the one ends the other.
		"RUNNING_UNDER_SYSTEMD=1")}
	harness.Launch(t, n.environ, harness.Need(t, "epmd"), "-port", mapper, "-address", "127.0.0.1")
	n.Process = harness.Launch(t, n.environ, rabbitScript(t, "rabbitmq-server"))
	n.Await(t, n.Stdout, "start", func(text string) bool { return strings.Contains(text, "Server startup complete") })
	return n
}

// rabbitScript finds one of RabbitMQ's own scripts: those in the PATH become another
// user first.
func rabbitScript(t *testing.T, name string) string {
	t.Helper()
	return harness.NeedFile(t, "/usr/lib/rabbitmq/lib/rabbitmq_server-*/sbin/"+name)
}

// control runs rabbitmqctl.
func (n *rabbit) control(args ...string) string {
	n.t.Helper()
	r := harness.Command{Env: n.environ, Args: append([]string{rabbitScript(n.t, "rabbitmqctl")}, args...)}.Run(n.t)
	if r.Status != 0 {
		n.t.Fatalf("rabbitmqctl %s: status %d\n%s", args[0], r.Status, r.Output())
	}
	return r.Stdout
}

// TestRabbitMQRecipe: a real RabbitMQ takes the proxy's user with no more rights than
// the README gives it, and is told the devices' own addresses.
func TestRabbitMQRecipe(t *testing.T) {
	t.Parallel()
	r, address, password := cook(t, "rabbitmq"), harness.FreeAddress(t), rand.Text()
	r.replace("rabbitmq.conf", "127.0.0.1:1884", address)
	r.write("rabbitmq.conf", "listeners.tcp = none\n"+r.read("rabbitmq.conf"))
	r.write("upstream-password", password+"\n")
	began := time.Now()
	n := startRabbit(t, r)
	t.Logf("RabbitMQ took %v to start", time.Since(began).Round(time.Second))
	n.control("add_user", "proxy", password)
	n.control(permissions(t, r)...)
	n.control("delete_user", "guest")

	p := r.proxy("tcp://" + address)
	p.AddSecret(password)
	token := p.Token("sensor-17")
	r.check(p)
	p.Start()
	checkTelegram(t, p, token)

	conn := packetstest.DialFrom(t, "127.0.0.41", p.Plain)
	packetstest.Connect(t, conn, packetstest.Identity(4, "seen", token))
	_, port, _ := net.SplitHostPort(conn.LocalAddr().String())
	n.Await(t, n.Stdout, "the device's address", func(text string) bool {
		return strings.Contains(text, "127.0.0.41:"+port+" -> ")
	})
	if _, ack := p.Present(t, 5, "modern", token); ack.Code != packets.UnsupportedProtocolVersion {
		t.Errorf("an MQTT 5.0 device gets %v, want to be told to speak 3.1.1", ack.Code)
	}
}

// permissions is the README's set_permissions, without its shell.
func permissions(t *testing.T, r *recipe) []string {
	t.Helper()
	_, line, ok := strings.Cut(r.read("README.md"), "rabbitmqctl set_permissions ")
	line, _, ok2 := strings.Cut(line, "\n")
	if !ok || !ok2 {
		t.Fatal("the README sets no permissions")
	}
	return append([]string{"set_permissions"}, strings.Fields(strings.ReplaceAll(line, "'", ""))...)
}
