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

// connected is a device with a will, in each version, and what it lives on.
type connected struct {
	proxy    *harness.Proxy
	sessions map[byte]*packetstest.Client
	observer *packetstest.Client // of the wills
	other    *packetstest.Client // which nothing must happen to
}

// connectAll connects the device "valve" with a token in every version of MQTT,
// with the last over TLS.
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

// ended waits for the end of every session and returns how long the last one
// took. Only 5.0 devices can be told why.
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

// wills returns the wills that were sent.
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

// TestWithdrawnToken: what an operator does with a token reaches the sessions that
// live on it, within the promised second.
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
				if took > harness.Promised+harness.Busy {
					t.Errorf("cut after %v, promised is %v", took, harness.Promised)
				}
				// The broker was told goodbye: nobody died.
				if wills := c.wills(t); wills != nil {
					t.Errorf("wills %v, want none", wills)
				}
				c.checkAfter(t, token, successor)
			})
		})
	}
}

// checkAfter: the token is good for nothing any more, its successor is.
func (c connected) checkAfter(t *testing.T, token, successor string) {
	t.Helper()
	if _, ack := c.proxy.Present(t, 4, "back", token); ack.Code != packets.RefusedNotAuthorized {
		t.Errorf("the withdrawn token gets %d, want 5", ack.Code)
	}
	if successor != "" {
		c.proxy.Connect(t, 5, "successor", successor)
	}
}

// TestRevokeOneOfTwo withdraws by id, which leaves the device's other token alone.
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

// TestRotateWithOverlap: for a while both tokens are good, and no session ends.
func TestRotateWithOverlap(t *testing.T) {
	t.Parallel()
	p := harness.NewProxy(t, "")
	old := p.Token("valve")
	p.Start()
	c := connectAll(t, p, old)
	asked := time.Now()
	fresh := p.NewToken("rotate", "valve", "--overlap", "4s")
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
	// Then the old token is rotated away, as it would have been without overlap.
	c.ended(t, made, packets.AdministrativeAction)
	checkPunctual(t, asked.Add(4*time.Second), made.Add(4*time.Second))
}

// checkPunctual is called at the end of a session that had to come between two
// times, give or take the whole seconds of the token file and the promised one.
func checkPunctual(t *testing.T, from, to time.Time) {
	t.Helper()
	now := time.Now()
	t.Logf("cut %v after the end", now.Sub(to).Round(time.Millisecond))
	if now.Before(from.Add(-time.Second)) || now.After(to.Add(harness.Promised+harness.Busy)) {
		t.Errorf("cut at %v, want it between %v and %v", now, from, to)
	}
}

// TestExpiryWhileConnected: a token's time ends in the middle of a session. Nobody
// has told the broker goodbye, so the will is sent.
func TestExpiryWhileConnected(t *testing.T) {
	t.Parallel()
	harness.EachBroker(t, func(t *testing.T, upstream string) {
		p := harness.NewProxy(t, upstream)
		p.Token("other")
		p.Start()
		asked := time.Now()
		token := p.Token("valve", "--expires", "4s")
		made := time.Now()
		c := connectAll(t, p, token)
		c.ended(t, made, packets.NotAuthorized)
		checkPunctual(t, asked.Add(4*time.Second), made.Add(4*time.Second))
		c.awaitWills(t)
		if _, ack := p.Present(t, 5, "back", token); ack.Code != packets.NotAuthorized {
			t.Errorf("the expired token gets %v, want %v", ack.Code, packets.NotAuthorized)
		}
	})
}

// TestMosquittoSubSeesTheRevocation is the same with the client that everybody
// has.
func TestMosquittoSubSeesTheRevocation(t *testing.T) {
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
	// It tries again, and gives up at the refusal.
	if status := old.Wait(t, harness.Patience); status != 5 {
		t.Errorf("mosquitto_sub 3.1.1: status %d, want 5\n%s", status, old.Stdout)
	}
}
