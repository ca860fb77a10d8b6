package service

import (
	"encoding/json"
	"fmt"
	"net/http"
	"testing"

	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/packets"
	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/packets/packetstest"
)

// asNew makes a token, and returns a connection with it.
func asNew(t *testing.T, s *Service, level byte, request string) *packetstest.Client {
	t.Helper()
	status, body := call(t, s, http.MethodPost, "/v1/tokens", request)
	var made struct{ Token string }
	if err := json.Unmarshal([]byte(body), &made); err != nil || made.Token == "" {
		t.Fatalf("status %d: %s", status, body)
	}
	if status, body := call(t, s, http.MethodPost, "/v1/reload", ""); status != http.StatusOK {
		t.Fatalf("status %d: %s", status, body)
	}
	c, ack := login(t, s, packets.Connect{Level: level, CleanStart: true, ClientID: "test", HasUsername: true, Username: made.Token})
	if ack.Code != packets.Success {
		t.Fatalf("CONNACK %v", ack.Code)
	}
	return c
}

// TestChildOfAGatewayIsNoOtherDevice: what gateways publish for the devices behind them can be read
// under the name of the gateway, and reaches no device that is called like one of them.
func TestChildOfAGatewayIsNoOtherDevice(t *testing.T) {
	s, _ := startService(t, `
listeners: [{address: "127.0.0.1:0"}]
admin: {address: "127.0.0.1:0"}
`)
	publish := func(c *packetstest.Client, topic, payload string, code packets.ReasonCode) {
		t.Helper()
		c.Send((&packets.Publish{Topic: []byte(topic), Payload: []byte(payload), QoS: 1, PacketID: 3}).Append(nil, 5))
		c.ExpectAck(packets.PUBACK, 3, code)
	}
	victim := asNew(t, s, 5, `{"subject":"room 2"}`)
	first := asNew(t, s, 5, `{"subject":"gw-1","gateway":true}`)
	other := asNew(t, s, 5, `{"subject":"gw-2","gateway":true}`)
	publish(victim, "v1/devices/me/telemetry", `{"ts":1,"values":{"t":1}}`, packets.Success)
	publish(victim, "v1/gateway/telemetry", `{"room 2":[{"ts":1,"values":{"t":2}}]}`, 0x90)
	publish(first, "v1/gateway/connect", `{"device":"room 2","type":"default"}`, packets.Success)
	publish(first, "v1/gateway/telemetry", `{"room 2":[{"ts":1,"values":{"t":3}}],"room 3":[{"ts":1,"values":{"t":4}}]}`, packets.Success)
	publish(other, "v1/gateway/telemetry", `{"room 2":[{"ts":1,"values":{"t":5}}]}`, packets.Success)
	publish(first, "v1/gateway/telemetry", `{"../room 2":[{"ts":1,"values":{"t":6}}]}`, 0x99)
	publish(first, "v1/gateway/attributes", `{"room 2":{"serial":"A17"}}`, packets.Success)
	for device, want := range map[string]string{
		"room%202": `{"t":[{"ts":1,"value":"1"}]}`, "gw-1%2Froom%202": `{"t":[{"ts":1,"value":"3"}]}`, "gw-1%2Froom%203": `{"t":[{"ts":1,"value":"4"}]}`,
		"gw-2%2Froom%202": `{"t":[{"ts":1,"value":"5"}]}`, "gw-1": `{}`, "gw-2%2Froom%203": `{}`,
	} {
		if status, body := get(t, s, "/api/plugins/telemetry/DEVICE/"+device+"/values/timeseries"); status != 200 || body != want+"\n" {
			t.Errorf("%s has %s, status %d", device, body, status)
		}
	}
	first.MustSubscribe("v1/gateway/attributes", 1)
	if status, body := call(t, s, http.MethodPost, "/api/plugins/telemetry/DEVICE/gw-1%2Froom%202/SHARED_SCOPE", `{"interval":30}`); status != 200 {
		t.Fatalf("status %d: %s", status, body)
	}
	if m, err := first.Next(patience); err != nil || string(m.Topic) != "v1/gateway/attributes" || string(m.Payload) != `{"device":"room 2","data":{"interval":30}}` {
		t.Errorf("got %s on %s, error %v", m.Payload, m.Topic, err)
	}
	if _, body := get(t, s, "/api/plugins/telemetry/DEVICE/gw-1%2Froom%202/keys/attributes"); body != `["interval","serial"]`+"\n" {
		t.Errorf("attributes %s", body)
	}

	const body = `{"method":"open","params":{"valve":1}}`
	for device, want := range map[string]int{"gw-1%2Fnobody": 404, "gw-1%2Froom%202": 504, "gw-2%2Froom%202": 504} {
		if status, answer := call(t, s, http.MethodPost, "/api/rpc/twoway/"+device, body); status != want {
			t.Errorf("call of %s: status %d, %s", device, status, answer)
		}
	}
	first.MustSubscribe("v1/gateway/rpc", 1)
	answered := make(chan string, 1)
	go func() {
		status, answer := call(t, s, http.MethodPost, "/api/rpc/twoway/gw-1%2Froom%202", body)
		answered <- fmt.Sprint(status, " ", answer)
	}()
	m, err := first.Next(patience)
	var id int
	if _, scanned := fmt.Sscanf(string(m.Payload), `{"device":"room 2","data":{"id":%d,"method":"open","params":{"valve":1}}}`, &id); err != nil || scanned != nil {
		t.Fatalf("got %s on %s, error %v", m.Payload, m.Topic, err)
	}
	first.Send((&packets.Publish{Topic: []byte("v1/gateway/rpc"), Payload: fmt.Appendf(nil, `{"device":"room 2","id":%d,"data":{"success":true}}`, id)}).Append(nil, 5))
	if got := <-answered; got != `200 {"success":true}` {
		t.Errorf("the call was answered with %s", got)
	}
}
