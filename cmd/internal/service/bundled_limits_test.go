package service

import (
	"strings"
	"testing"
	"time"

	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/packets"
	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/packets/packetstest"
)

// TestDevicesLearnTheLimitsInForce: getSessionLimits answers with the limits of the configuration.
func TestDevicesLearnTheLimitsInForce(t *testing.T) {
	s, _ := startService(t, `
listeners: [{address: "127.0.0.1:0"}]
admin: {address: "127.0.0.1:0"}
limits: {session: {publish_rate: 20, publish_burst: 50, max_packet: 10KiB}}
`)
	for _, level := range []byte{4, 5} {
		nc, ack := login(t, s, asDemo(s, level))
		if ack.Code != packets.Success {
			t.Fatalf("CONNACK %v", ack.Code)
		}
		defer nc.Close()
		c := packetstest.New(t, nc, level)
		c.MustSubscribe("v1/devices/me/rpc/response/+", 1)
		const call = `{"method": "getSessionLimits", "params": {"timeout": 5000}}`
		c.Send((&packets.Publish{Topic: []byte("v1/devices/me/rpc/request/1"), Payload: []byte(call), QoS: 1, PacketID: 3}).Append(nil, level))
		answer, err := c.Next(5 * time.Second)
		if err != nil {
			t.Fatal(err)
		}
		if got := string(answer.Payload); string(answer.Topic) != "v1/devices/me/rpc/response/1" || !strings.HasPrefix(got, `{"maxPayloadSize":10176,"maxInflightMessages":64,"rateLimits":{"messages":"20:1",`) {
			t.Errorf("answer %s on %s", got, answer.Topic)
		}
	}
}
