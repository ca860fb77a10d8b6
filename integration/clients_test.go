//go:build integration

package integration

import (
	"context"
	"encoding/json"
	"net"
	"slices"
	"strings"
	"testing"

	"github.com/eclipse/paho.golang/packets"
	"github.com/eclipse/paho.golang/paho"

	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/integration/harness"
	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/packets/packetstest"
)

// TestPaho: the Go client of the Eclipse Paho project, with MQTT 5.0, with and without
// TLS and WebSocket.
func TestPaho(t *testing.T) {
	t.Parallel()
	p := harness.NewProxy(t, harness.StartMosquitto(t).Upstream())
	ws, wss := p.ListenForWebSocket()
	token := p.Token("device")
	p.Start()
	for name, conn := range map[string]func() net.Conn{
		"plain": func() net.Conn { return packetstest.Dial(t, p.Plain) },
		"tls":   func() net.Conn { return p.DialTLS(t) },
		"ws":    func() net.Conn { return dialWebSocket(t, "ws://"+ws+"/mqtt", nil) },
		"wss":   func() net.Conn { return dialWebSocket(t, "wss://localhost:"+harness.Port(wss)+"/mqtt", p.ClientTLS(t)) },
	} {
		t.Run(name, func(t *testing.T) {
			ctx, cancel := context.WithTimeout(t.Context(), harness.Patience)
			defer cancel()
			received := make(chan *paho.Publish, 1)
			client := paho.NewClient(paho.ClientConfig{
				ClientID: "paho-" + name,
				// It writes a packet in parts, and pings whenever it likes.
				Conn: packets.NewThreadSafeConn(conn()),
				OnPublishReceived: []func(paho.PublishReceived) (bool, error){func(r paho.PublishReceived) (bool, error) {
					received <- r.Packet
					return true, nil
				}},
			})
			ack, err := client.Connect(ctx, &paho.Connect{ClientID: "paho-" + name, CleanStart: true, KeepAlive: 30, UsernameFlag: true, Username: token})
			if err != nil {
				t.Fatal(err)
			}
			if ack.ReasonCode != 0 {
				t.Fatalf("reason code %d", ack.ReasonCode)
			}
			topic := "paho/" + name
			if _, err := client.Subscribe(ctx, &paho.Subscribe{Subscriptions: []paho.SubscribeOptions{{Topic: topic, QoS: 1}}}); err != nil {
				t.Fatal(err)
			}
			sent := &paho.Publish{Topic: topic, QoS: 1, Payload: []byte("hi"), Properties: &paho.PublishProperties{
				ContentType: "text/plain", ResponseTopic: "answers", CorrelationData: []byte{0, 255},
				User: paho.UserProperties{{Key: "a", Value: "1"}, {Key: "a", Value: "2"}},
			}}
			if _, err := client.Publish(ctx, sent); err != nil {
				t.Fatal(err)
			}
			checkPahoMessage(ctx, t, received, sent)
			if err := client.Disconnect(&paho.Disconnect{}); err != nil {
				t.Error(err)
			}
		})
	}
	testPahoRefused(t, p)
}

// checkPahoMessage compares the payload and all properties.
func checkPahoMessage(ctx context.Context, t *testing.T, received <-chan *paho.Publish, sent *paho.Publish) {
	t.Helper()
	select {
	case got := <-received:
		pr := got.Properties
		if string(got.Payload) != "hi" || got.QoS != 1 || pr.ContentType != "text/plain" || pr.ResponseTopic != "answers" ||
			string(pr.CorrelationData) != "\x00\xFF" || len(pr.User) != 2 || pr.User[1].Value != "2" {
			t.Errorf("received %v %+v, want %v %+v", got, pr, sent, sent.Properties)
		}
	case <-ctx.Done():
		t.Fatal("no message came back")
	}
}

func testPahoRefused(t *testing.T, p *harness.Proxy) {
	t.Helper()
	client := paho.NewClient(paho.ClientConfig{ClientID: "paho", Conn: packetstest.Dial(t, p.Plain)})
	ctx, cancel := context.WithTimeout(t.Context(), harness.Patience)
	defer cancel()
	ack, err := client.Connect(ctx, &paho.Connect{ClientID: "paho", CleanStart: true, KeepAlive: 30, UsernameFlag: true, Username: "wrong"})
	if err == nil || ack == nil || ack.ReasonCode != packets.ConnackBadUsernameOrPassword {
		t.Errorf("a wrong token gets %+v, %v, want reason code %#x", ack, err, packets.ConnackBadUsernameOrPassword)
	}
}

// TestMQTTJS: the client of most gateways that run on Node. It runs clients/story.mjs.
func TestMQTTJS(t *testing.T) {
	t.Parallel()
	node := harness.Need(t, "node")
	harness.NeedFile(t, "clients/node_modules/mqtt")
	p := harness.NewProxy(t, harness.StartMosquitto(t).Upstream())
	ws, wss := p.ListenForWebSocket()
	token := p.Token("device")
	p.Start()
	r := harness.Run(t, node, "clients/story.mjs", p.CAFile(), token,
		"mqtt://"+p.Plain, "mqtts://localhost:"+harness.Port(p.TLS), "ws://"+ws+"/mqtt", "wss://localhost:"+harness.Port(wss)+"/mqtt")
	type received struct {
		Payload string
		QoS     int
	}
	want := []received{{"at 0", 0}, {"at 1", 1}, {"at 2", 2}}
	connections := 0
	for line := range strings.Lines(r.Stdout) {
		var got struct {
			URL, Version string
			Received     []received
			Refused      int
		}
		if err := json.Unmarshal([]byte(line), &got); err != nil {
			t.Fatalf("%q: %v", line, err)
		}
		refused := 5
		if got.Version == "5.0" {
			refused = 0x86
		}
		if !slices.Equal(got.Received, want) || got.Refused != refused {
			t.Errorf("%s, %s: received %v and code %d for a wrong token, want %v and %d", got.URL, got.Version, got.Received, got.Refused, want, refused)
		}
		connections++
	}
	if r.Status != 0 || connections != 12 {
		t.Errorf("status %d after %d of 12 connections\n%s", r.Status, connections, r.Stderr)
	}
}
