package inspect_test

import (
	"fmt"
	"strings"
	"sync"
	"testing"

	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/authz"
	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/authz/topicmap"
	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/packets"
	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/proxy/internal/inspect"
)

// only allows the given topics and nothing else.
func only(t testing.TB, topics ...string) *authz.BoundACL {
	t.Helper()
	acl, err := authz.NewACL(authz.DenyRest, authz.Rule{Publish: true, Subscribe: true, Topics: topics})
	if err != nil {
		t.Fatal(err)
	}
	b, err := acl.Bind(authz.ACLValues{})
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// placed returns the map me/# -> SITE/# for each of the sites.
func placed(t testing.TB, sites ...string) (bound []*topicmap.Bound) {
	t.Helper()
	m, err := topicmap.Compile(topicmap.Options{Rules: []topicmap.Rule{{Device: "me/#", Broker: "${attrs.site}/#"}}})
	if err != nil {
		t.Fatal(err)
	}
	for _, site := range sites {
		b, err := m.Bind("d", map[string]string{"site": site})
		if err != nil {
			t.Fatal(err)
		}
		bound = append(bound, b)
	}
	return bound
}

func mustFeed(t *testing.T, f *inspect.Filter, in string) string {
	t.Helper()
	pass, _, err := feed(f, in, 1000)
	if err != nil {
		t.Fatal(err)
	}
	return pass
}

// TestSwapKnowsWhatIsSubscribed: rights may change if every subscription stays the same.
func TestSwapKnowsWhatIsSubscribed(t *testing.T) {
	for _, level := range []byte{3, 4, 5} {
		var c inspect.Control
		up, down := inspect.New(inspect.Session{Level: level, ACL: only(t, "a", "b"), Control: &c})
		mustFeed(t, up, subscribe(level, packets.SUBSCRIBE, "a", "b", "c"))
		mustFeed(t, down, string((&packets.Suback{Type: packets.SUBACK, PacketID: 7, Codes: []packets.ReasonCode{0, 0}}).Append(nil, level)))
		if err := c.Swap(inspect.Rights{ACL: only(t, "a", "x")}); err == nil {
			t.Errorf("level %d: rules without a subscription of the device", level)
		}
		if pass := mustFeed(t, up, publish(level, "b", 0, "x")); pass == "" {
			t.Errorf("level %d: rules that were refused are in force", level)
		}
		mustFeed(t, up, subscribe(level, packets.UNSUBSCRIBE, "b"))
		if err := c.Swap(inspect.Rights{ACL: only(t, "a", "x")}); err != nil {
			t.Errorf("level %d: %v, with nothing subscribed to but a", level, err)
		}
		if pass := mustFeed(t, up, publish(level, "b", 0, "x")); pass != "" {
			t.Errorf("level %d: %x passed", level, pass)
		}
		if level < 5 {
			continue
		}
		// The broker may refuse to end a subscription.
		mustFeed(t, up, subscribe(level, packets.UNSUBSCRIBE, "a"))
		mustFeed(t, down, string((&packets.Suback{Type: packets.UNSUBACK, PacketID: 7, Codes: []packets.ReasonCode{packets.NotAuthorized}}).Append(nil, 5)))
		if err := c.Swap(inspect.Rights{ACL: only(t, "x")}); err == nil {
			t.Error("rules without a subscription that the broker has kept")
		}
	}
}

// TestSwapNamesTheLimit: the error names the limit that the subscriptions of the device exceed.
func TestSwapNamesTheLimit(t *testing.T) {
	none := byte(0)
	for limit, limits := range map[string]authz.Limits{"subscriptions is 1": {Subscriptions: 1}, "max_qos is 0": {MaxQoS: &none}} {
		up, _, c, _ := limited(t, 4, `{"subscriptions":5}`)
		mustFeed(t, up, subscribe(4, packets.SUBSCRIBE, "a", "b"))
		if err := c.Swap(inspect.Rights{Limits: &limits}); err == nil || !strings.HasSuffix(err.Error(), ": the limit "+limit) {
			t.Errorf("%+v: %v", limits, err)
		}
	}
}

// TestSwapOfUnknownSubscriptions: rights may only grow if the broker has kept a session, or if
// there are more subscriptions than are remembered.
func TestSwapOfUnknownSubscriptions(t *testing.T) {
	for name, filters := range map[string]int{"resumed": 0, "too many": 900} {
		var c inspect.Control
		up, _ := inspect.New(inspect.Session{Level: 4, ACL: only(t, "t/#"), Control: &c, Resumed: filters == 0})
		for i := range filters {
			mustFeed(t, up, subscribe(4, packets.SUBSCRIBE, fmt.Sprintf("t/%08d", i)))
		}
		if err := c.Swap(inspect.Rights{ACL: only(t, "t/#", "more")}); err != nil {
			t.Errorf("%s: wider rules: %v", name, err)
		}
		if err := c.Swap(inspect.Rights{ACL: only(t, "t/#")}); err == nil {
			t.Errorf("%s: narrower rules", name)
		}
	}
	var c inspect.Control
	up, _ := inspect.New(inspect.Session{Level: 4, ACL: only(t, "t/#"), Control: &c})
	for i := range 2000 { // the same ones again take no more
		mustFeed(t, up, subscribe(4, packets.SUBSCRIBE, fmt.Sprintf("t/%d", i%10)))
	}
	if err := c.Swap(inspect.Rights{ACL: only(t, "t/+")}); err != nil {
		t.Error(err)
	}
}

// TestSwapOfTheMap: aliases that the receiver knows stand for the topics of before, so topics
// are sent with them once more.
func TestSwapOfTheMap(t *testing.T) {
	var c inspect.Control
	sites := placed(t, "north", "south")
	limits := inspect.Limits{TopicAliasMaximum: 3}
	up, down := inspect.New(inspect.Session{Level: 5, Topics: sites[0], Control: &c, Broker: limits, Client: limits})
	mustFeed(t, up, aliased(1, "me/x", 0))
	mustFeed(t, down, aliased(2, "north/y", 0))
	if got := mustFeed(t, up, aliased(1, "", 0)); got != aliased(1, "", 0) {
		t.Errorf("before: %x", got)
	}
	if err := c.Swap(inspect.Rights{Topics: sites[1]}); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if got, want := mustFeed(t, up, aliased(1, "", 0)), aliased(1, "south/x", 0); got != want && got != aliased(1, "", 0) {
			t.Errorf("up: %x, want %x", got, want)
		}
	}
	if got := mustFeed(t, down, aliased(2, "", 0)); got != "" {
		t.Errorf("down: %x of the other site", got)
	}
	mustFeed(t, up, subscribe(5, packets.SUBSCRIBE, "me/#"))
	if err := c.Swap(inspect.Rights{Topics: sites[0]}); err == nil {
		t.Error("a subscription to the other site")
	}
}

// TestSwapInsideAPacket: a packet of which only a part has come is judged by the rights at its
// end, whether those need more of it or less.
func TestSwapInsideAPacket(t *testing.T) {
	site := placed(t, "north")[0]
	for _, mapped := range []bool{false, true} {
		for cut := 1; cut < len(publish(4, "north/x", 1, "payload")); cut++ {
			var c inspect.Control
			s := inspect.Session{Level: 4, Control: &c}
			next := inspect.Rights{Topics: site}
			if mapped {
				s.Topics, next.Topics = site, nil
			}
			_, down := inspect.New(s)
			in := publish(4, "north/x", 1, "payload")
			got := mustFeed(t, down, in[:cut])
			if err := c.Swap(next); err != nil {
				t.Fatal(err)
			}
			got += mustFeed(t, down, in[cut:]) + mustFeed(t, down, pingreq)
			if got != in+pingreq && got != publish(4, "me/x", 1, "payload")+pingreq {
				t.Errorf("cut at %d, mapped before: %v: %x", cut, mapped, got)
			}
		}
	}
}

// TestSwapAtOnce: messages and subscriptions pass by either rights while those change, in both
// directions, and no subscription is overlooked.
func TestSwapAtOnce(t *testing.T) {
	var c inspect.Control
	wide, narrow := only(t, "a", "b"), only(t, "a")
	sites := placed(t, "north")
	up, down := inspect.New(inspect.Session{Level: 4, ACL: wide, Control: &c})
	var both sync.WaitGroup
	subscribed := false
	both.Go(func() {
		for i := range 2000 {
			if pass, _, err := up.Filter([]byte(publish(4, "b", 0, "x"))); err != nil || len(pass) != 0 && string(pass) != publish(4, "b", 0, "x") {
				t.Errorf("up: %x, %v", pass, err)
			}
			if i == 1000 {
				pass, _, err := up.Filter([]byte(subscribe(4, packets.SUBSCRIBE, "b")))
				if subscribed = len(pass) > 0; err != nil {
					t.Error(err)
				}
			}
		}
	})
	both.Go(func() {
		for range 2000 {
			if pass, _, err := down.Filter([]byte(publish(4, "north/x", 0, "x"))); err != nil ||
				string(pass) != publish(4, "north/x", 0, "x") && string(pass) != publish(4, "me/x", 0, "x") {
				t.Errorf("down: %x, %v", pass, err)
			}
		}
	})
	for i := range 1000 {
		if i%2 == 0 {
			_ = c.Swap(inspect.Rights{ACL: narrow}) // refused once b is subscribed to
		} else if err := c.Swap(inspect.Rights{ACL: wide, Topics: sites[0]}); err != nil {
			t.Error(err)
		}
	}
	both.Wait()
	if refused := c.Swap(inspect.Rights{ACL: narrow}); (refused != nil) != subscribed {
		t.Errorf("subscribed to b: %v, narrow rules: %v", subscribed, refused)
	}
}
