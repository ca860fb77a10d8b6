package tokenpostgres

import (
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgtype"

	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/authz"
)

func one(name string, oid uint32, text string) (*row, error) {
	return readRow(columns(), []cell{{name, oid, []byte(text)}})
}

func TestColumnsAreRead(t *testing.T) {
	r, err := readRow(columns(), []cell{
		{"subject", pgtype.Int8OID, []byte("17")},
		{"token_id", pgtype.TextOID, []byte("t-17")},
		{"password_hash", pgtype.TextOID, []byte("$2a$hash")},
		{"disabled", pgtype.BoolOID, []byte("t")},
		{"is_superuser", pgtype.BoolOID, []byte("f")},
		{"role", pgtype.TextOID, []byte("reader")},
		{"gateway", pgtype.BoolOID, []byte("t")},
		{"expires_at", pgtype.TimestamptzOID, []byte("2027-01-31 12:00:00.25+05:30")},
		{"not_before", pgtype.Int8OID, []byte("1000000000")},
		{"client_ids", pgtype.TextArrayOID, []byte(`{a,"b c*"}`)},
		{"usernames", pgtype.TextOID, []byte("u")},
		{"certificates", pgtype.TextOID, []byte("cn:pump-7")},
		{"cidrs", pgtype.CIDRArrayOID, []byte("{10.0.0.0/8,192.0.2.1/32}")},
		{"acl", pgtype.JSONBOID, []byte(`[{"permission":"allow","action":"all","topic":"a/#"}]`)},
		{"acl_no_match", pgtype.TextOID, []byte("defer")},
		{"limits", pgtype.JSONOID, []byte(`{"max_qos":1}`)},
		{"attrs", pgtype.JSONBOID, []byte(`{"site":"north","floor":2,"new":true}`)},
		{"upstream_username", pgtype.TextOID, []byte("broker-user")},
		{"upstream_password", pgtype.TextOID, []byte("broker-password")},
		{"upstream_client_id", pgtype.TextOID, nil},
	})
	if err != nil {
		t.Fatal(err)
	}
	if r.subject != "17" || r.tokenID != "t-17" || *r.hash != "$2a$hash" || !r.disabled || r.superuser || !r.gateway || r.role != authz.RoleReader {
		t.Errorf("%+v", r)
	}
	if want := time.Date(2027, 1, 31, 6, 30, 0, 250_000_000, time.UTC); !r.expires.Equal(want) || r.notBefore.Unix() != 1_000_000_000 {
		t.Errorf("expires %v, not before %v", r.expires, r.notBefore)
	}
	if !slices.Equal(r.only.ClientIDs, []string{"a", "b c*"}) || !slices.Equal(r.only.Usernames, []string{"u"}) ||
		!slices.Equal(r.only.Addrs, []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8"), netip.MustParsePrefix("192.0.2.1/32")}) {
		t.Errorf("only %+v", r.only)
	}
	if r.rest != authz.DeferRest || *r.limits.MaxQoS != 1 || r.attrs["floor"] != "2" || r.attrs["new"] != "true" || r.attrs["site"] != "north" {
		t.Errorf("%+v", r)
	}
	if r.upstream.Username != "broker-user" || r.upstream.Password.Reveal() != "broker-password" || r.upstream.ClientID != "" {
		t.Error("other credentials for the broker")
	}
}

func TestInfinity(t *testing.T) {
	if r, err := one("expires_at", pgtype.TimestamptzOID, "infinity"); err != nil || !r.expires.IsZero() {
		t.Errorf("expires %v, %v", r, err)
	}
	if r, err := one("expires_at", pgtype.TimestamptzOID, "-infinity"); err != nil || r.expires.IsZero() || time.Now().Before(r.expires) {
		t.Errorf("expires %v, %v", r, err)
	}
	if r, err := one("not_before", pgtype.TimestamptzOID, "infinity"); err != nil || r.notBefore.Before(time.Now()) {
		t.Errorf("not before %v, %v", r, err)
	}
}

// TestValuesAreReadStrictly: what is not certain is a fault, never a wider right, and the fault
// repeats no value.
func TestValuesAreReadStrictly(t *testing.T) {
	for name, c := range map[string]cell{
		"unknown column":        {"role", pgtype.TextOID, []byte("hunter2")},
		"type has changed":      {"disabled", pgtype.TextOID, []byte("hunter2")},
		"disabled is NULL":      {"disabled", pgtype.BoolOID, nil},
		"superuser is NULL":     {"is_superuser", pgtype.BoolOID, nil},
		"role is NULL":          {"role", pgtype.TextOID, nil},
		"unknown role":          {"role", pgtype.TextOID, []byte("hunter2")},
		"gateway is NULL":       {"gateway", pgtype.BoolOID, nil},
		"no boolean":            {"disabled", pgtype.BoolOID, []byte("hunter2")},
		"empty subject":         {"subject", pgtype.TextOID, []byte("")},
		"line end in subject":   {"subject", pgtype.TextOID, []byte("hunter2\nx")},
		"long subject":          {"subject", pgtype.TextOID, []byte("hunter2" + strings.Repeat("x", maxSubject))},
		"milliseconds":          {"expires_at", pgtype.Int8OID, []byte("1735689600000")},
		"negative":              {"expires_at", pgtype.Int8OID, []byte("-1")},
		"year 10000":            {"expires_at", pgtype.TimestamptzOID, []byte("10000-01-01 00:00:00+00")},
		"before Christ":         {"not_before", pgtype.TimestamptzOID, []byte("0044-03-15 12:00:00+00 BC")},
		"empty list":            {"client_ids", pgtype.TextArrayOID, []byte("{}")},
		"NULL in a list":        {"client_ids", pgtype.TextArrayOID, []byte("{hunter2,NULL}")},
		"empty in a list":       {"client_ids", pgtype.TextArrayOID, []byte(`{hunter2,""}`)},
		"list of lists":         {"client_ids", pgtype.TextArrayOID, []byte("{{hunter2,b},{c,d}}")},
		"star inside":           {"client_ids", pgtype.TextOID, []byte("hunter2*b")},
		"host bits":             {"cidrs", pgtype.InetOID, []byte("10.1.2.3/8")},
		"no network":            {"cidrs", pgtype.TextOID, []byte("hunter2")},
		"certificate":           {"certificates", pgtype.TextOID, []byte("hunter2")},
		"no match":              {"acl_no_match", pgtype.TextOID, []byte("hunter2")},
		"unknown limit":         {"limits", pgtype.JSONOID, []byte(`{"hunter2":1}`)},
		"list for attributes":   {"attrs", pgtype.JSONOID, []byte(`["hunter2"]`)},
		"list in attributes":    {"attrs", pgtype.JSONOID, []byte(`{"a":["hunter2"]}`)},
		"NULL in attributes":    {"attrs", pgtype.JSONOID, []byte(`{"hunter2":null}`)},
		"attribute twice":       {"attrs", pgtype.JSONOID, []byte(`{"hunter2":"1","hunter2":"2"}`)},
		"empty broker username": {"upstream_username", pgtype.TextOID, []byte("")},
	} {
		_, err := readRow(columns(), []cell{c})
		if err == nil {
			t.Errorf("%s: no fault", name)
		} else if strings.Contains(err.Error(), "hunter2") || !strings.Contains(err.Error(), c.name) {
			t.Errorf("%s: the fault repeats the value, or does not name the column: %v", name, err)
		}
	}
}

// FuzzRow: no value makes it panic, and lists that restrict are never empty.
func FuzzRow(f *testing.F) {
	f.Add("client_ids", uint32(pgtype.TextArrayOID), "{a,b}")
	f.Add("expires_at", uint32(pgtype.TimestamptzOID), "2027-01-31 12:00:00+00")
	f.Add("attrs", uint32(pgtype.JSONOID), `{"a":1}`)
	f.Fuzz(func(t *testing.T, name string, oid uint32, text string) {
		r, err := one(name, oid, text)
		if err != nil {
			return
		}
		if name == "client_ids" && len(r.only.ClientIDs) == 0 || name == "cidrs" && len(r.only.Addrs) == 0 {
			t.Errorf("%q is no restriction", text)
		}
	})
}
