package cache

import (
	"testing"

	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/authz"
)

// TestEqualRulesAreShared: grants of different tokens share equal rules, and never different
// ones.
func TestEqualRulesAreShared(t *testing.T) {
	grant := func(id, rules string) *authz.Grant {
		acl, err := authz.ParseACL([]byte(rules), authz.ACLOptions{})
		if err != nil {
			t.Fatal(err)
		}
		return &authz.Grant{TokenID: id, Subject: id, ACL: acl}
	}
	const rules = `[{"permission":"allow","action":"publish","topic":"a/${subject}"}]`
	x := newInterner()
	one, two, other := x.intern(grant("1", rules)), x.intern(grant("2", rules)), x.intern(grant("3", `[]`))
	if one.ACL != two.ACL || two.TokenID != "2" {
		t.Error("equal rules of two grants are two objects")
	}
	if other.ACL == one.ACL || !other.ACL.Equal(grant("3", `[]`).ACL) {
		t.Error("a grant got other rules than its own")
	}
	if changed := x.intern(grant("1", `[]`)); changed.ACL.Equal(one.ACL) {
		t.Error("changed rules of a token are taken for the old ones")
	}
	if weigh(one) <= weigh(&authz.Grant{TokenID: "1", Subject: "1"}) {
		t.Error("rules weigh nothing")
	}
}
