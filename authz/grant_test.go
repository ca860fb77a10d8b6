package authz_test

import (
	"errors"
	"fmt"
	"net/netip"
	"testing"
	"time"

	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/authz"
)

func TestGrantCheck(t *testing.T) {
	now := time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC)
	prefixes := func(texts ...string) (ps []netip.Prefix) {
		for _, s := range texts {
			ps = append(ps, netip.MustParsePrefix(s))
		}
		return ps
	}
	from := func(addr string) authz.Request { return authz.Request{Addr: netip.MustParseAddrPort(addr)} }
	type only = authz.Conditions
	for _, tc := range []struct {
		name    string
		grant   authz.Grant
		request authz.Request
		want    authz.Reason
	}{
		{name: "no conditions"},
		{name: "no conditions, everything given", request: authz.Request{ClientID: "c", Username: "u", Addr: netip.MustParseAddrPort("192.0.2.1:1")}},

		{name: "expires later", grant: authz.Grant{Expires: now.Add(1)}},
		{name: "expires now", grant: authz.Grant{Expires: now}, want: authz.Expired},
		{name: "expired", grant: authz.Grant{Expires: now.Add(-1)}, want: authz.Expired},
		{name: "expires later elsewhere", grant: authz.Grant{Expires: now.Add(1).In(time.FixedZone("", 3600))}},
		{name: "begins later", grant: authz.Grant{Only: only{NotBefore: now.Add(1)}}, want: authz.NotYetValid},
		{name: "begins now", grant: authz.Grant{Only: only{NotBefore: now}}},
		{name: "began", grant: authz.Grant{Only: only{NotBefore: now.Add(-1)}}},
		{name: "over before it began", grant: authz.Grant{Expires: now, Only: only{NotBefore: now.Add(1)}}, want: authz.Expired},

		{name: "client id", grant: authz.Grant{Only: only{ClientIDs: []string{"a", "b"}}}, request: authz.Request{ClientID: "b"}},
		{name: "client id, case", grant: authz.Grant{Only: only{ClientIDs: []string{"a"}}}, request: authz.Request{ClientID: "A"}, want: authz.WrongClientID},
		{name: "client id, longer", grant: authz.Grant{Only: only{ClientIDs: []string{"a"}}}, request: authz.Request{ClientID: "ab"}, want: authz.WrongClientID},
		{name: "client id, none", grant: authz.Grant{Only: only{ClientIDs: []string{"a"}}}, want: authz.WrongClientID},
		{name: "client id, prefix", grant: authz.Grant{Only: only{ClientIDs: []string{"x", "a-*"}}}, request: authz.Request{ClientID: "a-1"}},
		{name: "client id, bare prefix", grant: authz.Grant{Only: only{ClientIDs: []string{"a-*"}}}, request: authz.Request{ClientID: "a-"}},
		{name: "client id, short of the prefix", grant: authz.Grant{Only: only{ClientIDs: []string{"a-*"}}}, request: authz.Request{ClientID: "a"}, want: authz.WrongClientID},
		{name: "client id, any", grant: authz.Grant{Only: only{ClientIDs: []string{"*"}}}},
		{name: "client id, star spelled out", grant: authz.Grant{Only: only{ClientIDs: []string{"a*"}}}, request: authz.Request{ClientID: "a*"}},
		{name: "client id, star inside", grant: authz.Grant{Only: only{ClientIDs: []string{"a*b"}}}, request: authz.Request{ClientID: "axb"}, want: authz.WrongClientID},

		{name: "user name", grant: authz.Grant{Only: only{Usernames: []string{"u*"}}}, request: authz.Request{Username: "u1"}},
		{name: "user name, other", grant: authz.Grant{Only: only{Usernames: []string{"u"}}}, request: authz.Request{Username: "v", ClientID: "u"}, want: authz.WrongUsername},

		{name: "address", grant: authz.Grant{Only: only{Addrs: prefixes("10.0.0.0/8", "192.0.2.0/24")}}, request: from("192.0.2.255:1")},
		{name: "address, outside", grant: authz.Grant{Only: only{Addrs: prefixes("192.0.2.0/24")}}, request: from("192.0.3.0:1"), want: authz.WrongAddress},
		{name: "address, v4 in v6", grant: authz.Grant{Only: only{Addrs: prefixes("192.0.2.0/24")}}, request: from("[::ffff:192.0.2.7]:1")},
		{name: "address, v4 in v6, outside", grant: authz.Grant{Only: only{Addrs: prefixes("192.0.2.0/24")}}, request: from("[::ffff:192.0.3.7]:1"), want: authz.WrongAddress},
		{name: "address, v4 is not all of v6", grant: authz.Grant{Only: only{Addrs: prefixes("::/0")}}, request: from("192.0.2.1:1"), want: authz.WrongAddress},
		{name: "address, v6", grant: authz.Grant{Only: only{Addrs: prefixes("2001:db8::/32")}}, request: from("[2001:db8:1::1]:1")},
		{name: "address, zone", grant: authz.Grant{Only: only{Addrs: prefixes("fe80::/10")}}, request: from("[fe80::1%eth0]:1")},
		{name: "address, not known", grant: authz.Grant{Only: only{Addrs: prefixes("0.0.0.0/0", "::/0")}}, want: authz.WrongAddress},
	} {
		t.Run(tc.name, func(t *testing.T) {
			tc.grant.Subject = "pump"
			err := tc.grant.Check(tc.request, now)
			if tc.want == "" {
				if err != nil {
					t.Fatalf("Check = %v, want nil", err)
				}
				return
			}
			var denial *authz.Denial
			if !errors.As(err, &denial) || denial.Reason != tc.want || denial.Subject != "pump" {
				t.Fatalf("Check = %#v, want reason %s for the subject", err, tc.want)
			}
			if !errors.Is(err, authz.ErrDenied) || errors.Is(err, authz.ErrUnknown) || errors.Is(err, authz.ErrUnavailable) {
				t.Errorf("%v is not a plain denial", err)
			}
		})
	}
}

func ExampleGrant_Check() {
	grant := authz.Grant{
		TokenID: "pump-7-k3x2aa",
		Subject: "pump-7",
		Only:    authz.Conditions{ClientIDs: []string{"pump-7", "pump-7-*"}},
		Expires: time.Date(2027, 1, 1, 0, 0, 0, 0, time.UTC),
	}
	christmas := time.Date(2026, 12, 25, 0, 0, 0, 0, time.UTC)
	fmt.Println(grant.Check(authz.Request{ClientID: "pump-7-backup"}, christmas))
	fmt.Println(grant.Check(authz.Request{ClientID: "pump-8"}, christmas))
	fmt.Println(grant.Check(authz.Request{ClientID: "pump-7"}, grant.Expires))
	// Output:
	// <nil>
	// denied: wrong_client_id: the token is bound to other client ids
	// denied: expired: since 2027-01-01T00:00:00Z
}
