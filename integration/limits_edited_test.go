//go:build integration

package integration

import (
	"encoding/json"
	"fmt"
	"path/filepath"
	"strings"
	"testing"

	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/integration/harness"
	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/packets"
)

// TestLimitsEditedUnderASession: an edit of the token file changes the limits of a device that is
// held to a rate, and no message is lost. The session of a 5.0 device that has learned a higher
// limit from its CONNACK ends.
func TestLimitsEditedUnderASession(t *testing.T) {
	t.Parallel()
	harness.EachBroker(t, func(t *testing.T, upstream string) {
		p := harness.NewProxy(t, upstream)
		token, dashboard := p.Token("sensor"), p.Token("dashboard")
		setLimits(t, p, `{"publish_rate":1,"publish_burst":1}`)
		p.Start()
		sub := harness.Subscribe(t, append(p.ClientArgs(dashboard), "-t", "held")...)
		held, modern := p.Connect(t, 4, "held", token), p.Connect(t, 5, "modern", token)
		const messages = 1000 // at the first rate for a quarter of an hour
		var sent []byte
		for i := range messages {
			m := packets.Publish{Topic: []byte("held"), Payload: fmt.Appendf(nil, "%04d", i)}
			sent = m.Append(sent, 4)
		}
		held.Send(sent)
		harness.Eventually(t, "the hold", func() bool { return harness.Metric(t, p, "mqtt_auth_proxy_sessions_held") == 1 })
		setLimits(t, p, `{"publish_rate":5000,"max_qos":0}`)
		for i, m := range sub.Messages(messages) {
			if unhex(t, m.Payload) != fmt.Sprintf("%04d", i) {
				t.Fatalf("message %d is %s", i, unhex(t, m.Payload))
			}
		}
		harness.Eventually(t, "the end of the hold", func() bool { return harness.Metric(t, p, "mqtt_auth_proxy_sessions_held") == 0 })
		if code, err := modern.AwaitEnd(harness.Patience); err != nil || code != packets.AdministrativeAction {
			t.Errorf("the session that has to learn of max_qos ended with %#x, %v", code, err)
		}
		for _, m := range []packets.Publish{{QoS: 1, PacketID: 7, Payload: []byte("over max_qos")}, {Payload: []byte("within the limits")}} {
			m.Topic = []byte("held")
			held.Send(m.Append(nil, 4))
		}
		held.ExpectAck(packets.PUBACK, 7, 0)
		if m := sub.Messages(messages + 1)[messages]; unhex(t, m.Payload) != "within the limits" {
			t.Errorf("message %q", unhex(t, m.Payload))
		}
	})
}

// setLimits sets the limits of all devices in the token file.
func setLimits(t *testing.T, p *harness.Proxy, limits string) {
	t.Helper()
	file := filepath.Join(p.Data, "tokens.jsonl")
	var lines strings.Builder
	for line := range strings.Lines(harness.ReadFile(t, file)) {
		if strings.HasPrefix(line, `{"format":`) {
			lines.WriteString(line)
			continue
		}
		var device map[string]any
		if err := json.Unmarshal([]byte(line), &device); err != nil {
			t.Fatal(err)
		}
		device["limits"] = json.RawMessage(limits)
		if err := json.NewEncoder(&lines).Encode(device); err != nil {
			t.Fatal(err)
		}
	}
	harness.WriteFile(t, file, lines.String())
}
