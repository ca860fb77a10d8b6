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

// rabbitNode is a RabbitMQ node with a port mapper of its own, so that it does not find other nodes
// on this machine.
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

// TestRabbitMQMapsTopics: with the section of the README every device has its own part of the
// topics, and cannot leave it with a topic, a filter or a name that has a dot.
func TestRabbitMQMapsTopics(t *testing.T) {
	t.Parallel()
	r, address, password := copyRecipe(t, "rabbitmq"), harness.FreeAddress(t), rand.Text()
	r.replace("rabbitmq.conf", "127.0.0.1:1884", address, "mqtt.proxy_protocol = true", "") // for the consumer
	r.write("rabbitmq.conf", "listeners.tcp = none\n"+r.read("rabbitmq.conf"))
	r.write("upstream-password", password+"\n")
	n := startRabbit(t, r)
	n.control("add_user", "proxy", password)
	n.control(permissions(t, r)...)
	r.replace("proxy.yaml", "  proxy_protocol: v2\n", "")
	_, section, _ := strings.Cut(r.read("README.md"), "```yaml\n")
	section, _, _ = strings.Cut(section, "```")
	r.write("proxy.yaml", r.read("proxy.yaml")+section)
	p := r.proxy("tcp://" + address)
	p.AddSecret(password)
	pump, boiler, dotted := p.Token("pump"), p.Token("boiler"), p.Token("boiler.telemetry")
	r.check(p)
	p.Start()

	host, port, _ := net.SplitHostPort(address)
	direct := []string{"-h", host, "-p", port, "-u", "proxy", "-P", password, "-q", "1"}
	all := harness.Subscribe(t, append(direct, "-t", "#")...)
	d := packetstest.Connect(t, packetstest.Dial(t, p.Plain), packetstest.Identity(4, "one", pump))
	d.MustSubscribe("v1/devices/me/rpc/request/+", 1)
	for _, topic := range []string{"v1.devices.boiler.telemetry", "v1/devices.boiler/telemetry", "v1/devices/me/a.b", "v1/devices/boiler/telemetry", "a.b", "*/x"} {
		if err := d.Publish(topic, "forged"); err != nil {
			t.Errorf("%s is not acknowledged: %v", topic, err)
		}
	}
	for _, filter := range []string{"v1.devices.boiler.#", "v1/devices.boiler/#", "v1.#", "*/devices/#", "*.*.#", "#", "+/devices/#"} {
		if code := d.Subscribe(filter, 1); code != 0x80 {
			t.Errorf("%s is granted with %#x", filter, code)
		}
	}
	if _, ack := p.Present(t, 4, "dotted", dotted); ack.Code != 2 {
		t.Errorf("a device whose name has a dot is answered %v", ack.Code)
	}
	harness.Publish(t, append(p.ClientArgs(boiler), "-q", "1", "-t", "v1/devices/me/telemetry", "-m", "boiler")...)
	if err := d.Publish("v1/devices/me/telemetry", "pump"); err != nil {
		t.Error(err)
	}
	seen := all.Messages(2)
	if len(seen) != 2 || seen[0].Topic != "v1/devices/boiler/telemetry" || seen[1].Topic != "v1/devices/pump/telemetry" {
		t.Errorf("RabbitMQ's client gets %v", seen)
	}
	for _, device := range []string{"boiler", "pump"} {
		harness.Publish(t, append(direct, "-t", "v1/devices/"+device+"/rpc/request/1", "-m", device)...)
	}
	if got, err := d.Next(harness.Patience); err != nil || string(got.Topic) != "v1/devices/me/rpc/request/1" || string(got.Payload) != "pump" {
		t.Errorf("the pump gets %s on %s, %v", got.Payload, got.Topic, err)
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
