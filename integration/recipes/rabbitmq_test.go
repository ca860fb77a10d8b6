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

// rabbitNode is a RabbitMQ node with a port mapper of its own, so that it meets no other
// node of this machine.
type rabbitNode struct {
	*harness.Process
	t       *testing.T
	environ []string
}

// startRabbit runs RabbitMQ with the configuration of a recipe. It takes about ten
// seconds.
func startRabbit(t *testing.T, r *recipe) *rabbitNode {
	t.Helper()
	harness.Need(t, "rabbitmq-server")
	mapper, node := harness.Port(harness.FreeAddress(t)), harness.Port(harness.FreeAddress(t))
	n := &rabbitNode{t: t, environ: append(os.Environ(), "HOME="+r.dir,
		"RABBITMQ_NODENAME=story-"+node+"@localhost", "RABBITMQ_DIST_PORT="+node, "ERL_EPMD_PORT="+mapper, "ERL_EPMD_ADDRESS=127.0.0.1",
		"RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS=-kernel inet_dist_use_interface {127,0,0,1}",
		"RABBITMQ_CONFIG_FILE="+r.path("rabbitmq.conf"), "RABBITMQ_ENABLED_PLUGINS_FILE="+r.path("enabled_plugins"), "RABBITMQ_CONF_ENV_FILE=/dev/null",
		"RABBITMQ_MNESIA_BASE="+r.path("mnesia"), "RABBITMQ_LOG_BASE="+r.path("log"), "RABBITMQ_LOGS=-",
		// The script is replaced by the node, so that killing the process ends the node.
		"RUNNING_UNDER_SYSTEMD=1")}
	harness.Launch(t, n.environ, harness.Need(t, "epmd"), "-port", mapper, "-address", "127.0.0.1")
	n.Process = harness.Launch(t, n.environ, rabbitScript(t, "rabbitmq-server"))
	n.Await(t, n.Stdout, "start", func(text string) bool { return strings.Contains(text, "Server startup complete") })
	return n
}

// rabbitScript returns the path of one of RabbitMQ's own scripts. Those in the PATH
// change to another user first.
func rabbitScript(t *testing.T, name string) string {
	t.Helper()
	return harness.NeedFile(t, "/usr/lib/rabbitmq/lib/rabbitmq_server-*/sbin/"+name)
}

// control runs rabbitmqctl.
func (n *rabbitNode) control(args ...string) string {
	n.t.Helper()
	r := harness.Command{Env: n.environ, Args: append([]string{rabbitScript(n.t, "rabbitmqctl")}, args...)}.Run(n.t)
	if r.Status != 0 {
		n.t.Fatalf("rabbitmqctl %s: status %d\n%s", args[0], r.Status, r.Output())
	}
	return r.Stdout
}

// TestRabbitMQRecipe: a real RabbitMQ accepts the proxy's user with only the rights that
// the README gives it, and gets the devices' own addresses.
func TestRabbitMQRecipe(t *testing.T) {
	t.Parallel()
	r, address, password := copyRecipe(t, "rabbitmq"), harness.FreeAddress(t), rand.Text()
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
	checkMessage(t, p, token)

	conn := packetstest.DialFrom(t, "127.0.0.41", p.Plain)
	packetstest.Connect(t, conn, packetstest.Identity(4, "seen", token))
	_, port, _ := net.SplitHostPort(conn.LocalAddr().String())
	n.Await(t, n.Stdout, "the device's address", func(text string) bool {
		return strings.Contains(text, "127.0.0.41:"+port+" -> ")
	})
	if _, ack := p.Present(t, 5, "modern", token); ack.Code != packets.UnsupportedProtocolVersion {
		t.Errorf("an MQTT 5.0 device gets %v, want a code that makes it use 3.1.1", ack.Code)
	}
}

// permissions returns the arguments of the README's set_permissions command.
func permissions(t *testing.T, r *recipe) []string {
	t.Helper()
	_, line, ok := strings.Cut(r.read("README.md"), "rabbitmqctl set_permissions ")
	line, _, ok2 := strings.Cut(line, "\n")
	if !ok || !ok2 {
		t.Fatal("the README sets no permissions")
	}
	return append([]string{"set_permissions"}, strings.Fields(strings.ReplaceAll(line, "'", ""))...)
}
