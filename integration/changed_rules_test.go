//go:build integration

package integration

import (
	"path/filepath"
	"strings"
	"testing"

	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/integration/harness"
	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/packets/packetstest"
)

// TestRulesEditedUnderASession: an edit of the token file changes what a device of 3.1.1 may do
// while it is connected. Its session ends only if it would lose a subscription, or if its
// subscriptions are from an earlier connection.
func TestRulesEditedUnderASession(t *testing.T) {
	t.Parallel()
	m := harness.StartMosquitto(t)
	p := harness.NewProxy(t, m.Upstream())
	p.AddSecret(m.Password)
	token := p.Token("pump")
	file := filepath.Join(p.Data, "tokens.jsonl")
	plain := harness.ReadFile(t, file)
	allow := func(site, topics string) {
		rules := `"client_attrs":{"site":"` + site + `"},"acl":[{"permission":"allow","action":"all","topics":[` + topics + `]}],"subject":`
		harness.WriteFile(t, file, strings.Replace(plain, `"subject":`, rules, 1))
	}
	allow("north", `"a","b","${attrs.site}/#"`)
	p.Start()

	consumer := harness.Subscribe(t, append(m.ClientArgs(), "-t", "#")...)
	kept := packetstest.Identity(4, "kept", token)
	kept.CleanStart = false
	packetstest.Connect(t, packetstest.Dial(t, p.Plain), kept).MustSubscribe("a", 1)
	resumed := packetstest.Connect(t, packetstest.Dial(t, p.Plain), kept)
	fresh := p.Connect(t, 4, "fresh", token)
	fresh.MustSubscribe("a", 0)

	allow("south", `"a","${attrs.site}/#"`)
	if _, err := resumed.AwaitEnd(harness.Patience); err != nil {
		t.Errorf("the resumed session: %v", err)
	}
	harness.Eventually(t, "a message to the new site", func() bool {
		if err := fresh.Publish("b", "not allowed any more"); err != nil {
			t.Fatal(err)
		}
		if err := fresh.Publish("south/x", "allowed now"); err != nil {
			t.Fatal(err)
		}
		return strings.Contains(consumer.Stdout.String(), "south/x")
	})
	harness.Publish(t, append(m.ClientArgs(), "-t", "a", "-m", "hello")...)
	if got, err := fresh.Next(harness.Patience); err != nil || string(got.Payload) != "hello" {
		t.Errorf("the device got %q, %v", got.Payload, err)
	}

	allow("south", `"b"`)
	if _, err := fresh.AwaitEnd(harness.Patience); err != nil {
		t.Errorf("the session whose subscription is not allowed any more: %v", err)
	}
	p.AwaitLog("why it has ended", func(l harness.LogLine) bool { return l.String("cause") == "rights_changed" })
}
