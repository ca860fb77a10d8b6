package proxy

import (
	"fmt"
	"testing"

	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/authz"
)

// newSession makes a client a session of r.
func newSession(t *testing.T, r *registry, subject string) *session {
	t.Helper()
	s := &session{}
	s.client.Store(&Client{ClientID: "of-" + subject, Grant: &authz.Grant{Subject: subject}})
	if !r.register(r.beginCheck(), s) {
		t.Fatal("not admitted")
	}
	return s
}

// TestClientIDStaysWithItsSubject ends the sessions that share a client id in every
// order: it is free for others when the last of them is gone, and not before.
func TestClientIDStaysWithItsSubject(t *testing.T) {
	for _, order := range [][3]int{{0, 1, 2}, {0, 2, 1}, {1, 0, 2}, {1, 2, 0}, {2, 0, 1}, {2, 1, 0}} {
		t.Run(fmt.Sprint(order), func(t *testing.T) {
			var r registry
			var mine [3]*session
			for i := range mine {
				mine[i] = newSession(t, &r, "mine")
				if !r.claim(mine[i], "id") {
					t.Fatal("the owner may not take over its own id")
				}
			}
			other := newSession(t, &r, "other")
			for _, i := range order {
				if r.claim(other, "id") {
					t.Fatal("another subject has got the id of a live session")
				}
				r.remove(mine[i])
				r.remove(mine[i]) // twice does nothing
			}
			if !r.claim(other, "id") {
				t.Error("the id is not free")
			}
			r.remove(other)
			if len(r.owners) != 0 || len(r.subjects) != 0 || len(r.sessions) != 0 {
				t.Errorf("left behind: %d owners, %d subjects, %d sessions", len(r.owners), len(r.subjects), len(r.sessions))
			}
		})
	}
}

// TestRegistryRemove: a session can be removed from any place without a loss of others, and memory
// is freed when many have been removed.
func TestRegistryRemove(t *testing.T) {
	const number = 10 * smallRegistry
	var r registry
	all := make([]*session, number)
	for i := range all {
		all[i] = newSession(t, &r, fmt.Sprint("device-", i))
	}
	left := make(map[*session]bool)
	for i, s := range all {
		if i%16 == 7 {
			left[s] = true
			continue
		}
		r.remove(s)
	}
	found := r.matching(anyClient)
	for _, s := range found {
		if !left[s] {
			t.Fatalf("session %d is still there", s.current().ID)
		}
	}
	if len(found) != len(left) {
		t.Errorf("%d sessions are left, want %d", len(found), len(left))
	}
	if n := cap(r.sessions); n > number/2 {
		t.Errorf("room for %d sessions, of which %d are left", n, len(left))
	}
}
