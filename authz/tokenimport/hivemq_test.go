package tokenimport

import (
	"fmt"
	"strings"
	"testing"

	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/authz"
	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/authz/passwordhash"
	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/authz/tokenfile"
)

// hivemqHorse is the hash of "correct horse" by Python's hashlib in the form of the extension's
// generator, and hivemqPass1 that of "pass1" in the extension's own manual.
const (
	hivemqHorse = "MDEyMzQ1Njc4OWFiY2RlZmdoaWpBQkNERUZHSElKw6Q=:100:yK9B9VR3c6iNo8+AGS9ZwoKxRYeItkl6bVkZQo8l3KC79CFkJKK0kB4pZgnhA6FKuxTIG3MU9qHSnL3qii3APQ=="
	hivemqPass1 = "WFNQUVB0UkxjM04xa0hSR1BQNGhuOTJKVzdlbXA4bjk=:100:FY12nwpUEbBK9EKQ/Aw/rQKSoA7jXsC0HKELwU2mLCVU39bJVK0zf4NemuFeDOHPO4BW1nOjxi6NporkC6rUog=="
)

// hivemqXML is a file of the extension with a user "u" who has that password, the roles r and s,
// and these permissions in r.
func hivemqXML(password, permissions string) string {
	return `<?xml version="1.0" encoding="UTF-8" standalone="yes"?>
<file-rbac>
  <!-- people -->
  <users>
    <user>
      <name>u</name>
      <password>` + password + `</password>
      <roles><id>r</id><id>s</id></roles>
    </user>
  </users>
  <roles>
    <role>
      <id>r</id>
      <permissions>` + permissions + `</permissions>
    </role>
    <role><id>s</id><permissions><permission><topic>s</topic></permission></permissions></role>
  </roles>
</file-rbac>`
}

const hivemqTopicA = "<permission><topic>a</topic></permission>"

// TestHiveMQPermissionsBecomeRules: a user may publish and subscribe to what the roles permitted,
// with the own client id and user name, and to nothing else.
func TestHiveMQPermissionsBecomeRules(t *testing.T) {
	path := importTo(t, Options{Format: HiveMQ}, hivemqXML(hivemqPass1, `
<permission><topic>data/${{clientid}}/#</topic></permission>
<permission><topic>out/${{clientid}}/${{username}}</topic><activity>PUBLISH</activity><retain>RETAINED</retain></permission>
<permission><topic>q</topic><activity>PUBLISH</activity><qos>ZERO_TWO</qos><shared-subscription>SHARED</shared-subscription></permission>
<permission><topic>in/${{username}}/x</topic><activity>SUBSCRIBE</activity><retain>RETAINED</retain><shared-group>#</shared-group></permission>`))
	f, err := tokenfile.Open(path, tokenfile.Options{})
	if err != nil {
		t.Fatal(err)
	}
	g, err := f.Users(passwordhash.NewWorkers(0)).Authorize(t.Context(), authz.Request{Pair: authz.Pair{Username: "u", Password: authz.NewToken("pass1")}})
	if err != nil {
		t.Fatal(err)
	}
	bound, err := g.ACL.Bind(authz.ACLValues{ClientID: "c", Username: "u"})
	if err != nil {
		t.Fatal(err)
	}
	for action, may := range map[string]bool{
		"data/c/x 1 false": true, "data/d/x 1 false": false, "out/c/u 0 true": true, "out/c/u 0 false": false,
		"q 0 false": true, "q 1 false": false, "q 2 true": true, "in/u/x 0 true": false, "s 2 true": true, "other 0 false": false,
	} {
		var topic string
		var qos byte
		var retain bool
		if _, err := fmt.Sscan(action, &topic, &qos, &retain); err != nil {
			t.Fatal(err)
		}
		if got := bound.Publish([]byte(topic), qos, retain); got != may {
			t.Errorf("publish %s: %v", action, got)
		}
	}
	for filter, may := range map[string]bool{"data/c/#": true, "#": false, "in/u/x": true, "in/+/x": false, "out/c/u": false, "s": true} {
		if got := bound.Subscribe(filter, 2); got != may {
			t.Errorf("subscribe %s: %v", filter, got)
		}
	}
}

// TestHiveMQFaults: what a file of the extension cannot hold, or what cannot be taken over, is
// named by its line, without a secret and without following an entity.
func TestHiveMQFaults(t *testing.T) {
	for _, tc := range []struct{ hash, text, want string }{
		{"bcrypt", "", `unknown hash "bcrypt"`},
		{"", "", "holds no element file-rbac"},
		{"", "user:hunter22", "source:1: text between elements"},
		{"", "<file-rbac></file-rbac><file-rbac></file-rbac>", "source:1: an element that is there twice"},
		{"", "<file-rbac><users></users></file-rbac>", "contains nothing to import"},
		{"", "<!DOCTYPE x [<!ENTITY e \"hunter22\">]>\n<file-rbac>&e;</file-rbac>", "source:1: a DOCTYPE"},
		{"plain", hivemqXML("hunter&e;22", hivemqTopicA), "source:7: not well-formed XML"},
		{"plain", hivemqXML("<hunter22>", hivemqTopicA), "source:7: an element that this format does not have here"},
		{"", strings.Replace(hivemqXML(hivemqPass1, hivemqTopicA), "UTF-8", "ISO-8859-1", 1), "the file is not in UTF-8"},
		{"", hivemqXML("hunter22", hivemqTopicA), "source:5: password: not SALT:ITERATIONS:HASH as the extension's generator writes it"},
		{"", hivemqXML("hunter22:100:hunter22", hivemqTopicA), "source:5: password: not SALT:ITERATIONS:HASH with a salt"},
		{"", hivemqXML(strings.Replace(hivemqPass1, ":100:", ":9000000:", 1), hivemqTopicA), "source:5: password: PBKDF2 with 9000000 rounds"},
		{"", hivemqXML("", hivemqTopicA), "source:5: password: is missing"},
		{"", hivemqXML(hivemqPass1, ""), "source:12: role: has no permissions"},
		{"", hivemqXML(hivemqPass1, "<permission></permission>"), "source:14: topic: is missing"},
		{"", hivemqXML(hivemqPass1, "<permission><topic>a/#/b</topic></permission>"), "source:14: permission: acl: rule 1"},
		{"", hivemqXML(hivemqPass1, "<permission><topic>a</topic><topic>b</topic></permission>"), "source:14: an element that is there twice"},
		{"", hivemqXML(hivemqPass1, "<permission><topic>${username}</topic></permission>"), "source:14: topic: means something else"},
		{"", hivemqXML(hivemqPass1, "<permission><topic>eq a</topic></permission>"), "source:14: topic: means something else"},
		{"", hivemqXML(hivemqPass1, "<permission><topic>a</topic><activity>publish</activity></permission>"), "source:14: activity: not one of the known words"},
		{"", hivemqXML(hivemqPass1, "<permission><topic>a</topic><qos>1</qos></permission>"), "source:14: qos: not one of the known words"},
		{"", hivemqXML(hivemqPass1, "<permission><topic>a</topic><shared-group>g</shared-group></permission>"), "source:14: permission: depends on whether a subscription is shared"},
		{"", strings.Replace(hivemqXML(hivemqPass1, hivemqTopicA), "<id>s</id><perm", "<id>r</id><perm", 1), "source:16: role: has the id of another"},
		{"", strings.Replace(hivemqXML(hivemqPass1, hivemqTopicA), "<id>r</id><id>s</id>", "<id>t</id>", 1), "source:5: roles: names a role that the file does not have"},
		{"", strings.Replace(hivemqXML(hivemqPass1, hivemqTopicA), "<id>r</id><id>s</id>", "", 1), "source:5: roles: is missing"},
		{"", strings.Replace(hivemqXML(hivemqPass1, hivemqTopicA), "</users>", "<user><name>u</name><password>"+hivemqPass1+"</password><roles><id>r</id></roles></user></users>", 1), "source:10: username: the same user name as in line 5"},
	} {
		_, err := batchOf(t, Options{Format: HiveMQ, Source: "source", Hash: tc.hash}, tc.text)
		if err == nil || !strings.Contains(err.Error(), tc.want) || strings.Contains(err.Error(), "hunter") {
			t.Errorf("%q: %v, want %s", tc.text, err, tc.want)
		}
	}
}

// TestSourceOverTheLimitIsRefused: a source that is too large is not cut off, and taken for all.
func TestSourceOverTheLimitIsRefused(t *testing.T) {
	const text = "subject,token\nd,hunter2hunter22\n"
	for limit, good := range map[int64]bool{int64(len(text)): true, int64(len(text)) - 1: false} {
		r := &reader{in: &bounded{strings.NewReader(text), limit}, source: "source"}
		if err := r.table(); (err == nil) != good {
			t.Errorf("%d bytes with a limit of %d: %v", len(text), limit, err)
		}
	}
}
