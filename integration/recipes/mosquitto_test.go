//go:build integration

package recipes

import (
	"crypto/rand"
	"fmt"
	"net"
	"testing"

	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/integration/harness"
)

// serveMosquitto runs Mosquitto with a configuration of a recipe.
func serveMosquitto(t *testing.T, r *recipe, conf, address string, oldnew ...string) *harness.Mosquitto {
	t.Helper()
	host, port, _ := net.SplitHostPort(address)
	r.replace(conf, append([]string{"listener 1884 127.0.0.1", fmt.Sprintf("listener %s %s\nuser root\nlog_dest stderr", port, host)}, oldnew...)...)
	return harness.RunMosquitto(t, r.path(conf), address)
}

// TestMosquittoRecipe: devices connect with their tokens, and the broker's own port
// refuses them.
func TestMosquittoRecipe(t *testing.T) {
	t.Parallel()
	r, address, password := copyRecipe(t, "mosquitto"), harness.FreeAddress(t), rand.Text()
	if c := harness.Run(t, harness.Need(t, "mosquitto_passwd"), "-b", "-c", r.path("proxy.passwd"), "proxy", password); c.Status != 0 {
		t.Fatalf("mosquitto_passwd: %s", c.Output())
	}
	r.write("upstream-password", password+"\n")
	m := serveMosquitto(t, r, "mosquitto.conf", address,
		"/etc/mosquitto/proxy.passwd", r.path("proxy.passwd"))
	p := r.proxy("tcp://" + address)
	p.AddSecret(password)
	token := p.Token("sensor-17")
	r.check(p)
	p.Start()

	checkMessage(t, p, token)
	host, port, _ := net.SplitHostPort(m.Addr)
	for _, args := range [][]string{{}, {"-u", "sensor-17"}, {"-u", token}} {
		if c := harness.MosquittoPub(t, append([]string{"-h", host, "-p", port, "-t", "a", "-m", "b"}, args...)...); c.Status != 5 {
			t.Errorf("the broker's own port lets %.9s in: status %d", args, c.Status)
		}
	}
}

// checkMessage sends a message from one device to another through the proxy. One of them
// uses TLS.
func checkMessage(t *testing.T, p *harness.Proxy, token string) {
	t.Helper()
	behind := harness.Subscribe(t, append(p.ClientArgs(token), "-q", "1", "-t", "devices/#", "-C", "1")...)
	harness.Publish(t, "--cafile", p.CAFile(), "-h", "localhost", "-p", harness.Port(p.TLS), "-u", token, "-q", "1", "-t", "devices/sensor-17/level", "-m", "7")
	if got := behind.Messages(1)[0]; got.Topic != "devices/sensor-17/level" || got.Payload != "37" {
		t.Errorf("got %v", got)
	}
	if c := harness.MosquittoPub(t, append(p.ClientArgs("not-a-token"), "-t", "a", "-m", "b")...); c.Status != 5 {
		t.Errorf("a wrong token: status %d\n%s", c.Status, c.Output())
	}
}

// TestMosquittoRecipeWithACL: the variant in which Mosquitto's own rules use the device's
// name.
func TestMosquittoRecipeWithACL(t *testing.T) {
	t.Parallel()
	r, address := copyRecipe(t, "mosquitto"), harness.FreeAddress(t)
	serveMosquitto(t, r, "devices.conf", address, "/etc/mosquitto/devices.acl", r.path("devices.acl"))
	r.write("proxy.yaml", r.read("devices-proxy.yaml"))
	p := r.proxy("tcp://" + address)
	token, other := p.Token("sensor-17"), p.Token("sensor-18")
	r.check(p)
	p.Start()

	behind := harness.Subscribe(t, append(p.ClientArgs(token), "-i", "listener", "-q", "1", "-t", "devices/sensor-17/#", "-C", "1")...)
	harness.Publish(t, append(p.ClientArgs(other), "-q", "1", "-t", "devices/sensor-17/level", "-m", "forged")...)
	harness.Publish(t, append(p.ClientArgs(token), "-q", "1", "-t", "devices/sensor-17/level", "-m", "7")...)
	if got := behind.Messages(1)[0]; got.Payload != "37" {
		t.Errorf("the first message is %v, want the device's own", got)
	}
}

// TestMosquittoMapsTopics: the variant in which all devices use the same topics, and each has its
// own part at the broker.
func TestMosquittoMapsTopics(t *testing.T) {
	t.Parallel()
	r, address, password := copyRecipe(t, "mosquitto"), harness.FreeAddress(t), rand.Text()
	if c := harness.Run(t, harness.Need(t, "mosquitto_passwd"), "-b", "-c", r.path("proxy.passwd"), "proxy", password); c.Status != 0 {
		t.Fatalf("mosquitto_passwd: %s", c.Output())
	}
	r.write("upstream-password", password+"\n")
	m := serveMosquitto(t, r, "mosquitto.conf", address, "/etc/mosquitto/proxy.passwd", r.path("proxy.passwd"))
	r.write("proxy.yaml", r.read("mapped-proxy.yaml"))
	p := r.proxy("tcp://" + address)
	p.AddSecret(password)
	token := p.Token("sensor-17")
	r.check(p)
	p.Start()

	host, port, _ := net.SplitHostPort(m.Addr)
	behind := harness.Subscribe(t, "-h", host, "-p", port, "-u", "proxy", "-P", password, "-t", "v1/devices/+/telemetry")
	harness.Publish(t, append(p.ClientArgs(token), "-q", "1", "-t", "v1/devices/me/telemetry", "-m", "7")...)
	if got := behind.Messages(1)[0]; got.Topic != "v1/devices/sensor-17/telemetry" || got.Payload != "37" {
		t.Errorf("got %v", got)
	}
	_, connack := p.Present(t, 5, "limited", token)
	if size, ok := connack.Properties.MaximumPacketSize(); !ok || size != 256<<10 {
		t.Errorf("Maximum Packet Size %d, %v, want the limit of the recipe", size, ok)
	}
}
