package service

import (
	"strings"
	"testing"

	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/authz"
	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/authz/tokenfile"
	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/packets"
	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/packets/packetstest"
)

// loginAs connects with a token that is made for it.
func loginAs(t *testing.T, s *Service, level byte, o tokenfile.CreateOptions) *packetstest.Client {
	t.Helper()
	made, err := tokenfile.Create(s.current.Load().config.Auth.Sources[0].File.Path, o)
	if err != nil {
		t.Fatal(err)
	}
	p := packets.Connect{Level: level, CleanStart: true, KeepAlive: 60, ClientID: o.Name, HasUsername: true, Username: made.Token.Reveal()}
	var c *packetstest.Client
	await(t, "the token is known", func() bool {
		var ack packets.Connack
		c, ack = login(t, s, p)
		return ack.Code == packets.Success
	})
	return c
}

// TestReaderGetsWhatDevicesSend: a reader gets what its own rules allow, and has neither the rights
// of a device nor those of an operator.
func TestReaderGetsWhatDevicesSend(t *testing.T) {
	s, _ := startService(t, bundledConfig+"topics: {acl: [{permission: allow, action: all, topics: ['v1/devices/me/#']}]}\n")
	for _, level := range []byte{4, 5} {
		d := connectDemo(t, s, level)
		version := string('0' + rune(level))
		all := loginAs(t, s, level, tokenfile.CreateOptions{Name: "dashboard" + version, Role: authz.RoleReader})
		all.MustSubscribe("v1/devices/+/telemetry", 1)
		some := loginAs(t, s, level, tokenfile.CreateOptions{
			Name: "other" + version, Role: authz.RoleReader,
			ACL: []byte(`[{"permission":"allow","action":"all","topics":["v1/devices/demo/#"]}]`),
		})
		some.MustSubscribe("v1/devices/demo/telemetry", 1)
		if code := some.Subscribe("v1/devices/+/telemetry", 1); code < 0x80 {
			t.Errorf("level %d: a subscription beyond its rules is granted with %d", level, code)
		}
		// What a reader publishes is stored for no device.
		for _, topic := range []string{"v1/devices/me/telemetry", "v1/devices/demo/telemetry"} {
			some.Send((&packets.Publish{Topic: []byte(topic), Payload: []byte(`{"forged":1}`), QoS: 1, PacketID: 3}).Append(nil, level))
			some.Expect(packets.PUBACK)
		}
		d.Send((&packets.Publish{Topic: []byte("v1/devices/me/telemetry"), Payload: []byte(`[{ts:5,values:{t:25.0,x:NaN}},{on:true}]`), QoS: 1, PacketID: 3}).Append(nil, level))
		for _, r := range []*packetstest.Client{all, some} {
			for _, want := range []string{`{"ts":5,"values":{"t":25.0,"x":"NaN"}}`, `,"values":{"on":true}}`} {
				m, err := r.Next(patience)
				if err != nil || string(m.Topic) != "v1/devices/demo/telemetry" || !strings.HasSuffix(string(m.Payload), want) || m.QoS != 1 || m.Retain {
					t.Errorf("level %d: got %s on %s, error %v, want %s", level, m.Payload, m.Topic, err, want)
				}
			}
		}
		for _, device := range []string{"demo", "other" + version} {
			if _, body := get(t, s, "/api/plugins/telemetry/DEVICE/"+device+"/keys/timeseries"); strings.Contains(body, "forged") {
				t.Errorf("a reader has stored something for %s: %s", device, body)
			}
		}
	}
}
