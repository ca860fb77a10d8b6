//go:build integration

package integration

import (
	"strings"
	"testing"
	"time"

	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/integration/harness"
	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/packets"
	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/packets/packetstest"
)

// connected has the sessions of one token, one in each version of MQTT and each with a will, and
// two other clients.
type connected struct {
	proxy    *harness.Proxy
	sessions map[byte]*packetstest.Client
	observer *packetstest.Client // receives the wills
	other    *packetstest.Client // must not be affected
}

// connectAll connects the device "valve" in every version of MQTT, the last one over TLS.
func connectAll(t *testing.T, p *harness.Proxy, token string) connected {
	t.Helper()
	c := connected{proxy: p, sessions: map[byte]*packetstest.Client{}}
	bystander := p.Token("bystander")
	harness.Eventually(t, "the bystander's way in", func() bool {
		d, ack := p.Present(t, 5, "observer", bystander)
		c.observer = d
		return ack.Code == packets.Success
	})
	c.other = p.Connect(t, 4, "other", bystander)
	c.observer.MustSubscribe("wills/#", 1)
	for level, name := range map[byte]string{3: "three", 4: "four", 5: "five"} {
		in := packetstest.Identity(level, name, token)
		in.HasWill, in.Will = true, packets.Will{Topic: "wills/" + name, QoS: 1}
		conn := packetstest.Dial(t, p.Plain)
		if level == 5 {
			conn = p.DialTLS(t)
		}
		c.sessions[level] = packetstest.Connect(t, conn, in)
	}
	return c
}

// ended waits for the end of every session and returns how long the last one took. Only
// 5.0 devices get a reason code.
func (c connected) ended(t *testing.T, since time.Time, want packets.ReasonCode) time.Duration {
	t.Helper()
	for level, d := range c.sessions {
		switch code, err := d.AwaitEnd(harness.Patience); {
		case err != nil:
			t.Fatalf("level %d: %v", level, err)
		case level == 5 && code != want:
			t.Errorf("the session ended with %#x %v, want %#x %v", byte(code), code, byte(want), want)
		case level < 5 && code != 0:
			t.Errorf("level %d: got a DISCONNECT, which that version does not know", level)
		}
	}
	took := time.Since(since)
	if err := c.other.Publish("a", "b"); err != nil {
		t.Errorf("the session of another device: %v", err)
	}
	return took
}

// wills returns the wills that were published.
func (c connected) wills(t *testing.T) []string {
	t.Helper()
	if err := c.other.Publish("wills/marker", "that is all"); err != nil {
		t.Fatal(err)
	}
	var topics []string
	for {
		m, err := c.observer.Next(harness.Patience)
		if err != nil {
			t.Fatal(err)
		}
		if string(m.Topic) == "wills/marker" {
			return topics
		}
		topics = append(topics, string(m.Topic))
	}
}

// awaitWills waits for the wills of all sessions.
func (c connected) awaitWills(t *testing.T) {
	t.Helper()
	missing := map[string]bool{"wills/three": true, "wills/four": true, "wills/five": true}
	for len(missing) > 0 {
		m, err := c.observer.Next(harness.Patience)
		if err != nil {
			t.Fatalf("wills of %v: %v", missing, err)
		}
		delete(missing, string(m.Topic))
	}
}

// TestWithdrawnToken: a token command ends the sessions of the token within a second.
func TestWithdrawnToken(t *testing.T) {
	t.Parallel()
	for name, withdraw := range map[string][]string{
		"revoked by device": {"revoke", "valve"},
		"disabled":          {"disable", "valve"},
		"rotated":           {"rotate", "valve"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			harness.EachBroker(t, func(t *testing.T, upstream string) {
				p := harness.NewProxy(t, upstream)
				token := p.Token("valve")
				p.Start()
				c := connectAll(t, p, token)
				var successor string
				if withdraw[0] == "rotate" {
					successor = p.NewToken(withdraw...)
				} else if r := p.TokenCommand(withdraw...); r.Status != 0 {
					t.Fatal(r.Output())
				}
				took := c.ended(t, time.Now(), packets.AdministrativeAction)
				t.Logf("cut after %v", took.Round(time.Millisecond))
				if took > harness.WithdrawalLimit+harness.Slack {
					t.Errorf("cut after %v, promised is %v", took, harness.WithdrawalLimit)
				}
				// The broker got a DISCONNECT.
				if wills := c.wills(t); wills != nil {
					t.Errorf("wills %v, want none", wills)
				}
				c.checkAfter(t, token, successor)
			})
		})
	}
}

// checkAfter fails the test if the token is still accepted, or its successor is not.
func (c connected) checkAfter(t *testing.T, token, successor string) {
	t.Helper()
	if _, ack := c.proxy.Present(t, 4, "back", token); ack.Code != packets.RefusedNotAuthorized {
		t.Errorf("the withdrawn token gets %d, want 5", ack.Code)
	}
	if successor != "" {
		c.proxy.Connect(t, 5, "successor", successor)
	}
}

// TestRevokeOneOfTwo: revoking a token by its identifier does not affect the device's
// other token.
func TestRevokeOneOfTwo(t *testing.T) {
	t.Parallel()
	p := harness.NewProxy(t, "")
	first := p.Token("valve")
	second := p.NewToken("rotate", "valve", "--overlap", "1h")
	p.Start()
	a := p.Connect(t, 5, "a", first)
	b := p.Connect(t, 5, "b", second)
	id := p.AwaitLog("session", func(l harness.LogLine) bool { return l.String("client_id") == "a" }).String("token_id")
	if r := p.TokenCommand("revoke", id); r.Status != 0 {
		t.Fatal(r.Output())
	}
	if code, err := a.AwaitEnd(harness.Patience); err != nil || code != packets.AdministrativeAction {
		t.Errorf("the revoked token's session: %v, %v", code, err)
	}
	if err := b.Publish("a", "b"); err != nil {
		t.Errorf("the other token's session: %v", err)
	}
}

// TestRotateWithOverlap: for a while both tokens are accepted, and no session ends.
func TestRotateWithOverlap(t *testing.T) {
	t.Parallel()
	p := harness.NewProxy(t, "")
	old := p.Token("valve")
	p.Start()
	c := connectAll(t, p, old)
	asked := time.Now()
	fresh := p.NewToken("rotate", "valve", "--overlap", "15s")
	made := time.Now()
	harness.Eventually(t, "the new token's way in", func() bool {
		_, ack := p.Present(t, 5, "fresh", fresh)
		return ack.Code == packets.Success
	})
	p.Connect(t, 4, "old", old)
	for level, d := range c.sessions {
		if err := d.Publish("a", "b"); err != nil {
			t.Errorf("level %d: the old token's session: %v", level, err)
		}
	}
	// Then the old token is withdrawn, as without an overlap.
	c.ended(t, made, packets.AdministrativeAction)
	checkPunctual(t, asked.Add(15*time.Second), made.Add(15*time.Second))
}

// checkPunctual fails the test unless it is called between two times. A second more is
// allowed for the whole seconds of the token file.
func checkPunctual(t *testing.T, from, to time.Time) {
	t.Helper()
	now := time.Now()
	t.Logf("cut %v after the end", now.Sub(to).Round(time.Millisecond))
	if now.Before(from.Add(-time.Second)) || now.After(to.Add(harness.WithdrawalLimit+harness.Slack)) {
		t.Errorf("cut at %v, want it between %v and %v", now, from, to)
	}
}

// TestExpiryWhileConnected: a session ends when its token expires. The broker gets no
// DISCONNECT, so it publishes the will.
func TestExpiryWhileConnected(t *testing.T) {
	t.Parallel()
	harness.EachBroker(t, func(t *testing.T, upstream string) {
		p := harness.NewProxy(t, upstream)
		p.Token("other")
		p.Start()
		asked := time.Now()
		token := p.Token("valve", "--expires", "15s")
		made := time.Now()
		c := connectAll(t, p, token)
		c.ended(t, made, packets.NotAuthorized)
		checkPunctual(t, asked.Add(15*time.Second), made.Add(15*time.Second))
		c.awaitWills(t)
		if _, ack := p.Present(t, 5, "back", token); ack.Code != packets.NotAuthorized {
			t.Errorf("the expired token gets %v, want %v", ack.Code, packets.NotAuthorized)
		}
	})
}

// TestRevocationOfMosquittoSub: the sessions of mosquitto_sub end when their token is
// revoked.
func TestRevocationOfMosquittoSub(t *testing.T) {
	t.Parallel()
	p := harness.NewProxy(t, "")
	token := p.Token("valve")
	p.Start()
	old := harness.Subscribe(t, append(p.ClientArgs(token), "-t", "a")...)
	now := harness.Subscribe(t, append(p.ClientArgs(token), "-V", "mqttv5", "-t", "a")...)
	if r := p.TokenCommand("revoke", "valve"); r.Status != 0 {
		t.Fatal(r.Output())
	}
	now.Await(t, now.Stdout, "DISCONNECT", func(text string) bool { return strings.Contains(text, "Received DISCONNECT (152)") })
	// It connects again, and gives up when it is refused.
	if status := old.Wait(t, harness.Patience); status != 5 {
		t.Errorf("mosquitto_sub 3.1.1: status %d, want 5\n%s", status, old.Stdout)
	}
}
