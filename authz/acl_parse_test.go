package authz_test

import (
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/authz"
)

func TestParseACLRefuses(t *testing.T) {
	rule := func(extra string) string {
		return `[{"permission":"deny","action":"all","topic":"a"},{"permission":"allow","action":"publish","topic":"a"` + extra + `}]`
	}
	for _, test := range []struct{ text, want string }{
		{``, "neither a list"},
		{`null`, "neither a list"},
		{`"a"`, "neither a list"},
		{`[`, "the text ends early"},
		{`[]x`, "column 3: more text after"},
		{`{}x`, "column 3: more text after"},
		{"[\"\xff\"]", "UTF-8"},
		{`[null]`, "rule 1"},
		{`[[]]`, "rule 1"},
		{`[{}]`, "permission is missing"},
		{`[{"permission":"allow","topic":"a"}]`, "action is missing"},
		{`[{"permission":"allow","action":"all"}]`, "topics is missing"},
		{`[{"permission":"allow","action":"all","topics":[]}]`, "no topics"},
		{`[{"permission":"allow","action":"all","topics":null}]`, "topics"},
		{`[{"permission":"allow","action":"all","topics":["a",null]}]`, "element 2"},
		{`[{"permission":"allow","action":"all","topics":"a"}]`, "not a list"},
		{`[{"permission":"allow","action":"all","topic":null}]`, "topic"},
		{`[{"permission":"allow","action":"all","topic":["a"]}]`, "topic"},
		{`[{"permission":"allow","action":"all","topic":"a/#/b"}]`, "not a topic filter"},
		{`[{"permission":"allow","action":"all","topic":"a\ud800"}]`, "surrogate"},
		{`[{"permission":"allow","action":"all","topic":"a","username":"\ud800"},{}]`, "rule 2: permission is missing"},
		{`[{"permission":"Allow","action":"all","topic":"a"}]`, "permission"},
		{`[{"permission":"allow","action":"everything","topic":"a"}]`, "action"},
		{`[{"permission":"deny","permission":"allow","action":"all","topic":"a"}]`, "column 23: permission: a duplicate key"},
		{`[{"permission":"allow","action":"all","topic":"a","username":1,"Username":2}]`, "username: a duplicate key"},
		{rule(`,"topics":["b"]`), "rule 2: topics: given twice"},
		{rule(`,"Qos":0`), "rule 2: Qos: unknown key"},
		{rule(`,"ipaddr":"10.0.0.0/8"`), "rule 2: ipaddr: unknown key"},
		{rule(`,"clientid_re":"x"`), "rule 2: clientid_re: unknown key"},
		{rule(`,"qos":null`), "rule 2: qos"},
		{rule(`,"qos":[null]`), "rule 2: qos"},
		{rule(`,"qos":[]`), "rule 2: qos"},
		{rule(`,"qos":"1"`), "rule 2: qos"},
		{rule(`,"qos":3`), "rule 2: qos is 3"},
		{rule(`,"qos":1.5`), "rule 2: qos"},
		{rule(`,"retain":null`), "rule 2: retain"},
		{rule(`,"retain":2`), "rule 2: retain"},
		{`{"pub":["a"],"publish":["b"]}`, "publish: unknown key"},
		{`{"Pub":["a"]}`, "Pub: unknown key"},
		{`{"pub":["a"],"pub":["b"]}`, "column 14: pub: a duplicate key"},
		{`{"pub":null}`, "pub"},
		{`{"pub":"a"}`, "pub"},
		{`{"pub":["a#"]}`, "not a topic filter"},
	} {
		acl, err := authz.ParseACL([]byte(test.text), authz.ACLOptions{Ignore: []string{"username", "clientid"}})
		if err == nil || !strings.Contains(err.Error(), test.want) || acl != nil {
			t.Errorf("%s: %v, want %q", test.text, err, test.want)
		}
	}
}

func TestParseACLIgnores(t *testing.T) {
	const text = ` [ { "permission" : "allow" , "username" : {"any": [1]} , "action" : "pub" , "topic" : "a" , "qos" : [ 1 ] , "retain" : true } ] `
	if _, err := authz.ParseACL([]byte(text), authz.ACLOptions{}); err == nil {
		t.Error("username is passed over unasked")
	}
	acl, err := authz.ParseACL([]byte(text), authz.ACLOptions{Ignore: []string{"username"}})
	const want = `deny [{"permission":"allow","action":"publish","topics":["a"],"qos":[1],"retain":true}]`
	if err != nil || acl.String() != want {
		t.Errorf("%v, %v, want %s", acl, err, want)
	}
}

// reparse parses the result of String.
func reparse(acl *authz.ACL) (*authz.ACL, error) {
	o := authz.ACLOptions{}
	rest, text, _ := strings.Cut(acl.String(), " ")
	if rest == "defer" {
		o.Rest = authz.DeferRest
	}
	return authz.ParseACL([]byte(text), o)
}

func TestACLStringIsParsed(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		rest := rapid.SampledFrom([]authz.NoMatch{authz.DenyRest, authz.DeferRest}).Draw(t, "rest")
		acl, err := authz.NewACL(rest, rapid.SliceOfN(rules(), 0, 5).Draw(t, "rules")...)
		if err != nil {
			t.Fatal(err)
		}
		if again, err := reparse(acl); err != nil || !again.Equal(acl) {
			t.Fatalf("%v, %v, want %v", again, err, acl)
		}
	})
}

func FuzzParseACL(f *testing.F) {
	for _, seed := range []string{
		`[]`, `{}`, `null`, `{"pub":["a/${clientid}"],"sub":["eq #"],"all":["+/x"]}`,
		`[{"permission":"allow","action":"all","topics":["a/#","eq b ${"],"qos":[0,1],"retain":false}]`,
		`[{"permission":"deny","action":"sub","topic":"${client_attrs.x}/+","qos":2,"username":"u"}]`,
	} {
		f.Add([]byte(seed), "a/b")
	}
	f.Fuzz(func(t *testing.T, raw []byte, value string) {
		acl, err := authz.ParseACL(raw, authz.ACLOptions{Ignore: []string{"username"}})
		if err != nil {
			return
		}
		if again, err := reparse(acl); err != nil || !again.Equal(acl) {
			t.Errorf("%v, %v, want %v", again, err, acl)
		}
		b, err := acl.Bind(authz.ACLValues{ClientID: value, Username: value, Subject: value, Attrs: map[string]string{"x": value}})
		if err == nil {
			b.Publish([]byte(value), 1, false)
			b.Subscribe(value, 1)
		}
	})
}
