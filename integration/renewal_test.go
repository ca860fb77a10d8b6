//go:build integration

package integration

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	pahopackets "github.com/eclipse/paho.golang/packets"
	"github.com/eclipse/paho.golang/paho"

	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/integration/harness"
	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/packets"
	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/packets/packetstest"
)

// renewer is a device of Paho that sends its token as authentication data.
type renewer struct {
	*paho.Client
	ended chan byte // the reason code of the DISCONNECT that it gets
}

// oneStep is an authentication that takes one packet of the client.
type oneStep struct{}

func (oneStep) Authenticate(*paho.Auth) *paho.Auth { return nil }
func (oneStep) Authenticated()                     {}

func named(name string) string { return name + harness.SecretTail }

func connectRenewer(ctx context.Context, t *testing.T, p *harness.Proxy, id string) renewer {
	t.Helper()
	r := renewer{ended: make(chan byte, 1)}
	r.Client = paho.NewClient(paho.ClientConfig{
		ClientID:           id,
		AuthHandler:        oneStep{},
		Conn:               pahopackets.NewThreadSafeConn(packetstest.Dial(t, p.Plain)),
		OnServerDisconnect: func(d *paho.Disconnect) { r.ended <- d.ReasonCode },
	})
	ack, err := r.Connect(ctx, &paho.Connect{
		ClientID: id, CleanStart: true, KeepAlive: 30,
		Properties:  &paho.ConnectProperties{AuthMethod: "JWT", AuthData: []byte(named("pump 0"))},
		WillMessage: &paho.WillMessage{Topic: "gone/" + id, Payload: []byte("lost")},
	})
	if err != nil || ack.Properties.AuthMethod != "JWT" {
		t.Fatalf("CONNACK with the method %q, %v", ack.Properties.AuthMethod, err)
	}
	return r
}

// renew sends an AUTH and returns the code of the answer, or of the DISCONNECT.
func (r renewer) renew(ctx context.Context, t *testing.T, name string) byte {
	t.Helper()
	answer := make(chan byte, 1)
	go func() {
		auth := &paho.Auth{ReasonCode: 0x19, Properties: &paho.AuthProperties{AuthMethod: "JWT", AuthData: []byte(named(name))}}
		if a, err := r.Authenticate(ctx, auth); err == nil {
			answer <- a.ReasonCode
		}
	}()
	select {
	case code := <-answer:
		return code
	case code := <-r.ended:
		return code
	case <-ctx.Done():
		t.Fatalf("no answer to the AUTH with %s", name)
		return 0
	}
}

// TestRenewalByAuth: a device whose tokens are valid for ten seconds stays connected to Mosquitto
// with eleven of them. A token that is denied or belongs to another device ends the session, and so
// does a service that does not answer. The will is then published. The broker gets no AUTH.
func TestRenewalByAuth(t *testing.T) {
	t.Parallel()
	m := harness.StartMosquitto(t)
	s := harness.StartTokenService(t, func(q harness.Question) harness.Reply {
		subject, number, ok := strings.Cut(strings.TrimSuffix(q.Token, harness.SecretTail), " ")
		if !ok {
			return harness.ReplyJSON(`{"result":"deny"}`)
		}
		return harness.ReplyJSON(`{"result":"allow","subject":"%s","token_id":"%s-%s","expires_in":10}`, subject, subject, number)
	})
	p := harness.NewProxy(t, m.Upstream()+s.Auth()+"token: {from: [auth_data]}\n")
	p.AddSecret(m.Password)
	p.AddSecret(harness.SecretTail)
	p.Start()
	ctx, cancel := context.WithTimeout(t.Context(), 2*harness.Patience)
	defer cancel()
	consumer := harness.Subscribe(t, append(m.ClientArgs(), "-t", "#")...)

	d := connectRenewer(ctx, t, p, "long")
	began := time.Now()
	for i := range 10 {
		harness.Eventually(t, "the next second", func() bool { return time.Since(began) > time.Duration(i+1)*1100*time.Millisecond })
		if code := d.renew(ctx, t, fmt.Sprint("pump ", i+1)); code != 0 {
			t.Fatalf("renewal %d: %#x", i, code)
		}
		if _, err := d.Publish(ctx, &paho.Publish{Topic: "up", QoS: 1, Payload: []byte("still here")}); err != nil {
			t.Fatal(err)
		}
	}
	if lived := time.Since(began); lived < 10*time.Second {
		t.Errorf("the story took %v, less than the lifetime of a token", lived)
	}
	if status, sessions := p.Get("/v1/sessions"); status != 200 || !strings.Contains(sessions, `"pump-10"`) || strings.Contains(sessions, `"pump-9"`) {
		t.Errorf("status %d: %s", status, sessions)
	}
	p.Request("POST", "/v1/revocations", `{"token_id":"pump-9"}`)
	if _, err := d.Publish(ctx, &paho.Publish{Topic: "up", QoS: 1}); err != nil {
		t.Errorf("after the revocation of an old token: %v", err)
	}
	p.Request("POST", "/v1/revocations", `{"token_id":"pump-10"}`)
	if code := <-d.ended; code != 0x98 {
		t.Errorf("the revoked session ends with %#x", code)
	}

	for name, want := range map[string]byte{"unknown": 0x87, "boiler 1": 0x87, "pump down": 0x89} {
		d := connectRenewer(ctx, t, p, strings.ReplaceAll(name, " ", "-"))
		if want == 0x89 {
			s.Stop()
		}
		if code := d.renew(ctx, t, name); code != want {
			t.Errorf("%s: %#x, want %#x", name, code, want)
		}
		harness.Eventually(t, "the will of "+name, func() bool {
			return strings.Contains(consumer.Stdout.String(), "gone/"+strings.ReplaceAll(name, " ", "-"))
		})
		if want == 0x89 {
			s.Start()
		}
	}
	if !p.HasMetric(`mqtt_auth_proxy_tokens_renewed_total{listener="plain"} 10`) {
		_, metrics := p.Get("/metrics")
		t.Errorf("the renewals are not counted: %.300s", metrics[strings.Index(metrics, "mqtt_auth_proxy_tokens_renewed"):])
	}
}

// TestUnknownAuthenticationMethodIsRefused: an unknown authentication method is refused with 0x8C,
// by Mosquitto, by the bundled broker, and by the proxy if it reads authentication data and there
// is none.
func TestUnknownAuthenticationMethodIsRefused(t *testing.T) {
	t.Parallel()
	m := harness.StartMosquitto(t)
	for name, sections := range map[string]string{
		"mosquitto":       m.Upstream(),
		"bundled":         "",
		"auth_data":       m.Upstream() + "token: {from: [auth_data]}\n",
		"auth_data first": "token: {from: [auth_data, password]}\n",
	} {
		p := harness.NewProxy(t, sections)
		p.AddSecret(m.Password)
		device := p.Token("pump")
		p.Start()
		id := packetstest.Identity(5, "d", device)
		id.Properties = packets.Properties(nil).With(packets.AuthenticationMethod, "GS2-KRB5")
		if _, ack := packetstest.Present(t, packetstest.Dial(t, p.Plain), id); ack.Code != packets.BadAuthenticationMethod {
			t.Errorf("%s: CONNACK %#x", name, byte(ack.Code))
		}
		p.Stop()
	}
}
