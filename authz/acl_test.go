package authz_test

import (
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/authz"
)

// bound parses a valid ACL and binds it to a session.
func bound(t testing.TB, text string, o authz.ACLOptions) *authz.BoundACL {
	t.Helper()
	acl, err := authz.ParseACL([]byte(text), o)
	if err != nil {
		t.Fatal(err)
	}
	b, err := acl.Bind(authz.ACLValues{ClientID: "c1", Username: "u1", Subject: "s1", Attrs: map[string]string{"site": "x1", "a.b": "y1"}})
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestACLPublish(t *testing.T) {
	rest := authz.ACLOptions{Rest: authz.DeferRest}
	for _, test := range []struct {
		acl     string
		options authz.ACLOptions
		topic   string
		qos     byte
		retain  bool
		want    bool
	}{
		{acl: `[]`, topic: "a", want: false},
		{acl: `[]`, options: rest, topic: "a", want: true},
		{acl: `{}`, options: rest, topic: "a", want: false},
		{acl: `[{"permission":"allow","action":"publish","topic":"a/+"}]`, topic: "a/b", want: true},
		{acl: `[{"permission":"allow","action":"subscribe","topic":"a/+"}]`, topic: "a/b", want: false},
		{acl: `[{"permission":"allow","action":"all","topics":["x","a/+"]}]`, topic: "a/b", want: true},
		{acl: `[{"permission":"deny","action":"pub","topic":"a/b"},{"permission":"allow","action":"pub","topic":"#"}]`, topic: "a/b", want: false},
		{acl: `[{"permission":"allow","action":"pub","topic":"#"},{"permission":"deny","action":"pub","topic":"a/b"}]`, topic: "a/b", want: true},
		{acl: `[{"permission":"allow","action":"pub","topic":"#"}]`, topic: "$SYS/x", want: false},
		{acl: `[{"permission":"deny","action":"pub","topic":"a/#"}]`, options: rest, topic: "a", want: false},
		{acl: `[{"permission":"allow","action":"pub","topic":"a","qos":[0,2]}]`, topic: "a", qos: 1, want: false},
		{acl: `[{"permission":"allow","action":"pub","topic":"a","qos":[0,2]}]`, topic: "a", qos: 2, want: true},
		{acl: `[{"permission":"allow","action":"pub","topic":"a","qos":1}]`, topic: "a", qos: 1, want: true},
		{acl: `[{"permission":"allow","action":"pub","topic":"a","retain":false}]`, topic: "a", retain: true, want: false},
		{acl: `[{"permission":"allow","action":"pub","topic":"a","retain":1}]`, topic: "a", retain: true, want: true},
		{acl: `[{"permission":"allow","action":"pub","topic":"a","retain":"all"}]`, topic: "a", retain: true, want: true},
		{acl: `[{"permission":"allow","action":"pub","topic":"eq a/b"}]`, topic: "a/b", want: true},
		{acl: `[{"permission":"allow","action":"pub","topic":"eq a/+"}]`, topic: "a/b", want: false},
		{acl: `[{"permission":"allow","action":"pub","topic":"eq a/+"}]`, topic: "a/+", want: false},
		{acl: `[{"permission":"allow","action":"pub","topic":"eq a/${clientid}"}]`, topic: "a/${clientid}", want: true},
		{acl: `[{"permission":"allow","action":"pub","topic":"${client_attrs.site}/${subject}/${username}-${clientid}/${client_attrs.a.b}"}]`,
			topic: "x1/s1/u1-c1/y1", want: true},
		{acl: `[{"permission":"allow","action":"pub","topic":"${clientid}/+"}]`, topic: "c2/x", want: false},
		{acl: `{"pub":["a"],"sub":["b"],"all":["c"]}`, topic: "a", want: true},
		{acl: `{"pub":["a"],"sub":["b"],"all":["c"]}`, topic: "b", want: false},
		{acl: `{"all":["c"]}`, topic: "c", want: true},
		{acl: `[]`, options: rest, topic: "", want: false},
		{acl: `[]`, options: rest, topic: "a/#", want: false},
		{acl: `[]`, options: rest, topic: "a\x00", want: false},
		{acl: `[]`, options: rest, topic: "a", qos: 3, want: false},
	} {
		if got := bound(t, test.acl, test.options).Publish([]byte(test.topic), test.qos, test.retain); got != test.want {
			t.Errorf("%s: publish %q qos %d retain %v is %v", test.acl, test.topic, test.qos, test.retain, got)
		}
	}
	if new(authz.BoundACL).Publish([]byte("a"), 0, false) || new(authz.BoundACL).Subscribe("a", 0) {
		t.Error("the zero value allows something")
	}
}

func TestACLSubscribe(t *testing.T) {
	rest := authz.ACLOptions{Rest: authz.DeferRest}
	const narrow = `[{"permission":"deny","action":"sub","topic":"a/secret"},{"permission":"allow","action":"all","topic":"a/#"}]`
	for _, test := range []struct {
		acl     string
		options authz.ACLOptions
		filter  string
		qos     byte
		want    bool
	}{
		{acl: `[]`, filter: "a", want: false},
		{acl: `[]`, options: rest, filter: "#", want: true},
		{acl: narrow, filter: "a/b", want: true},
		{acl: narrow, filter: "a/b/#", want: true},
		{acl: narrow, filter: "a/secret", want: false},
		{acl: narrow, filter: "a/#", want: false},
		{acl: narrow, filter: "a/+", want: false},
		{acl: narrow, filter: "+/b", want: false},
		{acl: narrow, options: rest, filter: "#", want: false},
		{acl: narrow, options: rest, filter: "+/b", want: true},
		{acl: narrow, filter: "$share/g/a/b", want: true},
		{acl: narrow, filter: "$share/g/a/+", want: false},
		{acl: narrow, filter: "$share/a/b", want: false},
		{acl: narrow, options: rest, filter: "a/#/b", want: false},
		{acl: narrow, options: rest, filter: "b", qos: 3, want: false},
		{acl: `[{"permission":"deny","action":"pub","topic":"a"}]`, options: rest, filter: "a", want: true},
		{acl: `[{"permission":"allow","action":"sub","topic":"a","qos":[0]}]`, filter: "a", qos: 1, want: false},
		{acl: `[{"permission":"deny","action":"sub","topic":"a","qos":[1,2]}]`, options: rest, filter: "a", qos: 0, want: true},
		{acl: `[{"permission":"allow","action":"all","topic":"a","retain":true}]`, filter: "a", want: true},
		{acl: `[{"permission":"deny","action":"sub","topic":"eq #"}]`, options: rest, filter: "#", want: false},
		{acl: `[{"permission":"deny","action":"sub","topic":"eq #"}]`, options: rest, filter: "$share/g/#", want: false},
		{acl: `[{"permission":"deny","action":"sub","topic":"eq #"}]`, options: rest, filter: "a/#", want: true},
		{acl: `[{"permission":"deny","action":"sub","topic":"eq a/b"}]`, options: rest, filter: "a/+", want: false},
		{acl: `[{"permission":"allow","action":"sub","topic":"eq a/#"}]`, filter: "a/#", want: true},
		{acl: `[{"permission":"allow","action":"sub","topic":"eq a/#"}]`, filter: "a/b", want: false},
		{acl: `{"sub":["${subject}/#"]}`, filter: "s1/+", want: true},
		{acl: `{"sub":["${subject}/#"]}`, filter: "+/x", want: false},
	} {
		if got := bound(t, test.acl, test.options).Subscribe(test.filter, test.qos); got != test.want {
			t.Errorf("%s: subscribe %q qos %d is %v", test.acl, test.filter, test.qos, got)
		}
	}
}

// TestPrefixesOfBrokers: no rule can be bypassed by prefixes or spellings that only some
// brokers understand.
func TestPrefixesOfBrokers(t *testing.T) {
	const (
		secret  = `{"permission":"deny","action":"all","topics":["secret/#"]}`
		stats   = `{"permission":"allow","action":"all","topics":["$SYS/stats/#"]}`
		queue   = `{"permission":"deny","action":"all","topics":["eq $queue/x"]}`
		devices = `{"permission":"allow","action":"all","topics":["$dev-${clientid}/+"]}`
	)
	for _, test := range []struct {
		rules, topic       string
		publish, subscribe bool
	}{
		{secret, "$SHARE/g/secret/x", false, false},
		{secret, "$Share/g/open", false, false},
		{secret, "$share/g/secret/x", false, false},
		{secret, "$share/g/open", false, true},
		{secret, "$share/g/$SHARE/g/secret/x", false, false},
		{secret, "$share/g/$queue/secret/x", false, false},
		{secret, "$queue/secret/x", false, false},
		{secret, "$exclusive/secret/x", false, false},
		{secret, "$delayed/5/secret/x", false, false},
		{secret, "$SYS/stats/x", false, false},
		{secret, "$", false, false},
		{secret, "open/$queue", true, true},
		{secret, "open", true, true},
		{stats, "$SYS/stats/x", true, true},
		{stats, "$share/g/$SYS/stats/x", false, true},
		{stats, "$SYS/other", true, true}, // no rule matches, and the rest is deferred
		{stats, "$sys/stats/x", false, false},
		{stats, "$SYSTEM/x", false, false},
		{queue, "$queue/x", false, false},
		{queue, "$queue/y", true, true},
		{devices, "$dev-c1/x", true, true},
		{devices, "$dev-c2/x", false, false},
		{``, "$SYS/x", true, true}, // without rules the broker decides about everything
		{``, "$share/g/x", true, true},
	} {
		b := bound(t, "["+test.rules+"]", authz.ACLOptions{Rest: authz.DeferRest})
		if got := b.Publish([]byte(test.topic), 0, false); got != test.publish {
			t.Errorf("%s: publish %q is %v", test.rules, test.topic, got)
		}
		if got := b.Subscribe(test.topic, 0); got != test.subscribe {
			t.Errorf("%s: subscribe %q is %v", test.rules, test.topic, got)
		}
	}
}

func TestACLBindRefuses(t *testing.T) {
	good := authz.ACLValues{ClientID: "c", Username: "u", Subject: "s", Attrs: map[string]string{"k": "v"}}
	for _, test := range []struct {
		topic  string
		change func(*authz.ACLValues)
		want   string
	}{
		{"x/${clientid}", func(v *authz.ACLValues) { v.ClientID = "a/b" }, "${clientid}"},
		{"x/${clientid}", func(v *authz.ACLValues) { v.ClientID = "+" }, "${clientid}"},
		{"x/${username}", func(v *authz.ACLValues) { v.Username = "secret#" }, "${username}"},
		{"x/${subject}", func(v *authz.ACLValues) { v.Subject = "a\x00" }, "${subject}"},
		{"x/${subject}", func(v *authz.ACLValues) { v.Subject = "\xff" }, "filter"},
		{"x/${client_attrs.k}", func(v *authz.ACLValues) { v.Attrs = nil }, "no value"},
		{"x/${username}", func(v *authz.ACLValues) { v.Username = "" }, "no value"},
		{"${clientid}/x", func(v *authz.ACLValues) { v.ClientID = "$SYS" }, "begins with $"},
		{"x/${clientid}", func(v *authz.ACLValues) { v.ClientID = strings.Repeat("x", 65535) }, "filter"},
		{"$sh${clientid}/x", func(v *authz.ACLValues) { v.ClientID = "are" }, "$share"},
	} {
		acl, err := authz.NewACL(authz.DeferRest, authz.Rule{Deny: true, Publish: true, Topics: []string{"y", test.topic}})
		if err != nil {
			t.Fatal(err)
		}
		values := good
		if _, err := acl.Bind(values); err != nil {
			t.Errorf("%s: %v", test.topic, err)
		}
		test.change(&values)
		_, err = acl.Bind(values)
		if err == nil || !strings.Contains(err.Error(), test.want) || strings.Contains(err.Error(), "secret") {
			t.Errorf("%s: %v, want something about %s", test.topic, err, test.want)
		}
	}
}

// TestACLKnowsBothSpellings: all spellings of a placeholder have the same meaning.
func TestACLKnowsBothSpellings(t *testing.T) {
	acl, err := authz.ParseACL([]byte(`{"pub":["a/${clientid}/${client_id}/${client_attrs.k}/${attrs.k}"]}`), authz.ACLOptions{})
	if err != nil {
		t.Fatal(err)
	}
	b, err := acl.Bind(authz.ACLValues{ClientID: "c", Attrs: map[string]string{"k": "v"}})
	if err != nil || !b.Publish([]byte("a/c/c/v/v"), 0, false) {
		t.Errorf("%v, want the same value for both", err)
	}
}

// Placeholders in a value are not replaced, and a value that is not used need not be valid.
func TestACLBindOnce(t *testing.T) {
	acl, err := authz.NewACL(authz.DenyRest, authz.Rule{Publish: true, Topics: []string{"x-${clientid}"}})
	if err != nil {
		t.Fatal(err)
	}
	b, err := acl.Bind(authz.ACLValues{ClientID: "${subject}", Subject: "a/b"})
	if err != nil || !b.Publish([]byte("x-${subject}"), 0, false) {
		t.Errorf("%v, want the client id as it is", err)
	}
	plain, err := authz.NewACL(authz.DenyRest, authz.Rule{Publish: true, Topics: []string{"x"}})
	if err != nil {
		t.Fatal(err)
	}
	one, err := plain.Bind(authz.ACLValues{ClientID: "#"})
	two, _ := plain.Bind(authz.ACLValues{})
	if err != nil || one != two {
		t.Errorf("an ACL without placeholders is bound anew: %v", err)
	}
}

func TestNewACLRefuses(t *testing.T) {
	retain := true
	for want, r := range map[string]authz.Rule{
		"neither for publishing":               {Topics: []string{"a"}},
		"no topics":                            {Publish: true},
		"qos is 3":                             {Publish: true, Topics: []string{"a"}, QoS: []int{0, 3}},
		"qos is -1":                            {Publish: true, Topics: []string{"a"}, QoS: []int{-1}},
		"retain applies to publishing":         {Subscribe: true, Topics: []string{"a"}, Retain: &retain},
		"not a topic filter":                   {Publish: true, Topics: []string{"a", "a#"}},
		"is unknown; allowed are ${client_id}": {Publish: true, Topics: []string{"${password}"}},
		"${client_attrs.}":                     {Publish: true, Topics: []string{"${client_attrs.}"}},
		"has no closing brace":                 {Publish: true, Topics: []string{"a/${clientid"}},
		"$share/group/":                        {Subscribe: true, Topics: []string{"$share/g/a"}},
		"must omit":                            {Subscribe: true, Topics: []string{"eq $SHARE/g/a"}},
	} {
		good := authz.Rule{Publish: true, Topics: []string{"a"}}
		_, err := authz.NewACL(authz.DenyRest, good, r)
		if err == nil || !strings.Contains(err.Error(), want) || !strings.HasPrefix(err.Error(), "rule 2: ") {
			t.Errorf("%+v: %v, want %q", r, err, want)
		}
	}
}

func TestACLEqual(t *testing.T) {
	var all []*authz.ACL
	for _, text := range []string{
		`[]`,
		`{"pub":["a"],"sub":["b"]}`,
		`[{"permission":"allow","action":"pub","topic":"a"}]`,
		`[{"permission":"deny","action":"pub","topic":"a"}]`,
		`[{"permission":"allow","action":"sub","topic":"a"}]`,
		`[{"permission":"allow","action":"pub","topic":"a","qos":0}]`,
		`[{"permission":"allow","action":"pub","topic":"a","retain":false}]`,
		`[{"permission":"allow","action":"pub","topic":"eq a"}]`,
		`[{"permission":"allow","action":"pub","topics":["a","b"]}]`,
	} {
		acl, err := authz.ParseACL([]byte(text), authz.ACLOptions{})
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, acl)
	}
	deferring, err := authz.NewACL(authz.DeferRest)
	if err != nil {
		t.Fatal(err)
	}
	all = append(all, deferring)
	for i, a := range all {
		for j, b := range all {
			if a.Equal(b) != (i == j) || (a.String() == b.String()) != (i == j) {
				t.Errorf("%v and %v: equal is %v", a, b, a.Equal(b))
			}
		}
		if a.Equal(nil) {
			t.Errorf("%v equals nil", a)
		}
	}
	same, err := authz.ParseACL([]byte(`{"sub":["b"],"all":[],"pub":["a"]}`), authz.ACLOptions{Rest: authz.DeferRest})
	if err != nil || !same.Equal(all[1]) || same.String() != all[1].String() {
		t.Errorf("%v, %v: want %v", same, err, all[1])
	}
	if none := (*authz.ACL)(nil); !none.Equal(nil) || none.Equal(all[0]) {
		t.Error("nil equals nil only")
	}
}

func rules() *rapid.Generator[authz.Rule] {
	return rapid.Custom(func(t *rapid.T) authz.Rule {
		r := authz.Rule{
			Deny:    rapid.Bool().Draw(t, "deny"),
			Publish: rapid.Bool().Draw(t, "publish"),
			QoS:     rapid.SampledFrom([][]int{nil, nil, {0}, {1, 2}}).Draw(t, "qos"),
		}
		r.Subscribe = !r.Publish || rapid.Bool().Draw(t, "subscribe")
		for _, f := range rapid.SliceOfN(filters(), 1, 3).Draw(t, "topics") {
			r.Topics = append(r.Topics, strings.Join(f, "/"))
		}
		if r.Publish {
			yes, no := true, false
			r.Retain = rapid.SampledFrom([]*bool{nil, nil, &yes, &no}).Draw(t, "retain")
		}
		return r
	})
}

// first returns the decision of the first rule that matches, and whether there is one.
func first(rules []authz.Rule, topic []string, fits func(authz.Rule) bool) (allow, found bool) {
	for _, r := range rules {
		for _, f := range r.Topics {
			if fits(r) && selects(strings.Split(f, "/"), topic) {
				return !r.Deny, true
			}
		}
	}
	return false, false
}

// opaque reports whether the first level of topic begins with $ and no rule has that level.
func opaque(rules []authz.Rule, topic []string) bool {
	return len(rules) > 0 && strings.HasPrefix(topic[0], "$") && !slices.ContainsFunc(rules, func(r authz.Rule) bool {
		return slices.ContainsFunc(r.Topics, func(f string) bool { return strings.Split(f, "/")[0] == topic[0] })
	})
}

// The first rule that matches decides about publishing. A subscription that is allowed never
// delivers a topic that is not.
func TestACLAgainstModel(t *testing.T) {
	topics := everyTopic()
	rapid.Check(t, func(t *rapid.T) {
		list := rapid.SliceOfN(rules(), 0, 5).Draw(t, "rules")
		rest := rapid.SampledFrom([]authz.NoMatch{authz.DenyRest, authz.DeferRest}).Draw(t, "rest")
		acl, err := authz.NewACL(rest, list...)
		if err != nil {
			t.Fatal(err)
		}
		b, err := acl.Bind(authz.ACLValues{})
		if err != nil {
			t.Fatal(err)
		}
		qos := byte(rapid.IntRange(0, 2).Draw(t, "qos"))
		retain := rapid.Bool().Draw(t, "retain")
		ofQoS := func(r authz.Rule) bool { return len(r.QoS) == 0 || slices.Contains(r.QoS, int(qos)) }
		filter := filters().Draw(t, "filter")
		subscribed := b.Subscribe(strings.Join(filter, "/"), qos)
		for _, topic := range topics {
			allow, found := first(list, topic, func(r authz.Rule) bool {
				return r.Publish && ofQoS(r) && (r.Retain == nil || *r.Retain == retain)
			})
			want := allow || !found && rest == authz.DeferRest && !opaque(list, topic)
			if name := strings.Join(topic, "/"); b.Publish([]byte(name), qos, retain) != want {
				t.Fatalf("publish %q is %v", name, !want)
			}
			if !subscribed || !selects(filter, topic) {
				continue
			}
			allow, found = first(list, topic, func(r authz.Rule) bool { return r.Subscribe && ofQoS(r) })
			if !allow && (found || rest == authz.DenyRest || opaque(list, topic)) {
				t.Fatalf("the subscription to %q delivers %q", filter, topic)
			}
		}
	})
}

func BenchmarkPublish(b *testing.B) {
	b.ReportAllocs()
	acl := bound(b, `[{"permission":"deny","action":"all","topic":"v1/devices/+/secret/#"},{"permission":"allow","action":"all","topic":"v1/devices/${subject}/#"}]`, authz.ACLOptions{})
	topic := []byte("v1/devices/s1/telemetry")
	for b.Loop() {
		if !acl.Publish(topic, 1, false) {
			b.Fatal("refused")
		}
	}
}

func BenchmarkSubscribe(b *testing.B) {
	b.ReportAllocs()
	acl := bound(b, `[{"permission":"deny","action":"all","topic":"v1/devices/+/secret/#"},{"permission":"allow","action":"all","topic":"v1/devices/${subject}/#"}]`, authz.ACLOptions{})
	for b.Loop() {
		if !acl.Subscribe("v1/devices/s1/rpc/request/+", 1) {
			b.Fatal("refused")
		}
	}
}
