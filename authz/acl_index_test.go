package authz

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

// indexed returns the ACL with an index, even if it has few topics, and listed the one whose
// rules are matched one by one, even if it has many.
func indexed(a *ACL) *ACL {
	x := &ACL{rules: a.rules, rest: a.rest, unbound: a.unbound, topics: fewTopics + 1}
	return x
}

func listed(a *ACL) *ACL { return &ACL{rules: a.rules, rest: a.rest, unbound: a.unbound} }

// drawFilter draws from the same few levels for rules, topics and filters, so that they often
// match.
func drawFilter(t *rapid.T, levels ...string) string {
	f := rapid.SliceOfN(rapid.SampledFrom(levels), 1, 4).Draw(t, "levels")
	if rapid.Bool().Draw(t, "deep") {
		f = append(f, "#")
	}
	return strings.Join(f, "/")
}

func drawRule(t *rapid.T) Rule {
	r := Rule{Deny: rapid.Bool().Draw(t, "deny"), Publish: rapid.Bool().Draw(t, "publish")}
	r.Subscribe = !r.Publish || rapid.Bool().Draw(t, "subscribe")
	r.QoS = rapid.SampledFrom([][]int{nil, nil, nil, {0}, {1, 2}}).Draw(t, "qos")
	if yes, no := true, false; r.Publish {
		r.Retain = rapid.SampledFrom([]*bool{nil, nil, nil, &yes, &no}).Draw(t, "retain")
	}
	for range rapid.IntRange(1, 3).Draw(t, "topics") {
		text := drawFilter(t, "", "a", "b", "c", "+", "+", "$s", "$x${subject}", "${clientid}", "a${subject}", "${client_attrs.a/b}", "#")
		if rapid.IntRange(0, 4).Draw(t, "eq") == 0 {
			text = "eq " + text
		}
		if _, err := compilePattern(text); err == nil {
			r.Topics = append(r.Topics, text)
		}
	}
	if len(r.Topics) == 0 {
		r.Topics = []string{"a"}
	}
	return r
}

// TestIndexAgreesWithList: the first match decides, for all rules, sessions and questions.
func TestIndexAgreesWithList(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		n := rapid.SampledFrom([]int{1, 3, 8, 60, 500}).Draw(t, "rules")
		drawn := make([]Rule, min(n, 8))
		for i := range drawn {
			drawn[i] = drawRule(t)
		}
		var rules []Rule
		for i := range n { // many rules that never match, and some that may
			r := Rule{Deny: true, Publish: true, Subscribe: true, Topics: []string{fmt.Sprintf("z/%d", i), fmt.Sprintf("z/+/%d/#", i), "eq z/+"}}
			if i%max(n/len(drawn), 1) == 0 && i*len(drawn)/n < len(drawn) {
				r = drawn[i*len(drawn)/n]
			}
			rules = append(rules, r)
		}
		rest := rapid.SampledFrom([]NoMatch{DenyRest, DeferRest}).Draw(t, "rest")
		acl, err := NewACL(rest, rules...)
		if err != nil {
			t.Fatal(err)
		}
		word := rapid.SampledFrom([]string{"a", "b", "$s", "x", "ab", "", "#", "\xff", "$share"})
		values := ACLValues{ClientID: word.Draw(t, "client id"), Subject: word.Draw(t, "subject"), Attrs: map[string]string{"a/b": word.Draw(t, "attr")}}
		list, errList := listed(acl).Bind(values)
		tree, errIndex := indexed(acl).Bind(values)
		if (errList == nil) != (errIndex == nil) {
			t.Fatalf("the list is bound with %v, the index with %v", errList, errIndex)
		}
		if errList != nil {
			return
		}
		for range 20 {
			topic := drawFilter(t, "", "a", "b", "c", "z", "$s", "$xa", "ab", "aa", "+", "${subject}", "$share", "$share/g", "7")
			qos, retain := byte(rapid.IntRange(0, 3).Draw(t, "qos")), rapid.Bool().Draw(t, "retain")
			if got, want := tree.Publish([]byte(topic), qos, retain), list.Publish([]byte(topic), qos, retain); got != want {
				t.Fatalf("publish %q with QoS %d, retain %v: the index says %v, the list %v\n%v", topic, qos, retain, got, want, acl)
			}
			if got, want := tree.Subscribe(topic, qos), list.Subscribe(topic, qos); got != want {
				t.Fatalf("subscribe %q with QoS %d: the index says %v, the list %v\n%v", topic, qos, got, want, acl)
			}
		}
	})
}

// TestManyTopicsInOneRule: an index has no limit of its own.
func TestManyTopicsInOneRule(t *testing.T) {
	r := Rule{Publish: true, Subscribe: true}
	for i := range 3*chunkSize + 1 {
		r.Topics = append(r.Topics, fmt.Sprintf("a/%d/#", i))
	}
	acl, err := NewACL(DenyRest, Rule{Deny: true, Publish: true, Topics: []string{"a/3000/no"}}, r)
	if err != nil {
		t.Fatal(err)
	}
	b, err := acl.Bind(ACLValues{})
	if err != nil {
		t.Fatal(err)
	}
	for topic, want := range map[string]bool{"a/0/x": true, "a/3000/x": true, "a/3000/no": false, "a/3072": true, "a/3073": false} {
		if got := b.Publish([]byte(topic), 0, false); got != want {
			t.Errorf("publish %q is %v", topic, got)
		}
	}
	if !b.Subscribe("a/3072/#", 0) || b.Subscribe("a/+", 0) {
		t.Error("subscriptions are decided otherwise")
	}
}

func TestTooManyRules(t *testing.T) {
	rules := slices.Repeat([]Rule{{Publish: true, Topics: []string{"a"}}}, MaxRules+1)
	if _, err := NewACL(DenyRest, rules[:MaxRules]...); err != nil {
		t.Error(err)
	}
	if _, err := NewACL(DenyRest, rules...); err == nil || !strings.Contains(err.Error(), "at most 1000") {
		t.Errorf("%d rules: %v", len(rules), err)
	}
	deep := "a" + strings.Repeat("/a", maxRuleLevels)
	if _, err := NewACL(DenyRest, Rule{Publish: true, Topics: []string{deep}}); err == nil || !strings.Contains(err.Error(), "200 levels") {
		t.Errorf("%d levels: %v", maxRuleLevels+1, err)
	}
}

// manyRules are those of a device that may do a few things that others may do as well.
func manyRules(n int) []Rule {
	rules := make([]Rule, n)
	for i := range rules {
		rules[i] = Rule{Deny: i%3 == 0, Publish: true, Subscribe: i%2 == 0, Topics: []string{fmt.Sprintf("v1/site-%d/${clientid}/+/state", i)}}
	}
	rules[n-1] = Rule{Publish: true, Subscribe: true, Topics: []string{"v1/devices/${clientid}/#"}}
	return rules
}

func bindMany(b testing.TB, n int, as func(*ACL) *ACL) *BoundACL {
	acl, err := NewACL(DenyRest, manyRules(n)...)
	if err != nil {
		b.Fatal(err)
	}
	bound, err := as(acl).Bind(ACLValues{ClientID: "thermostat-0001"})
	if err != nil {
		b.Fatal(err)
	}
	return bound
}

// ways are the two ways to match rules, and the one that Bind selects.
var ways = map[string]func(*ACL) *ACL{"list": listed, "index": indexed}

func eachWay(b *testing.B, run func(b *testing.B, n int, as func(*ACL) *ACL)) {
	for _, n := range []int{1, 10, 100, 1000} {
		for _, way := range slices.Sorted(maps.Keys(ways)) {
			b.Run(fmt.Sprintf("%d rules/%s", n, way), func(b *testing.B) { run(b, n, ways[way]) })
		}
	}
}

func BenchmarkDecisions(b *testing.B) {
	for name, decide := range map[string]func(*BoundACL) bool{
		"publish allowed": func(a *BoundACL) bool { return a.Publish([]byte("v1/devices/thermostat-0001/telemetry"), 1, false) },
		"publish denied":  func(a *BoundACL) bool { return !a.Publish([]byte("v1/devices/thermostat-0002/telemetry"), 1, false) },
		"subscribe":       func(a *BoundACL) bool { return a.Subscribe("v1/devices/thermostat-0001/rpc/+", 1) },
		"subscribe wide":  func(a *BoundACL) bool { return !a.Subscribe("+/+/+/+/other", 1) },
	} {
		b.Run(name, func(b *testing.B) {
			eachWay(b, func(b *testing.B, n int, as func(*ACL) *ACL) {
				acl := bindMany(b, n, as)
				b.ReportAllocs()
				for b.Loop() {
					if !decide(acl) {
						b.Fatal("decided otherwise")
					}
				}
			})
		})
	}
}

func BenchmarkBind(b *testing.B) {
	eachWay(b, func(b *testing.B, n int, as func(*ACL) *ACL) {
		acl, err := NewACL(DenyRest, manyRules(n)...)
		if err != nil {
			b.Fatal(err)
		}
		acl = as(acl)
		b.ReportAllocs()
		for b.Loop() {
			if _, err := acl.Bind(ACLValues{ClientID: "thermostat-0001"}); err != nil {
				b.Fatal(err)
			}
		}
	})
}

func BenchmarkIndex(b *testing.B) {
	for _, n := range []int{100, 1000} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			acl, err := NewACL(DenyRest, manyRules(n)...)
			if err != nil {
				b.Fatal(err)
			}
			b.ReportAllocs()
			for b.Loop() {
				newIndex(acl.rules)
			}
		})
	}
}
