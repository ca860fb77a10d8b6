//go:build integration

package integration

import (
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/integration/harness"
	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/packets"
	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/packets/packetstest"
)

// TestProxyProtocolUnknownToTheBroker: Mosquitto 2.0 closes the connection when it
// gets the header, and the error names the likely reason.
func TestProxyProtocolUnknownToTheBroker(t *testing.T) {
	t.Parallel()
	m := harness.StartMosquitto(t)
	p := harness.NewProxy(t, strings.Replace(m.Upstream(), "upstream: {", "upstream: {proxy_protocol: v2, ", 1))
	p.AddSecret(m.Password)
	token := p.Token("thermometer")
	p.Start()
	if r := harness.MosquittoPub(t, append(p.ClientArgs(token), "-t", "a", "-m", "b")...); r.Status != 3 {
		t.Errorf("status %d, want 3\n%s", r.Status, r.Output())
	}
	p.AwaitLog("the likely cause", func(l harness.LogLine) bool {
		return l.String("reason") == "upstream_unavailable" && strings.Contains(l.String("detail"), "upstream.proxy_protocol: v2")
	})
}

// TestTokenAsClientID: ThingsBoard's libraries for small devices send the access token as
// the client identifier. No log has it, neither the proxy's nor the broker's, and the
// device finds its session again after a restart of the proxy.
func TestTokenAsClientID(t *testing.T) {
	t.Parallel()
	m := harness.StartMosquitto(t)
	p := harness.NewProxy(t, m.Upstream())
	p.AddSecret(m.Password)
	token := p.Token("thermometer")
	wrong := "a-token-of-another-system"
	p.AddSecret(wrong)
	p.Start()
	id := packetstest.Identity(4, token, token)
	id.CleanStart = false
	packetstest.Connect(t, packetstest.Dial(t, p.Plain), id).MustSubscribe("commands", 1)
	status, sessions := p.Get("/v1/sessions")
	hash := sha256.Sum256([]byte(token))
	if fingerprint := hex.EncodeToString(hash[:4]); status != 200 || strings.Contains(sessions, token) || !strings.Contains(sessions, `"client_id":"`+fingerprint+`"`) {
		t.Errorf("status %d, sessions %s; want client id %s", status, strings.ReplaceAll(sessions, token, "TOKEN"), fingerprint)
	}
	if r := harness.MosquittoPub(t, append(p.ClientArgs(wrong), "-i", wrong, "-t", "a", "-m", "b")...); r.Status != 5 {
		t.Errorf("the wrong token: status %d, want 5", r.Status)
	}
	p.Stop()
	harness.Publish(t, append(m.ClientArgs(), "-q", "1", "-t", "commands", "-m", "kept")...)
	p.Start()
	d := packetstest.Connect(t, packetstest.Dial(t, p.Plain), id)
	if got, err := d.Next(harness.Patience); err != nil || string(got.Payload) != "kept" {
		t.Errorf("after a restart the device gets %q, error %v", got.Payload, err)
	}
	log := m.Stderr.String()
	for _, secret := range []string{token, wrong} {
		if strings.Contains(log, secret) {
			t.Error("a token stands in the log of the broker")
		}
	}
	if !regexp.MustCompile(`as (thermometer:)?[0-9a-f]{32} \(`).MatchString(log) {
		t.Errorf("the broker knows no client by 32 digits\n%s", harness.Excerpt(log))
	}
}

// TestDevicesWithOneClientID: two devices with the same client identifier in their
// firmware have separate sessions and queues. Only the same subject can take over a
// session.
func TestDevicesWithOneClientID(t *testing.T) {
	t.Parallel()
	harness.EachBroker(t, func(t *testing.T, upstream string) {
		p := harness.NewProxy(t, upstream)
		one, two, helper := p.Token("one"), p.Token("two"), p.Token("helper")
		p.Start()
		lasting := func(token string) *packets.Connect {
			c := packetstest.Identity(4, "firmware", token)
			c.CleanStart = false
			return c
		}
		first := packetstest.Connect(t, packetstest.Dial(t, p.Plain), lasting(one))
		first.MustSubscribe("commands", 1)
		second, ack := packetstest.Present(t, packetstest.Dial(t, p.Plain), lasting(two))
		if ack.Code != packets.Success || ack.SessionPresent {
			t.Fatalf("the second device: %v, session present %v", ack.Code, ack.SessionPresent)
		}
		if err := first.Publish("a", "b"); err != nil {
			t.Errorf("the first device after the second: %v", err)
		}
		if err := second.Publish("a", "b"); err != nil {
			t.Errorf("the second device after the first: %v", err)
		}
		first.Disconnect()
		second.Disconnect()
		harness.Publish(t, append(p.ClientArgs(helper), "-q", "1", "-t", "commands", "-m", "for one alone")...)
		second, ack = packetstest.Present(t, packetstest.Dial(t, p.Plain), lasting(two))
		if got, err := second.Next(500 * time.Millisecond); !ack.SessionPresent || err == nil {
			t.Errorf("the second device: session present %v, gets %q", ack.SessionPresent, got.Payload)
		}
		first, ack = packetstest.Present(t, packetstest.Dial(t, p.Plain), lasting(one))
		if got, err := first.Next(harness.Patience); !ack.SessionPresent || err != nil || string(got.Payload) != "for one alone" {
			t.Errorf("the first device: session present %v, gets %q, error %v", ack.SessionPresent, got.Payload, err)
		}
	})
}

// TestAssignedClientID: a 5.0 device without a client identifier gets one assigned. With
// it the device finds its session again, and no other device can.
func TestAssignedClientID(t *testing.T) {
	t.Parallel()
	for _, template := range []string{"${subject}:${client_id}", "${client_id}"} {
		t.Run(template, func(t *testing.T) {
			t.Parallel()
			m := harness.StartMosquitto(t)
			p := harness.NewProxy(t, strings.Replace(m.Upstream(), "upstream: {", "upstream: {client_id: '"+template+"', ", 1))
			p.AddSecret(m.Password)
			owner, stranger := p.Token("owner"), p.Token("stranger")
			p.Start()
			first := packetstest.Identity(5, "", owner)
			first.Properties = packets.Properties{0x11, 0, 0, 1, 0} // session expiry interval
			d, ack := packetstest.Present(t, packetstest.Dial(t, p.Plain), first)
			id, ok := ack.Properties.AssignedClientIdentifier()
			if ack.Code != packets.Success || !ok {
				t.Fatalf("CONNACK %v, assigned client id %q", ack.Code, id)
			}
			if _, sessions := p.Get("/v1/sessions"); !strings.Contains(sessions, `"client_id":"`+id+`"`) {
				t.Errorf("the session is not known as %s: %s", id, sessions)
			}
			again := func(token string) packets.Connack {
				c := packetstest.Identity(5, id, token)
				c.CleanStart, c.Properties = false, first.Properties
				_, ack := packetstest.Present(t, packetstest.Dial(t, p.Plain), c)
				return ack
			}
			if ack := again(stranger); ack.SessionPresent || ack.Code == packets.Success && template == "${client_id}" {
				t.Errorf("another device: CONNACK %v, session present %v", ack.Code, ack.SessionPresent)
			}
			d.Disconnect()
			if ack := again(owner); ack.Code != packets.Success || !ack.SessionPresent {
				t.Errorf("the owner: CONNACK %v, session present %v", ack.Code, ack.SessionPresent)
			}
		})
	}
}

// TestSharedClientIDs: if the broker gets the devices' own client identifiers, each
// belongs to the subject that uses it. The same subject may connect again; others are
// refused.
func TestSharedClientIDs(t *testing.T) {
	t.Parallel()
	harness.EachBroker(t, func(t *testing.T, upstream string) {
		const own = "upstream: {client_id: '${client_id}', "
		p := harness.NewProxy(t, own+strings.TrimPrefix(cmp.Or(upstream, "}\n"), "upstream: {"))
		owner, stranger := p.Token("owner"), p.Token("stranger")
		p.Start()
		first := p.Connect(t, 5, "shared", owner)
		for version, want := range map[string]int{"mqttv31": 2, "mqttv311": 2, "mqttv5": 133} {
			if r := harness.MosquittoPub(t, append(p.ClientArgs(stranger), "-V", version, "-i", "shared", "-t", "a", "-m", "b")...); r.Status != want {
				t.Errorf("the stranger's %s: status %d, want %d\n%s", version, r.Status, want, r.Output())
			}
		}
		if err := first.Publish("a", "b"); err != nil {
			t.Fatalf("the owner's session: %v", err)
		}
		second := p.Connect(t, 5, "shared", owner)
		// Mosquitto 2.0 sends no DISCONNECT here.
		if code, err := first.AwaitEnd(harness.Patience); err != nil || code != packets.SessionTakenOver && upstream == "" {
			t.Errorf("the owner's first session: %v, %v, want %v", code, err, packets.SessionTakenOver)
		}
		if err := second.Publish("a", "b"); err != nil {
			t.Errorf("the owner's second session: %v", err)
		}
		second.Conn.Close()
		harness.Eventually(t, "the id's way to a stranger once it is free", func() bool {
			_, ack := p.Present(t, 5, "shared", stranger)
			return ack.Code == packets.Success
		})
	})
}
