package cache

import (
	"bytes"
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"crypto/x509"
	"math"
	"net/netip"
	"testing"

	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/authz"
)

const allFields = ClientID | Username | Password | Addr | Listener | Certificate | Protocol

// TestKeyText looks for two requests that would have the same key.
func TestKeyText(t *testing.T) {
	token := authz.NewToken
	at := func(s string) authz.Request { return authz.Request{Addr: netip.MustParseAddrPort(s)} }
	requests := map[string]authz.Request{
		"nothing":             {},
		"empty token":         {Token: token("")},
		"token":               {Token: token("ab")},
		"part of it":          {Token: token("a"), ClientID: "b"},
		"part of it, later":   {Token: token("a"), Username: "b"},
		"client id":           {ClientID: "ab"},
		"user name":           {Username: "ab"},
		"listener":            {Listener: "ab"},
		"empty password":      {Password: token("")},
		"password":            {Password: token("ab")},
		"NUL":                 {Token: token("ab\x00")},
		"length in it":        {Token: token("ab\x00\x00\x00\x00")},
		"v4":                  at("192.0.2.1:1"),
		"v6":                  at("[2001:db8::1]:1"),
		"zone":                at("[fe80::1%eth0]:1"),
		"other zone":          at("[fe80::1%eth1]:1"),
		"certificate":         {Peer: &x509.Certificate{Raw: []byte("ab")}},
		"empty certificate":   {Peer: &x509.Certificate{}},
		"protocol":            {Protocol: 5},
		"other protocol":      {Protocol: 4},
		"pair":                {Pair: authz.Pair{Username: "a", Password: token("b")}},
		"pair, moved":         {Pair: authz.Pair{Username: "ab", Password: token("b")}},
		"pair, other":         {Pair: authz.Pair{Username: "a", Password: token("bb")}},
		"pair, as parts":      {Username: "a", Password: token("b")},
		"pair of client id":   {Pair: authz.Pair{ClientID: "a", Password: token("b")}},
		"address as client":   {ClientID: "192.0.2.1"},
		"address as listener": {Listener: "192.0.2.1"},
	}
	x := newKeyer("source", allFields)
	seen := make(map[string]string)
	for name, r := range requests {
		text := string(x.appendText(nil, &r, x.vary))
		if other, ok := seen[text]; ok {
			t.Errorf("%s and %s have one text", name, other)
		}
		seen[text] = name
	}
	same := at("[::ffff:192.0.2.1]:65535")
	if seen[string(x.appendText(nil, &same, x.vary))] != "v4" {
		t.Error("the same address, as v4 in v6 and with another port, has another text")
	}
	r := requests["token"]
	if text := newKeyer("sourc", allFields).appendText(nil, &r, allFields); seen[string(text)] != "" {
		t.Error("another source has the same text")
	}
}

// TestKeyInputs: the key depends on exactly the fields in Vary.
func TestKeyInputs(t *testing.T) {
	base := authz.Request{Token: authz.NewToken("t"), Addr: netip.MustParseAddrPort("192.0.2.1:1000")}
	for name, tc := range map[string]struct {
		change func(*authz.Request)
		field  Field // the field that makes the key different; zero for none
	}{
		"client id":   {func(r *authz.Request) { r.ClientID = "x" }, ClientID},
		"user name":   {func(r *authz.Request) { r.Username = "x" }, Username},
		"password":    {func(r *authz.Request) { r.Password = authz.NewToken("x") }, Password},
		"address":     {func(r *authz.Request) { r.Addr = netip.MustParseAddrPort("192.0.2.2:1000") }, Addr},
		"listener":    {func(r *authz.Request) { r.Listener = "x" }, Listener},
		"certificate": {func(r *authz.Request) { r.Peer = &x509.Certificate{Raw: []byte("x")} }, Certificate},
		"protocol":    {func(r *authz.Request) { r.Protocol = 5 }, Protocol},
		"port":        {func(r *authz.Request) { r.Addr = netip.MustParseAddrPort("192.0.2.1:1001") }, 0},
		"purpose":     {func(r *authz.Request) { r.Purpose = authz.Recheck }, 0},
	} {
		changed := base
		tc.change(&changed)
		for _, vary := range []Field{0, tc.field, allFields &^ tc.field, allFields} {
			x := newKeyer("", vary)
			if differs := x.of(&base) != x.of(&changed); differs != (vary&tc.field != 0) {
				t.Errorf("another %s with Vary %#x: another key %v", name, vary, differs)
			}
		}
	}
}

// TestKeySecret: the key is an HMAC as documented.
func TestKeySecret(t *testing.T) {
	r := authz.Request{Token: authz.NewToken("a-token-that-is-secret")}
	x, y := newKeyer("s", 0), newKeyer("s", 0)
	k := x.of(&r)
	if k == y.of(&r) {
		t.Error("two caches have one key for a token")
	}
	if k != x.of(&r) {
		t.Error("one cache has two keys for a token")
	}
	mac := hmac.New(sha256.New, make([]byte, 32))
	mac.Write(x.appendText(nil, &r, x.vary))
	if bytes.Equal(mac.Sum(nil), k[:]) {
		t.Error("the secret is not set")
	}
	s := x.pool.Get().(*keyState)
	if bytes.Contains(s.text[:cap(s.text)], []byte("secret")) {
		t.Error("the pooled buffer holds the token")
	}
	r.Token = authz.NewToken(string(make([]byte, 1<<16)))
	x.of(&r)
	for range 100 {
		if s := x.pool.Get().(*keyState); cap(s.text) > maxPooled {
			t.Fatal("a large buffer went back to the pool")
		}
	}
}

// static grants everything.
type static struct{ grant *authz.Grant }

func (s static) Authorize(context.Context, authz.Request) (*authz.Grant, error) { return s.grant, nil }

func TestHitAllocates(t *testing.T) {
	c := New(static{&authz.Grant{TokenID: "a"}}, Options{Vary: allFields})
	defer c.Close()
	r := authz.Request{
		Token: authz.NewToken("a-token-of-a-usual-length-of-forty-bytes"), ClientID: "pump-7",
		Addr: netip.MustParseAddrPort("[2001:db8::1]:1"), Peer: &x509.Certificate{Raw: make([]byte, 1000)},
	}
	// The minimum of many runs: a pool may be emptied at any time, and is emptied at random
	// under the race detector.
	least := math.Inf(1)
	for range 100 {
		least = min(least, testing.AllocsPerRun(1, func() {
			if _, err := c.Authorize(t.Context(), r); err != nil {
				t.Fatal(err)
			}
		}))
	}
	if least > 0 {
		t.Errorf("a hit allocates %v times", least)
	}
}
