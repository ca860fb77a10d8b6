//go:build integration

package integration

import (
	"context"
	"encoding/json"
	"errors"
	"net"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/eclipse/paho.golang/packets"
	"github.com/eclipse/paho.golang/paho"

	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/integration/harness"
	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/packets/packetstest"
)

// pahoClient is a client of paho.golang with what it has received.
type pahoClient struct {
	*paho.Client
	conn     net.Conn
	connack  *paho.Connack
	received chan *paho.Publish
	ended    chan byte // reason code of a DISCONNECT
}

// connectPaho connects with MQTT 5.0.
func connectPaho(ctx context.Context, t *testing.T, address string, c *paho.Connect) pahoClient {
	t.Helper()
	client, err := beginPaho(ctx, packetstest.Dial(t, address), c)
	if err != nil {
		t.Fatal(err)
	}
	return client
}

// beginPaho connects with MQTT 5.0 over a connection. With an error there may be a CONNACK.
func beginPaho(ctx context.Context, nc net.Conn, c *paho.Connect) (pahoClient, error) {
	received, ended := make(chan *paho.Publish, 32), make(chan byte, 1)
	conn := packets.NewThreadSafeConn(nc)
	client := paho.NewClient(paho.ClientConfig{
		ClientID: c.ClientID, Conn: conn,
		OnServerDisconnect: func(d *paho.Disconnect) { ended <- d.ReasonCode },
		OnPublishReceived: []func(paho.PublishReceived) (bool, error){func(r paho.PublishReceived) (bool, error) {
			received <- r.Packet
			return true, nil
		}},
	})
	c.CleanStart, c.KeepAlive, c.UsernameFlag = true, 30, true
	connack, err := client.Connect(ctx, c)
	return pahoClient{client, conn, connack, received, ended}, err
}

func (c pahoClient) subscribe(ctx context.Context, filter string, id *int) error {
	_, err := c.Subscribe(ctx, &paho.Subscribe{Subscriptions: []paho.SubscribeOptions{{Topic: filter, QoS: 1}},
		Properties: &paho.SubscribeProperties{SubscriptionIdentifier: id}})
	return err
}

func (c pahoClient) next(ctx context.Context, t *testing.T) *paho.Publish {
	t.Helper()
	select {
	case p := <-c.received:
		return p
	case <-ctx.Done():
		t.Fatal("no message came")
		return nil
	}
}

// TestTopicMapWithPaho: response topics, topic aliases, shared subscriptions and subscription
// identifiers of MQTT 5.0 through a topic map.
func TestTopicMapWithPaho(t *testing.T) {
	t.Parallel()
	m := harness.StartMosquitto(t)
	p := harness.NewProxy(t, m.Upstream()+topicMap)
	p.AddSecret(m.Password)
	token := p.Token("pump")
	p.Start()
	ctx, cancel := context.WithTimeout(t.Context(), harness.Patience)
	defer cancel()
	consumer := connectPaho(ctx, t, m.Addr, &paho.Connect{ClientID: "consumer", Username: m.Username, Password: []byte(m.Password), PasswordFlag: true})
	most := uint16(5)
	device := connectPaho(ctx, t, p.Plain, &paho.Connect{ClientID: "one", Username: token, Properties: &paho.ConnectProperties{TopicAliasMaximum: &most}})
	if err := consumer.subscribe(ctx, "v1/devices/+/#", nil); err != nil {
		t.Fatal(err)
	}

	alias := uint16(1)
	for _, topic := range []string{"v1/devices/me/telemetry", ""} {
		_, err := device.Publish(ctx, &paho.Publish{Topic: topic, QoS: 1, Payload: []byte("x"), Properties: &paho.PublishProperties{
			TopicAlias: &alias, ResponseTopic: "v1/devices/me/answers", CorrelationData: []byte{0, 255}}})
		if err != nil {
			t.Fatal(err)
		}
		got := consumer.next(ctx, t)
		if got.Topic != "v1/devices/pump/telemetry" || got.Properties.ResponseTopic != "v1/devices/pump/answers" || string(got.Properties.CorrelationData) != "\x00\xFF" {
			t.Errorf("the consumer gets %s with %+v", got.Topic, got.Properties)
		}
	}
	for _, refused := range []paho.Publish{
		{Topic: "v1/devices/boiler/telemetry", QoS: 1},
		{Topic: "v1/devices/me/telemetry", QoS: 1, Properties: &paho.PublishProperties{ResponseTopic: "v1/devices/boiler/answers"}},
	} {
		if r, err := device.Publish(ctx, &refused); err == nil || r == nil || r.ReasonCode != packets.PubackNotAuthorized {
			t.Errorf("%s is answered %+v, %v", refused.Topic, r, err)
		}
	}
	testPahoSubscriptions(ctx, t, device, consumer)
}

func testPahoSubscriptions(ctx context.Context, t *testing.T, device, consumer pahoClient) {
	t.Helper()
	for _, filter := range []string{"#", "+/devices/#", "$share/x/#", "$share/x/v1/devices/boiler/#", "v1/devices/boiler/#"} {
		if err := device.subscribe(ctx, filter, nil); err == nil {
			t.Errorf("%s is granted", filter)
		}
	}
	id := 7
	if err := errors.Join(device.subscribe(ctx, "v1/devices/me/rpc/request/+", &id), device.subscribe(ctx, "$share/workers/v1/devices/me/jobs", nil)); err != nil {
		t.Fatal(err)
	}
	send := func(topic, response string) *paho.Publish {
		t.Helper()
		for _, device := range []string{"boiler", "pump"} { // the first must not arrive
			if _, err := consumer.Publish(ctx, &paho.Publish{Topic: strings.Replace(topic, "DEVICE", device, 1), QoS: 1, Payload: []byte(device),
				Properties: &paho.PublishProperties{ResponseTopic: response}}); err != nil {
				t.Fatal(err)
			}
		}
		return device.next(ctx, t)
	}
	got := send("v1/devices/DEVICE/rpc/request/1", "v1/devices/pump/rpc/response/1")
	if got.Topic != "v1/devices/me/rpc/request/1" || string(got.Payload) != "pump" || got.Properties.ResponseTopic != "v1/devices/me/rpc/response/1" ||
		got.Properties.SubscriptionIdentifier == nil || *got.Properties.SubscriptionIdentifier != id {
		t.Errorf("the device gets %q on %s with %+v", got.Payload, got.Topic, got.Properties)
	}
	got = send("v1/devices/DEVICE/jobs", "v1/devices/boiler/rpc/response/1")
	if got.Topic != "v1/devices/me/jobs" || string(got.Payload) != "pump" || got.Properties.ResponseTopic != "" {
		t.Errorf("the shared subscription gets %q on %s with %+v", got.Payload, got.Topic, got.Properties)
	}
}

// TestTopicMapWithMQTTJS runs clients/topics.mjs over TLS and WebSocket.
func TestTopicMapWithMQTTJS(t *testing.T) {
	t.Parallel()
	node := harness.Need(t, "node")
	harness.NeedFile(t, "clients/node_modules/mqtt")
	m := harness.StartMosquitto(t)
	p := harness.NewProxy(t, m.Upstream()+topicMap)
	p.AddSecret(m.Password)
	_, wss := p.ListenForWebSocket()
	pump, boiler := p.Token("pump"), p.Token("boiler")
	p.Start()
	behind := harness.Subscribe(t, append(m.ClientArgs(), "-t", "v1/devices/+/telemetry")...)
	r := harness.Run(t, node, "clients/topics.mjs", p.CAFile(), pump, boiler, "mqtts://localhost:"+harness.Port(p.TLS), "wss://localhost:"+harness.Port(wss)+"/mqtt")
	runs := 0
	for line := range strings.Lines(r.Stdout) {
		var got struct {
			URL          string
			Version      int
			Denied       []bool
			Pump, Boiler []string
		}
		if err := json.Unmarshal([]byte(line), &got); err != nil {
			t.Fatalf("%q: %v", line, err)
		}
		const topic = "v1/devices/me/rpc/request/1 for the "
		if slices.Contains(got.Denied, false) || !slices.Equal(got.Pump, []string{topic + "pump", "weather rain"}) || !slices.Equal(got.Boiler, []string{topic + "boiler", "weather rain"}) {
			t.Errorf("%s", line)
		}
		runs++
	}
	if r.Status != 0 || runs != 4 {
		t.Fatalf("status %d after %d of 4 runs\n%s", r.Status, runs, r.Stderr)
	}
	for _, got := range behind.Messages(8) {
		if device, _, _ := strings.Cut(unhex(t, got.Payload), " "); got.Topic != "v1/devices/"+device+"/telemetry" {
			t.Errorf("what the %s sent arrives on %s", device, got.Topic)
		}
	}
}

// TestQueueFromBeforeTheMap: messages that the broker queued for a device before the map changed
// are not delivered under another topic. They are acknowledged, so that the queue moves on.
func TestQueueFromBeforeTheMap(t *testing.T) {
	t.Parallel()
	m := harness.StartMosquitto(t)
	shared := m.Upstream() + "topics: {map: [{device: cmd, broker: devices/all/cmd}]}\n"
	p := harness.NewProxy(t, shared)
	p.AddSecret(m.Password)
	token := p.Token("pump")
	p.Start()
	id := packetstest.Identity(4, "one", token)
	id.CleanStart = false
	packetstest.Connect(t, packetstest.Dial(t, p.Plain), id).MustSubscribe("cmd", 1)
	p.Stop()
	harness.Publish(t, append(m.ClientArgs(), "-q", "1", "-t", "devices/all/cmd", "-m", "old")...)
	text, err := os.ReadFile(p.Config)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(p.Config, []byte(strings.Replace(string(text), "devices/all/cmd", "'devices/${subject}/cmd'", 1)), 0o600); err != nil {
		t.Fatal(err)
	}
	p.Start()
	d := packetstest.Connect(t, packetstest.Dial(t, p.Plain), id)
	d.MustSubscribe("cmd", 1)
	m.Await(t, m.Stderr, "acknowledgement of the old message", func(text string) bool { return strings.Contains(text, "Received PUBACK from pump:one") })
	harness.Publish(t, append(m.ClientArgs(), "-q", "1", "-t", "devices/pump/cmd", "-m", "new")...)
	if got, err := d.Next(harness.Patience); err != nil || string(got.Topic) != "cmd" || string(got.Payload) != "new" {
		t.Errorf("the device gets %s on %s, %v", got.Payload, got.Topic, err)
	}
}
