package tokenfile

import (
	"slices"
	"strings"
	"testing"
)

func TestSnapshotSince(t *testing.T) {
	for _, tc := range []struct {
		name     string
		old, now string
		changed  int
		ended    []string
		later    []string
		altered  []string
	}{
		{name: "same", old: line("a"), now: line("a")},
		{name: "spelled otherwise", old: line("a", `"subject":"a"`, `"disabled":false`), now: "# x\n" + line("a", `"subject":"\u0061"`)},
		{name: "comment", old: line("a", `"comment":"x"`), now: line("a", `"comment":"y"`, `"created_at":7`)},
		{name: "order", old: line("a") + line("b"), now: line("b") + line("a")},
		{name: "details spelled otherwise", old: line("a", `"clientid":"c"`), now: line("a", `"clientid":["c"]`)},

		{name: "disabled", old: line("a"), now: line("a", `"disabled":true`), changed: 1, ended: []string{"a"}},
		{name: "enabled", old: line("a", `"disabled":true`), now: line("a"), changed: 1},
		{name: "changed while disabled", old: line("a", `"disabled":true`), now: line("a", `"disabled":true`, `"subject":"x"`), changed: 1},
		{name: "token", old: line("a"), now: strings.Replace(line("a"), hashOf("token-of-a"), hashOf("other"), 1), changed: 1, ended: []string{"a"}},
		{name: "subject", old: line("a"), now: line("a", `"subject":"x"`), changed: 1, ended: []string{"a"}},
		{name: "begin", old: line("a"), now: line("a", `"not_before":9`), changed: 1, ended: []string{"a"}},
		{name: "client id", old: line("a"), now: line("a", `"clientid":"c"`), changed: 1, ended: []string{"a"}},
		{name: "user name", old: line("a", `"username":"u"`), now: line("a", `"username":"v"`), changed: 1, ended: []string{"a"}},
		{name: "network", old: line("a", `"cidr":"::1"`), now: line("a"), changed: 1, ended: []string{"a"}},
		{name: "other network", old: line("a", `"cidr":"::1"`), now: line("a", `"cidr":"::2"`), changed: 1, ended: []string{"a"}},
		{name: "upstream user", old: line("a", `"upstream":{"username":"u"}`), now: line("a", `"upstream":{"username":"v"}`), changed: 1, ended: []string{"a"}},
		{name: "upstream password", old: line("a", `"upstream":{"password":"u"}`), now: line("a", `"upstream":{"password":"v"}`), changed: 1, ended: []string{"a"}},
		{name: "upstream client id", old: line("a", `"upstream":{"clientid":"u"}`), now: line("a", `"upstream":{"clientid":"v"}`), changed: 1, ended: []string{"a"}},
		{name: "attributes", old: line("a", `"client_attrs":{"k":"v"}`), now: line("a", `"client_attrs":{"k":"w"}`), changed: 1, altered: []string{"a"}},
		{name: "rules", old: line("a"), now: line("a", `"acl":[]`), changed: 1, altered: []string{"a"}},
		{name: "rules and expiry", old: line("a", `"acl":[]`), now: line("a", `"expire_at":50`), changed: 1, altered: []string{"a"}},
		{name: "rules and client id", old: line("a", `"acl":[]`), now: line("a", `"clientid":"c"`), changed: 1, ended: []string{"a"}},
		{name: "rules while disabled", old: line("a", `"acl":[]`), now: line("a", `"disabled":true`), changed: 1, ended: []string{"a"}},

		{name: "expiry set", old: line("a"), now: line("a", `"expire_at":50`), changed: 1, later: []string{"a"}},
		{name: "expiry nearer", old: line("a", `"expire_at":50`), now: line("a", `"expire_at":49`), changed: 1, later: []string{"a"}},
		{name: "expiry further", old: line("a", `"expire_at":50`), now: line("a", `"expire_at":51`), changed: 1},
		{name: "expiry taken out", old: line("a", `"expire_at":50`), now: line("a"), changed: 1},
		{name: "expiry nearer, and more", old: line("a"), now: line("a", `"expire_at":50`, `"subject":"x"`), changed: 1, ended: []string{"a"}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			old, now := mustParse(t, tc.old), mustParse(t, tc.now)
			d := now.since(old)
			if d.added != 0 || d.removed != 0 || d.changed != tc.changed {
				t.Errorf("%d added, %d removed, %d changed; want %d changed", d.added, d.removed, d.changed, tc.changed)
			}
			if !slices.Equal(d.ended, tc.ended) || !slices.Equal(d.shortened, tc.later) || !slices.Equal(d.altered, tc.altered) {
				t.Errorf("ended %q, shortened %q, altered %q; want %q, %q, %q", d.ended, d.shortened, d.altered, tc.ended, tc.later, tc.altered)
			}
		})
	}
}

func TestSnapshotSinceAddedAndRemoved(t *testing.T) {
	old := mustParse(t, line("a")+line("b", `"disabled":true`)+line("c")+line("d"))
	now := mustParse(t, line("c")+line("e")+line("f", `"disabled":true`)+strings.Replace(line("g"), hashOf("token-of-g"), hashOf("token-of-d"), 1))
	d := now.since(old)
	if d.added != 3 || d.removed != 3 || d.changed != 0 {
		t.Errorf("%d added, %d removed, %d changed; want 3, 3, 0", d.added, d.removed, d.changed)
	}
	// No session uses b. The token of d moves to g, but its sessions are d's.
	if want := []string{"a", "d"}; !slices.Equal(d.ended, want) {
		t.Errorf("ended %q, want %q", d.ended, want)
	}
	if d := old.since(&snapshot{}); d.added != 4 || len(d.ended) != 0 {
		t.Errorf("from nothing: %d added, ended %q", d.added, d.ended)
	}
}

func TestSnapshotSinceKeepsGrants(t *testing.T) {
	old, now := mustParse(t, line("a")+line("b")), mustParse(t, line("a")+line("b", `"subject":"x"`))
	a, b := old.withID("a").authorization(), old.withID("b").authorization()
	now.since(old)
	if now.withID("a").authorization() != a {
		t.Error("an entry that is the same has another grant")
	}
	if now.withID("b").authorization() == b || b.Subject != "b" || now.withID("b").authorization().Subject != "x" {
		t.Error("an entry that changed has the old grant, or changed it")
	}
}
