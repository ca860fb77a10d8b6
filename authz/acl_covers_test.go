package authz_test

import (
	"fmt"
	"math/rand/v2"
	"testing"

	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/authz"
)

func bind(t *testing.T, a *authz.ACL, site string) *authz.BoundACL {
	t.Helper()
	b, err := a.Bind(authz.ACLValues{Subject: "d", Attrs: map[string]string{"site": site}})
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// TestCovers: rules cover others if they only allow more.
func TestCovers(t *testing.T) {
	allow := func(topics ...string) authz.Rule {
		return authz.Rule{Publish: true, Subscribe: true, Topics: topics}
	}
	deny := func(topics ...string) authz.Rule {
		r := allow(topics...)
		r.Deny = true
		return r
	}
	many := make([]string, 100)
	for i := range many {
		many[i] = fmt.Sprint("t/", i)
	}
	rules := func(rest authz.NoMatch, rules ...authz.Rule) *authz.ACL {
		a, err := authz.NewACL(rest, rules...)
		if err != nil {
			t.Fatal(err)
		}
		return a
	}
	for _, tt := range []struct {
		name     string
		old, now *authz.ACL
		site     string // of now; of old it is north
		want     bool
	}{
		{"the same", rules(authz.DenyRest, allow("a")), rules(authz.DenyRest, allow("a")), "north", true},
		{"one more topic", rules(authz.DenyRest, allow("a")), rules(authz.DenyRest, allow("b", "a")), "north", true},
		{"one topic less", rules(authz.DenyRest, allow("a", "b")), rules(authz.DenyRest, allow("a")), "north", false},
		{"a new denial", rules(authz.DenyRest, allow("#")), rules(authz.DenyRest, deny("a"), allow("#")), "north", false},
		{"a denial less", rules(authz.DenyRest, deny("a"), allow("#")), rules(authz.DenyRest, allow("#")), "north", true},
		{"a denial that moved up", rules(authz.DenyRest, allow("a"), deny("#")), rules(authz.DenyRest, deny("#"), allow("a")), "north", false},
		{"the rest is denied now", rules(authz.DeferRest, allow("a")), rules(authz.DenyRest, allow("a")), "north", false},
		{"the rest is left to the broker", rules(authz.DenyRest, allow("a")), rules(authz.DeferRest, allow("a")), "north", true},
		{"rules where there were none", rules(authz.DeferRest), rules(authz.DeferRest, allow("a")), "north", false},
		{"no rules any more", rules(authz.DenyRest, allow("a")), nil, "north", true},
		{"any rules", nil, rules(authz.DeferRest), "north", false},
		{"no rule about $SYS any more", rules(authz.DeferRest, deny("$SYS/a")), rules(authz.DeferRest, deny("b")), "north", false},
		{"another attribute", rules(authz.DenyRest, allow("${attrs.site}/#")), rules(authz.DenyRest, allow("${attrs.site}/#")), "south", false},
		{"the same attribute", rules(authz.DenyRest, allow("${attrs.site}/#")), rules(authz.DenyRest, allow("${attrs.site}/#", "x")), "north", true},
		{"many, the same", rules(authz.DenyRest, allow(many...)), rules(authz.DenyRest, allow(many...)), "north", true},
		{"many, one more", rules(authz.DenyRest, allow(many...)), rules(authz.DenyRest, allow("x"), allow(many...)), "north", true},
		{"many, one less", rules(authz.DenyRest, allow(many...)), rules(authz.DenyRest, allow(many[1:]...)), "north", false},
		{"many with an attribute, the same", rules(authz.DenyRest, allow(append(many, "${attrs.site}")...)), rules(authz.DenyRest, allow(append(many, "${attrs.site}")...)), "north", true},
		{"many with another attribute", rules(authz.DenyRest, allow(append(many, "${attrs.site}")...)), rules(authz.DenyRest, allow(append(many, "${attrs.site}")...)), "south", false},
		{"few in place of many", rules(authz.DenyRest, allow(many...)), rules(authz.DenyRest, allow("t/+")), "north", false},
	} {
		var old, now *authz.BoundACL
		if tt.old != nil {
			old = bind(t, tt.old, "north")
		}
		if tt.now != nil {
			now = bind(t, tt.now, tt.site)
		}
		if got := now.Covers(old); got != tt.want {
			t.Errorf("%s: %v, want %v", tt.name, got, tt.want)
		}
	}
}

// TestCoveringRulesAllowWhatTheCoveredOnesDo: after rules are taken out and put in at random, rules
// that cover the earlier ones allow all that those did.
func TestCoveringRulesAllowWhatTheCoveredOnesDo(t *testing.T) {
	texts := []string{"a", "b", "a/b", "+", "#", "a/#", "$SYS/x", "$SYS/#", "$other", "eq #", "+/b"}
	random := rand.New(rand.NewPCG(1, 2))
	some := func() authz.Rule {
		r := authz.Rule{Deny: random.IntN(2) == 0, Publish: random.IntN(3) > 0, Subscribe: true}
		for range 1 + random.IntN(2) {
			r.Topics = append(r.Topics, texts[random.IntN(len(texts))])
		}
		if random.IntN(4) == 0 {
			r.QoS = []int{random.IntN(3)}
		}
		return r
	}
	covered := 0
	for range 20000 {
		var old, now []authz.Rule
		for range random.IntN(4) {
			old = append(old, some())
		}
		for _, r := range old {
			for random.IntN(4) == 0 {
				now = append(now, some())
			}
			if random.IntN(3) > 0 {
				now = append(now, r)
			}
		}
		a, err := authz.NewACL(authz.NoMatch(random.IntN(2)), old...)
		if err != nil {
			t.Fatal(err)
		}
		b, err := authz.NewACL(authz.NoMatch(random.IntN(2)), now...)
		if err != nil {
			t.Fatal(err)
		}
		before, after := bind(t, a, "s"), bind(t, b, "s")
		if !after.Covers(before) {
			continue
		}
		covered++
		for _, topic := range texts {
			for qos := range byte(3) {
				if before.Publish([]byte(topic), qos, false) && !after.Publish([]byte(topic), qos, false) ||
					before.Subscribe(topic, qos) && !after.Subscribe(topic, qos) {
					t.Fatalf("%s covers %s, but not %q with QoS %d", b, a, topic, qos)
				}
			}
		}
	}
	if covered < 1000 {
		t.Errorf("only %d of the cases were covered", covered)
	}
}
