//go:build integration

package integration

import (
	"context"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/eclipse/paho.golang/packets"
	"github.com/eclipse/paho.golang/paho"

	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/integration/harness"
	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/packets/packetstest"
)

// reader is a program with Paho that takes what devices send. Its session lasts.
type reader struct {
	*paho.Client
	received chan *paho.Publish
	resumed  bool
}

func connectReader(ctx context.Context, t *testing.T, p *harness.Proxy, token string) reader {
	t.Helper()
	r := reader{received: make(chan *paho.Publish, 1000)}
	r.Client = paho.NewClient(paho.ClientConfig{
		ClientID: "reader", Conn: packets.NewThreadSafeConn(packetstest.Dial(t, p.Plain)),
		OnPublishReceived: []func(paho.PublishReceived) (bool, error){func(m paho.PublishReceived) (bool, error) {
			r.received <- m.Packet
			return true, nil
		}},
	})
	anHour := uint32(3600)
	ack, err := r.Connect(ctx, &paho.Connect{
		ClientID: "reader", Username: token, UsernameFlag: true, KeepAlive: 30, Properties: &paho.ConnectProperties{SessionExpiryInterval: &anHour},
	})
	if err != nil {
		t.Fatal(err)
	}
	r.resumed = ack.SessionPresent
	return r
}

func (r reader) subscribe(ctx context.Context, t *testing.T, filters ...string) {
	t.Helper()
	var s paho.Subscribe
	for _, f := range filters {
		s.Subscriptions = append(s.Subscriptions, paho.SubscribeOptions{Topic: f, QoS: 1})
	}
	if _, err := r.Subscribe(ctx, &s); err != nil {
		t.Fatal(err)
	}
}

// next returns the next message, and what is JSON in it.
func (r reader) next(ctx context.Context, t *testing.T) (m *paho.Publish, content map[string]json.RawMessage) {
	t.Helper()
	select {
	case m = <-r.received:
	case <-ctx.Done():
		t.Fatal("no message came")
	}
	if err := json.Unmarshal(m.Payload, &content); err != nil {
		t.Fatalf("%s: %v", m.Payload, err)
	}
	return m, content
}

// TestReaderTakesTheData: a program attaches, sees what devices send and that they come and go,
// leaves, and finds what was sent meanwhile when it comes back.
func TestReaderTakesTheData(t *testing.T) {
	t.Parallel()
	p := harness.NewProxy(t, "")
	pump, dashboard := p.Token("pump-1"), p.Token("dashboard", "--role", "reader")
	p.Start()
	ctx, cancel := context.WithTimeout(t.Context(), 3*harness.Patience)
	defer cancel()
	r := connectReader(ctx, t, p, dashboard)
	r.subscribe(ctx, t, "v1/devices/pump-1/telemetry", "v1/devices/pump-1/attributes", "v1/devices/pump-1/presence")
	r.subscribe(ctx, t, "nothing") // granted once the retained messages of the filters before have been sent
	watcher := harness.Subscribe(t, append(p.ClientArgs(dashboard), "-i", "watcher", "-q", "1", "-t", "v1/devices/+/telemetry")...)

	device := p.Connect(t, 4, "p1", pump)
	m, content := r.next(ctx, t)
	if m.Topic != "v1/devices/pump-1/presence" || string(content["connected"]) != "true" || string(content["client_id"]) != `"p1"` {
		t.Errorf("got %s on %s", m.Payload, m.Topic)
	}
	for topic, payload := range map[string]string{"telemetry": `[{ts:5,values:{t:25.0,on:TRUE,x:NaN}}]`, "attributes": `{fw:1.1}`} {
		if err := device.Publish("v1/devices/me/"+topic, payload); err != nil {
			t.Fatal(err)
		}
		want := map[string]string{"telemetry": `{"t":25.0,"on":true,"x":"NaN"}`, "attributes": `{"fw":1.1}`}[topic]
		if m, content = r.next(ctx, t); m.Topic != "v1/devices/pump-1/"+topic || string(content["values"]) != want || m.Retain {
			t.Errorf("got %s on %s, want %s", m.Payload, m.Topic, want)
		}
	}
	if seen := watcher.Messages(1); seen[0].Topic != "v1/devices/pump-1/telemetry" || seen[0].Payload != hex.EncodeToString([]byte(`{"ts":5,"values":{"t":25.0,"on":true,"x":"NaN"}}`)) {
		t.Errorf("mosquitto_sub got %v", seen)
	}
	harness.Eventually(t, "the list of devices has it", func() bool {
		_, list := p.Get("/v1/devices?connected=true")
		return strings.Contains(list, `"subject":"pump-1"`)
	})

	_ = r.Disconnect(&paho.Disconnect{})
	const n = 100
	for i := range n {
		if err := device.Publish("v1/devices/me/telemetry", fmt.Sprintf(`{"n":%d}`, i)); err != nil {
			t.Fatal(err)
		}
	}
	device.Disconnect()
	r = connectReader(ctx, t, p, dashboard)
	if !r.resumed {
		t.Error("the session of the reader is gone")
	}
	for i := range n {
		if m, content = r.next(ctx, t); string(content["values"]) != fmt.Sprintf(`{"n":%d}`, i) {
			t.Fatalf("message %d is %s on %s", i, m.Payload, m.Topic)
		}
	}
	if m, content = r.next(ctx, t); m.Topic != "v1/devices/pump-1/presence" || string(content["connected"]) != "false" || string(content["reason"]) != `"closed"` {
		t.Errorf("got %s on %s", m.Payload, m.Topic)
	}
}

// TestReaderCannotPublishRevokeOrProfile: its token opens nothing but what devices send.
func TestReaderCannotPublishRevokeOrProfile(t *testing.T) {
	t.Parallel()
	p := harness.NewProxy(t, "")
	pump, dashboard := p.Token("pump-1"), p.Token("dashboard", "--role", "reader")
	p.Start()
	for _, topic := range []string{"v1/devices/pump-1/telemetry", "v1/devices/me/telemetry", "v1/devices/me/rpc/request/1", "anything"} {
		r := harness.MosquittoPub(t, append(p.ClientArgs(dashboard), "-V", "5", "-q", "1", "-t", topic, "-m", `{"forged":1}`)...)
		if !strings.Contains(r.Output(), "Not authorized") {
			t.Errorf("%s: %s", topic, r.Output())
		}
	}
	for _, device := range []string{"pump-1", "dashboard"} {
		if _, keys := p.Get("/api/plugins/telemetry/DEVICE/" + device + "/keys/timeseries"); strings.TrimSpace(keys) != "[]" {
			t.Errorf("%s has %s", device, keys)
		}
	}
	for _, path := range []string{
		"POST /v1/revocations", "DELETE /v1/cache", "DELETE /v1/sessions/1", "POST /v1/reload", "POST /v1/tokens", "GET /debug/pprof/", "GET /v1/devices",
		"GET /api/plugins/telemetry/DEVICE/pump-1/keys/timeseries", "POST /api/rpc/oneway/pump-1",
	} {
		method, path, _ := strings.Cut(path, " ")
		req, err := http.NewRequestWithContext(t.Context(), method, "http://"+p.Admin+path, strings.NewReader(`{"subject":"pump-1"}`))
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Authorization", "Bearer "+dashboard)
		answer, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		_, _ = io.Copy(io.Discard, answer.Body)
		answer.Body.Close()
		if answer.StatusCode != http.StatusUnauthorized {
			t.Errorf("%s %s: status %d", method, path, answer.StatusCode)
		}
	}
	// A device gets none of it.
	sub := harness.RunSubscriber(t, append(p.ClientArgs(pump), "-t", "v1/devices/+/telemetry")...)
	sub.Wait(t, harness.Patience)
	if said := sub.Stdout.String() + sub.Stderr.String(); !strings.Contains(said, "All subscription requests were denied") {
		t.Errorf("a device subscribes to others:\n%s", said)
	}
}
