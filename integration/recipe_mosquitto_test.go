//go:build integration

package integration

import (
	"crypto/rand"
	"fmt"
	"net"
	"testing"
)

// serveMosquitto runs Mosquitto on a recipe's configuration.
func serveMosquitto(t *testing.T, r *recipe, conf, address string, oldnew ...string) *mosquitto {
	t.Helper()
	host, port, _ := net.SplitHostPort(address)
	r.replace(conf, append([]string{"listener 1884 127.0.0.1", fmt.Sprintf("listener %s %s\nuser root\nlog_dest stderr", port, host)}, oldnew...)...)
	return runMosquitto(t, r.path(conf), address)
}

// TestMosquittoRecipe: devices come in by their tokens, the broker by its old port
// does not know them.
func TestMosquittoRecipe(t *testing.T) {
	t.Parallel()
	r, address, password := cook(t, "mosquitto"), freeAddress(t), rand.Text()
	if c := run(t, need(t, "mosquitto_passwd"), "-b", "-c", r.path("proxy.passwd"), "proxy", password); c.status != 0 {
		t.Fatalf("mosquitto_passwd: %s", c.all())
	}
	r.write("upstream-password", password+"\n")
	m := serveMosquitto(t, r, "mosquitto.conf", address,
		"/etc/mosquitto/proxy.passwd", r.path("proxy.passwd"))
	p := r.proxy("tcp://" + address)
	p.keep(password)
	token := p.token("sensor-17")
	r.check(p)
	p.start()

	checkTelegram(t, p, token)
	host, port, _ := net.SplitHostPort(m.addr)
	for _, args := range [][]string{{}, {"-u", "sensor-17"}, {"-u", token}} {
		if c := mosquittoPub(t, append([]string{"-h", host, "-p", port, "-t", "a", "-m", "b"}, args...)...); c.status != 5 {
			t.Errorf("the broker's own port lets %.9s in: status %d", args, c.status)
		}
	}
}

// checkTelegram sends a message from one device to another, both through the proxy,
// one of them by TLS.
func checkTelegram(t *testing.T, p *proxy, token string) {
	t.Helper()
	behind := subscribe(t, append(p.clientArgs(token), "-q", "1", "-t", "devices/#", "-C", "1")...)
	publish(t, "--cafile", p.authority(), "-h", "localhost", "-p", portOf(p.tls), "-u", token, "-q", "1", "-t", "devices/sensor-17/level", "-m", "7")
	if got := behind.messages(1)[0]; got.topic != "devices/sensor-17/level" || got.payload != "37" {
		t.Errorf("got %v", got)
	}
	if c := mosquittoPub(t, append(p.clientArgs("not-a-token"), "-t", "a", "-m", "b")...); c.status != 5 {
		t.Errorf("a wrong token: status %d\n%s", c.status, c.all())
	}
}

// TestMosquittoKnowsDevices: the variant in which Mosquitto's own rules go by the
// device's name.
func TestMosquittoKnowsDevices(t *testing.T) {
	t.Parallel()
	r, address := cook(t, "mosquitto"), freeAddress(t)
	serveMosquitto(t, r, "devices.conf", address, "/etc/mosquitto/devices.acl", r.path("devices.acl"))
	r.write("proxy.yaml", r.read("devices-proxy.yaml"))
	p := r.proxy("tcp://" + address)
	token, other := p.token("sensor-17"), p.token("sensor-18")
	r.check(p)
	p.start()

	behind := subscribe(t, append(p.clientArgs(token), "-i", "listener", "-q", "1", "-t", "devices/sensor-17/#", "-C", "1")...)
	publish(t, append(p.clientArgs(other), "-q", "1", "-t", "devices/sensor-17/level", "-m", "forged")...)
	publish(t, append(p.clientArgs(token), "-q", "1", "-t", "devices/sensor-17/level", "-m", "7")...)
	if got := behind.messages(1)[0]; got.payload != "37" {
		t.Errorf("the first message is %v, want the device's own", got)
	}
}
