package authz_test

import (
	"testing"

	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/authz"
)

func TestRevocationMatches(t *testing.T) {
	token, other := authz.NewToken("one").Hash(), authz.NewToken("two").Hash()
	grant := &authz.Grant{TokenID: "pump-7-a", Subject: "pump-7"}
	for _, tc := range []struct {
		name       string
		revocation authz.Revocation
		grant      *authz.Grant
		hash       [32]byte
		want       bool
	}{
		{"token id", authz.Revocation{TokenID: "pump-7-a"}, grant, token, true},
		{"other token id", authz.Revocation{TokenID: "pump-7-b"}, grant, token, false},
		{"token id is no subject", authz.Revocation{TokenID: "pump-7"}, grant, token, false},
		{"subject", authz.Revocation{Subject: "pump-7"}, grant, token, true},
		{"other subject", authz.Revocation{Subject: "pump-8"}, grant, token, false},
		{"hash", authz.Revocation{TokenHash: token}, grant, token, true},
		{"other hash", authz.Revocation{TokenHash: other}, grant, token, false},
		{"nothing named, nothing known", authz.Revocation{}, &authz.Grant{}, [32]byte{}, false},
		{"nothing named", authz.Revocation{}, grant, token, false},
	} {
		if got := tc.revocation.Matches(tc.grant, tc.hash); got != tc.want {
			t.Errorf("%s: Matches = %v", tc.name, got)
		}
	}
}

func TestPurposeText(t *testing.T) {
	for purpose, want := range map[authz.Purpose]string{
		authz.Connect: "connect", authz.Refresh: "refresh", authz.Recheck: "recheck", 9: "purpose(9)",
	} {
		if got := purpose.String(); got != want {
			t.Errorf("Purpose %d = %q, want %q", uint8(purpose), got, want)
		}
	}
}
