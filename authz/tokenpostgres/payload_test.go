package tokenpostgres

import (
	"encoding/hex"
	"fmt"
	"reflect"
	"strings"
	"testing"

	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/authz"
)

// sourceOf returns a Source for a query that was described with these columns, without a
// database.
func sourceOf(t testing.TB, text string, fields ...string) *Source {
	t.Helper()
	q, err := parseQuery(text)
	if err != nil {
		t.Fatal(err)
	}
	s := &Source{query: q}
	s.statement.Store(&statement{fields: fields})
	return s
}

const (
	tokenQuery = "SELECT 1 WHERE a = @token_sha256"
	userQuery  = "SELECT 1 WHERE a = @username"
)

// TestPayloads: what cannot be understood is not nothing, but everything.
func TestPayloads(t *testing.T) {
	hash := authz.NewToken("secret").Hash()
	digest := hex.EncodeToString(hash[:])
	tokens, users := sourceOf(t, tokenQuery), sourceOf(t, userQuery, "password_hash")
	for _, c := range []struct {
		source  *Source
		payload string
		want    authz.Revocation // the zero value is everything
	}{
		{tokens, `{"subject":"pump-7"}`, authz.Revocation{Subject: "pump-7"}},
		{tokens, ` {"token_id" : "t-1"} `, authz.Revocation{TokenID: "t-1"}},
		{tokens, `{"token_id":17}`, authz.Revocation{TokenID: "17"}},
		{tokens, `{"token_sha256":"` + digest + `"}`, authz.Revocation{TokenHash: hash}},
		{tokens, `{"token_sha256":"` + strings.ToUpper(digest) + `"}`, authz.Revocation{TokenHash: hash}},
		{users, `{"username":"pump-7"}`, authz.Revocation{TokenID: "pump-7"}},
		{sourceOf(t, userQuery, "password_hash", "token_id"), `{"username":"pump-7"}`, authz.Revocation{Subject: "pump-7"}},
		{sourceOf(t, userQuery, "password_hash", "token_id", "subject"), `{"username":"pump-7"}`, authz.Revocation{}},
		{sourceOf(t, "SELECT 1 WHERE a = @client_id", "password_hash"), `{"username":"pump-7"}`, authz.Revocation{}},
		{tokens, `{"username":"pump-7"}`, authz.Revocation{}},
		{users, `{"token_sha256":"` + digest + `"}`, authz.Revocation{}},
		{tokens, `{"altered":"t-1"}`, authz.Revocation{}},
		{tokens, ``, authz.Revocation{}},
		{tokens, `pump-7`, authz.Revocation{}},
		{tokens, `{}`, authz.Revocation{}},
		{tokens, `{"subject":""}`, authz.Revocation{}},
		{tokens, `{"subject":null}`, authz.Revocation{}},
		{tokens, `{"Subject":"pump-7"}`, authz.Revocation{}},
		{tokens, `{"subject":"a","token_id":"b"}`, authz.Revocation{}},
		{tokens, `{"subject":"a"}{"subject":"b"}`, authz.Revocation{}},
		{tokens, `["pump-7"]`, authz.Revocation{}},
		{tokens, `{"token_sha256":"` + digest[1:] + `"}`, authz.Revocation{}},
		{tokens, `{"token_sha256":"` + strings.Repeat("0", 64) + `"}`, authz.Revocation{}},
	} {
		got, ok := c.source.withdrawn(c.payload)
		if want := c.want != (authz.Revocation{}); ok != want || ok && !reflect.DeepEqual(got.Revocation, c.want) {
			t.Errorf("%s: %+v, %v; want %+v", c.payload, got, ok, c.want)
		}
	}
}

// TestManyNotifications: those that wait for Notify are bounded; more of them are everything.
func TestManyNotifications(t *testing.T) {
	s := sourceOf(t, tokenQuery)
	l, err := newListener(Options{Channel: "c"}, s)
	if err != nil {
		t.Fatal(err)
	}
	for i := range maxWaiting {
		l.hear(fmt.Sprintf(`{"subject":"device-%d"}`, i))
	}
	if all, missed := l.take(); len(all) != maxWaiting || missed {
		t.Errorf("%d are waiting, missed %v", len(all), missed)
	}
	for i := range maxWaiting + 1 {
		l.hear(fmt.Sprintf(`{"subject":"device-%d"}`, i))
	}
	if all, missed := l.take(); len(all) != 0 || !missed {
		t.Errorf("after too many, %d are waiting, missed %v", len(all), missed)
	}
	if _, missed := l.take(); missed {
		t.Error("the same is reported twice")
	}
}

func FuzzPayload(f *testing.F) {
	f.Add(`{"subject":"pump-7"}`)
	f.Add(`{"token_sha256":"2bb80d537b1da3e38bd30361aa855686bde0eacd7162fef6a25fe97bf527a25b"}`)
	f.Fuzz(func(t *testing.T, payload string) {
		for _, s := range []*Source{sourceOf(t, tokenQuery), sourceOf(t, userQuery, "password_hash")} {
			if w, ok := s.withdrawn(payload); ok && w.Revocation == (authz.Revocation{}) || w.altered && ok {
				t.Errorf("%+v, %v", w, ok)
			}
		}
	})
}
