//go:build integration

package integration

import (
	"encoding/hex"
	"slices"
	"strings"
	"testing"

	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/integration/harness"
	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/packets"
	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/packets/packetstest"
)

const topicMap = `
topics:
  preset: thingsboard
  map: [{device: cmd, broker: "devices/${subject}/cmd"}]
`

// TestTopicMap: two devices publish to the same topic, and a client of Mosquitto can distinguish
// them. A command reaches one of them. Neither reaches the other's part by any topic or filter, and
// the map also applies to wills, retained messages and persistent sessions.
func TestTopicMap(t *testing.T) {
	t.Parallel()
	m := harness.StartMosquitto(t)
	p := harness.NewProxy(t, m.Upstream()+topicMap)
	p.AddSecret(m.Password)
	pump, boiler := p.Token("pump"), p.Token("boiler")
	p.Start()

	consumer := harness.Subscribe(t, append(m.ClientArgs(), "-t", "v1/devices/+/telemetry")...)
	wills := harness.Subscribe(t, append(m.ClientArgs(), "-t", "v1/devices/+/gone")...)
	for device, token := range map[string]string{"pump": pump, "boiler": boiler} {
		if r := harness.MosquittoPub(t, append(p.ClientArgs(token), "-q", "1", "-t", "v1/devices/me/telemetry", "-m", device+" says")...); r.Status != 0 {
			t.Fatalf("%s: status %d\n%s", device, r.Status, r.Output())
		}
	}
	var topics []string
	for _, got := range consumer.Messages(2) {
		topics = append(topics, got.Topic+" "+unhex(t, got.Payload))
	}
	slices.Sort(topics)
	if want := []string{"v1/devices/boiler/telemetry boiler says", "v1/devices/pump/telemetry pump says"}; !slices.Equal(topics, want) {
		t.Errorf("the consumer got %q, want %q", topics, want)
	}

	for _, level := range []byte{4, 5} {
		d := packetstest.Connect(t, packetstest.Dial(t, p.Plain), packetstest.Identity(level, "one", pump))
		d.Subscribe("cmd", 1)
		d.Subscribe("v1/devices/me/rpc/request/+", 1)
		for _, filter := range []string{"#", "+/devices/#", "$share/x/#", "v1/devices/boiler/#", "v1/devices/pump/#", "devices/+/cmd", "$SYS/#"} {
			if code := d.Subscribe(filter, 0); code < 0x80 {
				t.Errorf("level %d: %s is granted with %#x", level, filter, code)
			}
		}
		harness.Publish(t, append(m.ClientArgs(), "-q", "1", "-t", "devices/boiler/cmd", "-m", "not for you")...)
		harness.Publish(t, append(m.ClientArgs(), "-q", "1", "-t", "devices/pump/cmd", "-m", "start")...)
		if got, err := d.Next(harness.Patience); err != nil || string(got.Topic) != "cmd" || string(got.Payload) != "start" {
			t.Errorf("level %d: the device got %s on %s, %v", level, got.Payload, got.Topic, err)
		}
		d.Disconnect()
	}
	p.AwaitLog("denied subscription", func(l harness.LogLine) bool {
		return l.String("message") == "subscription denied" && strings.Contains(l.String("detail"), "map")
	})

	gone := packetstest.Identity(4, "two", boiler)
	gone.HasWill, gone.Will = true, packets.Will{Topic: "v1/devices/me/gone", Payload: []byte("lost")}
	packetstest.Connect(t, packetstest.Dial(t, p.Plain), gone)
	p.Kill() // the connection to the broker ends without DISCONNECT
	if got := wills.Messages(1)[0]; got.Topic != "v1/devices/boiler/gone" || unhex(t, got.Payload) != "lost" {
		t.Errorf("the will arrived as %s on %s", got.Payload, got.Topic)
	}
}

func unhex(t *testing.T, text string) string {
	t.Helper()
	b, err := hex.DecodeString(text)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// TestKeptSessionOfAMappedDevice: the subscription and the queue of a session at the broker are
// still there after a restart of the proxy, under the topics that the device uses.
func TestKeptSessionOfAMappedDevice(t *testing.T) {
	t.Parallel()
	m := harness.StartMosquitto(t)
	p := harness.NewProxy(t, m.Upstream()+topicMap)
	p.AddSecret(m.Password)
	token := p.Token("pump")
	p.Start()
	id := packetstest.Identity(4, "one", token)
	id.CleanStart = false
	packetstest.Connect(t, packetstest.Dial(t, p.Plain), id).Subscribe("cmd", 1)
	p.Stop()
	harness.Publish(t, append(m.ClientArgs(), "-q", "1", "-r", "-t", "devices/pump/cmd", "-m", "kept")...)
	p.Start()
	d := packetstest.Connect(t, packetstest.Dial(t, p.Plain), id)
	if got, err := d.Next(harness.Patience); err != nil || string(got.Topic) != "cmd" || string(got.Payload) != "kept" {
		t.Errorf("after a restart the device gets %s on %s, %v", got.Payload, got.Topic, err)
	}
	other := packetstest.Connect(t, packetstest.Dial(t, p.Plain), packetstest.Identity(5, "two", token))
	other.Subscribe("cmd", 1)
	if got, err := other.Next(harness.Patience); err != nil || string(got.Topic) != "cmd" || !got.Retain {
		t.Errorf("the retained message comes as %s, retain %v, %v", got.Topic, got.Retain, err)
	}
}
