package tokenpostgres

import (
	"crypto/sha256"
	"encoding/hex"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgtype"

	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/authz"
)

// TestParametersAreFoundWhereTheyAre: not in literals, names and comments, and each once.
func TestParametersAreFoundWhereTheyAre(t *testing.T) {
	q, err := parseQuery(`SELECT '@address' AS subject, "@odd", $$@address$$ -- @address
		FROM t /* @address */ WHERE a = @client_id AND b = @username AND c = @client_id AND tags @> '{x}'`)
	if err != nil {
		t.Fatal(err)
	}
	if !slices.Equal(q.params, []string{"client_id", "username"}) || strings.Count(q.sql, "$1") != 2 || strings.Count(q.sql, "$2") != 1 {
		t.Errorf("parameters %q in %s", q.params, q.sql)
	}
	if q.takes() != authz.Pairs || q.parts() != authz.PartClientID {
		t.Errorf("takes %v, depends on %v", q.takes(), q.parts())
	}
}

// TestPartsAreWhatTheQueryUses: the key of a cache has each of them.
func TestPartsAreWhatTheQueryUses(t *testing.T) {
	for text, want := range map[string]authz.Parts{
		"SELECT 1 WHERE a = @token_sha256":                                                  0,
		"SELECT 1 WHERE a = @token_sha256 AND b = @username":                                authz.PartUsername,
		"SELECT 1 WHERE a = @token_sha256 AND b = @client_id AND c >> @address":             authz.PartClientID | authz.PartAddr,
		"SELECT password_hash FROM users WHERE username = @username":                        0,
		"SELECT password_hash FROM users WHERE username = @username AND address = @address": authz.PartAddr,
	} {
		q, err := parseQuery(text)
		if err != nil {
			t.Fatal(err)
		}
		if q.parts() != want {
			t.Errorf("%s: %b, want %b", text, q.parts(), want)
		}
	}
}

func TestFaultsOfAQuery(t *testing.T) {
	for text, want := range map[string]string{
		" ":                                       "empty",
		"SELECT 1 WHERE a = @token":               "@token is not a parameter",
		"SELECT 1 WHERE a = @token_sha256 + @x":   "@x is not a parameter",
		"SELECT 1 WHERE a = $1":                   "no meaning",
		"SELECT 1 WHERE a = $1 AND b = @username": "no meaning",
		"SELECT 1":                                "every device would get the same row",
		"SELECT 1 WHERE a << @address":            "every device would get the same row",
	} {
		if _, err := parseQuery(text); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: error %v, want %q", text, err, want)
		}
	}
	if _, err := parseQuery("SELECT password_hash FROM u WHERE username = @username AND password_hash LIKE '$2%'"); err != nil {
		t.Errorf("a literal that looks like a parameter: %v", err)
	}
}

func field(name string, oid uint32) pgconn.FieldDescription {
	return pgconn.FieldDescription{Name: name, DataTypeOID: oid}
}

// TestDescriptionsThatAreRefused: a column that is not known might be a restriction, and a
// query without a secret would let everyone in.
func TestDescriptionsThatAreRefused(t *testing.T) {
	const tokens, pairs = "SELECT 1 WHERE a = @token_sha256", "SELECT 1 WHERE a = @username"
	for name, c := range map[string]struct {
		query  string
		params []uint32
		fields []pgconn.FieldDescription
		want   string
	}{
		"good tokens":         {tokens, []uint32{pgtype.ByteaOID}, []pgconn.FieldDescription{field("subject", pgtype.TextOID)}, ""},
		"good passwords":      {pairs, []uint32{pgtype.TextOID}, []pgconn.FieldDescription{field("password_hash", pgtype.VarcharOID)}, ""},
		"unknown column":      {tokens, []uint32{pgtype.ByteaOID}, []pgconn.FieldDescription{field("expire_at", pgtype.TimestamptzOID)}, `"expire_at"`},
		"no name":             {tokens, []uint32{pgtype.ByteaOID}, []pgconn.FieldDescription{field("?column?", pgtype.Int4OID)}, `"?column?"`},
		"same name":           {tokens, []uint32{pgtype.ByteaOID}, []pgconn.FieldDescription{field("subject", pgtype.TextOID), field("subject", pgtype.TextOID)}, "two columns"},
		"time without zone":   {tokens, []uint32{pgtype.ByteaOID}, []pgconn.FieldDescription{field("expires_at", pgtype.TimestampOID)}, "leaves the time zone open"},
		"number for true":     {tokens, []uint32{pgtype.ByteaOID}, []pgconn.FieldDescription{field("disabled", pgtype.Int4OID)}, "boolean"},
		"token is a number":   {tokens, []uint32{pgtype.Int8OID}, nil, "neither bytea nor text"},
		"no secret":           {pairs, []uint32{pgtype.TextOID}, []pgconn.FieldDescription{field("subject", pgtype.TextOID)}, "no secret would be checked"},
		"token and password":  {tokens, []uint32{pgtype.ByteaOID}, []pgconn.FieldDescription{field("password_hash", pgtype.TextOID)}, "one source for tokens and one for passwords"},
		"rules of wrong type": {tokens, []uint32{pgtype.ByteaOID}, []pgconn.FieldDescription{field("acl", pgtype.TextArrayOID)}, "json"},
	} {
		q, err := parseQuery(c.query)
		if err != nil {
			t.Fatal(err)
		}
		_, err = q.describe(&pgconn.StatementDescription{ParamOIDs: c.params, Fields: c.fields})
		if c.want == "" && err != nil || c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)) {
			t.Errorf("%s: error %v, want %q", name, err, c.want)
		}
	}
}

// TestValues: the digest of the token has the form of its type, and what no database can hold is
// not sent.
func TestValues(t *testing.T) {
	q, err := parseQuery("SELECT 1 WHERE a = @token_sha256 AND b = @username AND c = @client_id AND d = @address")
	if err != nil {
		t.Fatal(err)
	}
	r := tokenOf("secret")
	r.Username, r.ClientID, r.Addr = "u", "c", netip.MustParseAddrPort("[::ffff:10.1.2.3]:99")
	sum := sha256.Sum256([]byte("secret"))
	for oid, prefix := range map[uint32]string{pgtype.TextOID: "", pgtype.ByteaOID: `\x`} {
		got, ok := q.values(&r, []uint32{oid, pgtype.TextOID, pgtype.TextOID, pgtype.InetOID})
		want := []string{prefix + hex.EncodeToString(sum[:]), "u", "c", "10.1.2.3"}
		for i := range want {
			if !ok || string(got[i]) != want[i] {
				t.Errorf("$%d is %q, want %q", i+1, got[i], want[i])
			}
		}
	}
	for _, bad := range []string{"a\x00b", "\xff"} {
		r.ClientID = bad
		if _, ok := q.values(&r, make([]uint32, 4)); ok {
			t.Errorf("%q is sent", bad)
		}
	}
}

func tokenOf(token string) authz.Request { return authz.Request{Token: authz.NewToken(token)} }

func FuzzQuery(f *testing.F) {
	f.Add("SELECT subject FROM t WHERE a = @token_sha256")
	f.Add("SELECT E'\\'@x', $tag$ @y $tag$ /* /* @z */ */ -- @w\n, @username")
	f.Fuzz(func(t *testing.T, text string) {
		q, err := parseQuery(text)
		if err != nil {
			return
		}
		r := tokenOf("secret")
		if values, ok := q.values(&r, make([]uint32, len(q.params))); !ok || len(values) != len(q.params) {
			t.Errorf("%d values for %d parameters", len(values), len(q.params))
		}
	})
}
