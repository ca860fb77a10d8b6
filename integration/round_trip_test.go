//go:build integration

package integration

import (
	"crypto/rand"
	"encoding/hex"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/integration/harness"
)

// route is how a device reaches a broker: a version of MQTT, with or without TLS.
type route struct {
	name              string
	args              []string // for mosquitto_pub and mosquitto_sub, without a token
	version           string
	sensor, dashboard string // tokens of two devices
}

// TestRoundTrips sends messages of every kind between two devices, in every version,
// plain and over TLS, with the bundled broker and with Mosquitto.
func TestRoundTrips(t *testing.T) {
	t.Parallel()
	harness.EachBroker(t, func(t *testing.T, upstream string) {
		p := harness.NewProxy(t, upstream)
		sensor, dashboard := p.Token("sensor"), p.Token("dashboard")
		p.Start()
		for _, w := range routes(p) {
			w.sensor, w.dashboard = sensor, dashboard
			t.Run(w.name, func(t *testing.T) {
				t.Parallel()
				w.testQoS(t)
				w.testLargePayload(t)
				w.testRetained(t)
				w.testWill(t)
				w.testOffline(t)
			})
		}
	})
}

func routes(p *harness.Proxy) []route {
	var all []route
	for _, version := range []string{"mqttv31", "mqttv311", "mqttv5"} {
		for transport, address := range map[string]string{"plain": p.Plain, "tls": p.TLS} {
			host, port, _ := net.SplitHostPort(address)
			w := route{name: version + "-" + transport, version: version, args: []string{"-h", host, "-p", port, "-V", version}}
			if transport == "tls" {
				w.args = append(w.args, "--cafile", p.CAFile())
			}
			all = append(all, w)
		}
	}
	return all
}

// topic returns a topic that no other route uses, because all share a broker.
func (w route) topic(name string) string { return "story/" + w.name + "/" + name }

// as returns the arguments of mosquitto_pub or mosquitto_sub for a device.
func (w route) as(token string, args ...string) []string {
	return slices.Concat(w.args, []string{"-u", token}, args)
}

func (w route) testQoS(t *testing.T) {
	sub := harness.Subscribe(t, w.as(w.dashboard, "-q", "2", "-t", w.topic("qos"), "-C", "3")...)
	var want []harness.Message
	for _, qos := range []string{"0", "1", "2"} {
		payload := "at " + qos
		harness.Publish(t, w.as(w.sensor, "-q", qos, "-t", w.topic("qos"), "-m", payload)...)
		want = append(want, harness.Message{Topic: w.topic("qos"), QoS: qos, Retain: "0", Payload: hex.EncodeToString([]byte(payload))})
	}
	if got := sub.Messages(3); !slices.Equal(got, want) {
		t.Errorf("received %v, want %v", got, want)
	}
	if status := sub.Wait(t, harness.Patience); status != 0 {
		t.Errorf("mosquitto_sub: status %d\n%s", status, sub.Stderr)
	}
}

// testLargePayload sends a megabyte from one device to the other.
func (w route) testLargePayload(t *testing.T) {
	payload := make([]byte, 1<<20)
	rand.Read(payload)
	file := filepath.Join(t.TempDir(), "payload")
	if err := os.WriteFile(file, payload, 0o600); err != nil {
		t.Fatal(err)
	}
	sub := harness.Subscribe(t, w.as(w.dashboard, "-q", "1", "-t", w.topic("large"), "-C", "1")...)
	harness.Publish(t, w.as(w.sensor, "-q", "1", "-t", w.topic("large"), "-f", file)...)
	if got := sub.Messages(1); got[0].Payload != hex.EncodeToString(payload) {
		t.Errorf("%d bytes arrived that are not the %d sent", len(got[0].Payload)/2, len(payload))
	}
}

func (w route) testRetained(t *testing.T) {
	harness.Publish(t, w.as(w.sensor, "-r", "-q", "1", "-t", w.topic("retained"), "-m", "still here")...)
	sub := harness.Subscribe(t, w.as(w.dashboard, "-q", "1", "-t", w.topic("retained"), "-C", "1")...)
	want := harness.Message{Topic: w.topic("retained"), QoS: "1", Retain: "1", Payload: hex.EncodeToString([]byte("still here"))}
	if got := sub.Messages(1); got[0] != want {
		t.Errorf("received %v, want %v", got[0], want)
	}
}

// testWill: the will of a device whose connection breaks is published. The will of one
// that disconnects is not.
func (w route) testWill(t *testing.T) {
	observer := harness.Subscribe(t, w.as(w.dashboard, "-q", "1", "-t", w.topic("will/#"))...)
	mortal := func(name string, args ...string) *harness.Subscriber {
		return harness.Subscribe(t, w.as(w.sensor, append(args, "-t", w.topic(name),
			"--will-topic", w.topic("will/"+name), "--will-payload", name, "--will-qos", "1")...)...)
	}
	mortal("cut").Kill()
	if got := observer.Messages(1); got[0].Topic != w.topic("will/cut") {
		t.Errorf("received %v, want the will of the device that was cut", got[0])
	}
	// On a signal mosquitto_sub asks a 5.0 broker to send the will; after its last
	// message it does not.
	polite := mortal("left", "-C", "1")
	harness.Publish(t, w.as(w.dashboard, "-q", "1", "-t", w.topic("left"), "-m", "you may go")...)
	if status := polite.Wait(t, harness.Patience); status != 0 || !strings.Contains(polite.Stdout.String(), "sending DISCONNECT") {
		t.Fatalf("mosquitto_sub did not disconnect in order: status %d\n%s", status, polite.Stdout)
	}
	harness.Publish(t, w.as(w.sensor, "-q", "1", "-t", w.topic("will/marker"), "-m", "now")...)
	if got := observer.Messages(2); got[1].Topic != w.topic("will/marker") {
		t.Errorf("received %v, want no will of a device that has disconnected", got[1])
	}
}

// testOffline: messages sent while a device was offline are delivered when it is back.
func (w route) testOffline(t *testing.T) {
	// Short, because MQTT 3.1 allows 23 characters.
	session := w.as(w.dashboard, "-q", "1", "-c", "-i", "off-"+w.name, "-t", w.topic("offline"))
	if w.version == "mqttv5" {
		session = append(session, "-x", "300")
	}
	if r := harness.Run(t, append([]string{harness.Need(t, "mosquitto_sub"), "-E"}, session...)...); r.Status != 0 {
		t.Fatalf("mosquitto_sub: status %d\n%s", r.Status, r.Output())
	}
	var want []harness.Message
	for _, payload := range []string{"one", "two", "three"} {
		harness.Publish(t, w.as(w.sensor, "-q", "1", "-t", w.topic("offline"), "-m", payload)...)
		want = append(want, harness.Message{Topic: w.topic("offline"), QoS: "1", Retain: "0", Payload: hex.EncodeToString([]byte(payload))})
	}
	back := harness.RunSubscriber(t, append(session, "-C", "3")...)
	if got := back.Messages(3); !slices.Equal(got, want) {
		t.Errorf("received %v, want %v", got, want)
	}
}
