package tokenimport

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"testing"

	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/authz"
	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/authz/passwordhash"
	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/authz/tokenfile"
)

// batchOf reads a source and checks it.
func batchOf(t testing.TB, o Options, text string) (*tokenfile.Batch, error) {
	t.Helper()
	found, err := Read(strings.NewReader(text), o)
	if err != nil {
		return nil, err
	}
	return tokenfile.NewBatch(t.Context(), "source", found.Drafts, tokenfile.BatchOptions{Rounds: 1})
}

// importTo imports a source into a new file and returns the path of it.
func importTo(t testing.TB, o Options, text string) string {
	t.Helper()
	batch, err := batchOf(t, o, text)
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "tokens.jsonl")
	if err := tokenfile.Update(path, true, func(e *tokenfile.Edit) error {
		_, err := e.Import(batch, tokenfile.RefuseExisting)
		return err
	}); err != nil {
		t.Fatal(err)
	}
	return path
}

// EMQX's own example of its documentation has these columns; the hashes are those of
// "correct horse" by Python's hashlib.
const (
	emqxSalt   = "de1024f462fb83910fd13151bd4bd235"
	emqxPrefix = "c2705e787f39e55d28f91a42edbe521affa2189126fc459c597558ab959cd494"
	emqxSuffix = "c072f0fa1aa2c45255937df094d07afa07cdd41cc8dd3079f72623e862ea6c13"
	emqxPBKDF2 = "63ed199b85fe2bc944f6d48904cd85a85fa1a3d93ab81051779098213edf309f"
)

// TestImportedDevicesConnectWithTheirOldPassword: the password that a device has is good by what
// was imported, and another is not.
func TestImportedDevicesConnectWithTheirOldPassword(t *testing.T) {
	const bulk = "name,mqtt_user_name,MQTT Password\nd,u,correct horse\n"
	for name, tc := range map[string]struct {
		o    Options
		text string
	}{
		"emqx, salt before":   {Options{Format: EMQX, Hash: "sha256:prefix"}, "user_id,password_hash,salt,is_superuser\nu," + emqxPrefix + "," + emqxSalt + ",true\n"},
		"emqx, salt after":    {Options{Format: EMQX, Hash: "sha256:suffix"}, "\xef\xbb\xbfuser_id,password_hash,salt\r\nu," + emqxSuffix + "," + emqxSalt + "\r\n"},
		"emqx, pbkdf2":        {Options{Format: EMQX, Hash: "pbkdf2:sha256:4096"}, "user_id,password_hash,salt\nu," + emqxPBKDF2 + "," + emqxSalt + "\n"},
		"emqx, JSON":          {Options{Format: EMQX, Hash: "sha256:prefix", Source: "x.JSON"}, `[{"user_id":"u","password_hash":"` + emqxPrefix + `","salt":"` + emqxSalt + `","is_superuser":false}]`},
		"thingsboard":         {Options{Format: ThingsBoard}, bulk},
		"thingsboard, a dump": {Options{Format: ThingsBoard}, "name,credentials_type,credentials_id,credentials_value\nd,MQTT_BASIC,x,\"{\"\"userName\"\":\"\"u\"\",\"\"password\"\":\"\"correct horse\"\",\"\"clientId\"\":null}\"\n"},
		"hivemq":              {Options{Format: HiveMQ}, hivemqXML(hivemqHorse, hivemqTopicA)},
		"hivemq, plain":       {Options{Format: HiveMQ, Hash: "plain"}, hivemqXML("correct&#32;horse", hivemqTopicA)},
		"csv":                 {Options{Format: CSV}, "username,password\nu,correct horse\n"},
		"jsonl":               {Options{Format: JSONL}, "# comment\n" + `{"username":"u","password":"correct horse"}` + "\n"},
	} {
		f, err := tokenfile.Open(importTo(t, tc.o, tc.text), tokenfile.Options{})
		if err != nil {
			t.Fatal(err)
		}
		users := f.Users(passwordhash.NewWorkers(0))
		for password, good := range map[string]bool{"correct horse": true, "wrong horse": false} {
			_, err := users.Authorize(t.Context(), authz.Request{Pair: authz.Pair{Username: "u", Password: authz.NewToken(password)}})
			if good && err != nil || !good && !errors.Is(err, authz.ErrDenied) {
				t.Errorf("%s: %s: %v", name, password, err)
			}
		}
	}
}

// TestGatewaysOfThingsBoardStayGateways, or they would lose what they send for the devices behind
// them.
func TestGatewaysOfThingsBoardStayGateways(t *testing.T) {
	for _, text := range []string{
		"Name,Access token,Is gateway\ngw,token-of-the-gateway,true\nd,token-of-the-device,FALSE\ne,token-of-another-one,\n",
		"name,credentials_type,credentials_id,credentials_value,is_gateway\ngw,ACCESS_TOKEN,token-of-the-gateway,,true\nd,ACCESS_TOKEN,token-of-the-device,,false\n",
	} {
		list, err := tokenfile.List(importTo(t, Options{Format: ThingsBoard}, text))
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range list {
			if e.Gateway != (e.Subject == "gw") {
				t.Errorf("%s is a gateway: %t", e.Subject, e.Gateway)
			}
		}
	}
}

// TestFaultsNameTheirLine: what cannot be taken over is named by line and column, with what to do,
// and without a secret.
func TestFaultsNameTheirLine(t *testing.T) {
	const header = "name,credentials_type,credentials_id,credentials_value\n"
	for _, tc := range []struct {
		o          Options
		text, want string
	}{
		{Options{Format: Mosquitto}, "# c\nu:hunter22", "source:2: password_hash: not a hash of a known form"},
		{Options{Format: Mosquitto}, "hunter22", "source:1: no colon"},
		{Options{Format: Mosquitto}, "u*:$6$AAAA$" + strings.Repeat("A", 86) + "==", "source:1: username: an entry with password_hash needs one user name, without *"},
		{Options{Format: Mosquitto}, "u:\xff", "source:1: is not valid UTF-8"},
		{Options{Format: Mosquitto}, "x\nu:" + strings.Repeat("x", 70000), "source:2: longer than 64 KiB"},
		{Options{Format: EMQX, Hash: "sha256:prefix"}, "user_id,password\nu,hunter22", "source:1: column 2: a password in plain text"},
		{Options{Format: EMQX, Hash: "sha256:prefix"}, "user_id,password_hash\nu," + emqxPrefix, "source:2: password_hash: has no salt next to it"},
		{Options{Format: EMQX, Hash: "sha256:prefix"}, "user_id,password_hash,salt\nu,hunter22,x", "source:2: password_hash: the hash is not hexadecimal"},
		{Options{Format: EMQX, Hash: "sha512:prefix"}, "user_id,password_hash,salt\nu," + emqxPrefix + ",x", "source:2: password_hash: the hash has 32 bytes; it must have 64"},
		{Options{Format: EMQX, Hash: "bcrypt"}, "user_id,password_hash\nu," + emqxPrefix, "source:2: password_hash: not a hash"},
		{Options{Format: EMQX, Hash: "sha256:none"}, "user_id,password_hash,is_superuser\nu," + emqxPrefix + ",1", "source:2: is_superuser: want true or false"},
		{Options{Format: EMQX, Hash: "sha256:none", Source: "x.json"}, "[\n{\"user_id\":\"u\",\n\"password_hash\":\"" + emqxPrefix + "\"},\n\n{\"user_id\":5}]", "source:5: a value that is not a string"},
		{Options{Format: EMQX, Hash: "sha256:none", Source: "x.json"}, "{}", "source:1: not a JSON list of users"},
		{Options{Format: ThingsBoard}, "name;access token\n", "source:1: there must be a column name"},
		{Options{Format: ThingsBoard}, "name,access token\nd,", "source:2: the device has no credentials"},
		{Options{Format: ThingsBoard}, "name,access token,mqtt password\nd,12345678,hunter22", "source:2: the device has credentials of several kinds"},
		{Options{Format: ThingsBoard}, "name,mqtt client id,mqtt user name\nd,all*,user-name", "source:2: the client id contains *"},
		{Options{Format: ThingsBoard}, header + "d,X509_CERTIFICATE,x,hunter22", "source:2: the certificate of the device is missing"},
		{Options{Format: ThingsBoard}, "name,access token,is gateway\nd,hunter2-hunter2-hunter2,yes", "source:2: is_gateway: want true or false"},
		{Options{Format: ThingsBoard}, header + "d,MQTT_BASIC,x,hunter22", "source:2: credentials_value: is not the object"},
		{Options{Format: CSV}, "subject,token\nd,\"hunter22\n\nx", "source:2: a quotation mark in a cell"},
		{Options{Format: CSV}, "subject,token\n\nd,short", "source:3: token: shorter than 8"},
		{Options{Format: CSV}, "subject,subject\nd,d", "source:1: column 2 has the name of another"},
		{Options{Format: CSV}, "subject,token,acl\nd,hunter2hunter22,\"{}, \"\"disabled\"\": true\"", "source:2: acl: is not JSON"},
		{Options{Format: CSV}, "subject,token,token_hash\nd,hunter2hunter22,sha256:x", "source:2: token: is next to token_hash"},
		{Options{Format: CSV}, "comment,token\nc,hunter2hunter22", "source:2: subject: is missing"},
		{Options{Format: JSONL}, `{"subject":"d","token":"hunter2hunter22"}` + "\n" + `{"subject":"e","token":"hunter2hunter22"}`, "source:2: token_hash: the same token as in line 1"},
		{Options{Format: JSONL}, `{"subject":"d","tokn":"hunter2hunter22"}`, "source:1: tokn: an unknown field"},
		{Options{Format: JSONL}, `{"end":true,"count":1}`, "source:1: count: says 1, but there are 0"},
		{Options{Format: JSONL}, `{"subject":"..","token":"hunter2hunter22"}`, "source:1: subject: . and .. cannot be"},
	} {
		_, err := batchOf(t, tc.o, tc.text)
		if err == nil || !strings.Contains(err.Error(), tc.want) || strings.Contains(err.Error(), "hunter2") {
			t.Errorf("%s %q: %v, want %s", tc.o.Format, tc.text, err, tc.want)
		}
	}
}

// TestTableKeepsEveryField: an entry that is written as a row and read again is the same.
func TestTableKeepsEveryField(t *testing.T) {
	entry := `{"id":"a","subject":"[s","token_hash":"sha256:9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08","disabled":true,` +
		`"expire_at":1798761600,"not_before":"2026-01-01T00:00:00Z","clientid":"[c","username":["u","v*"],"cidr":"10.0.0.0/8","certificate":["cn:x"],` +
		`"upstream":{"username":"u","password":"p \"q\"","clientid":"c"},"role":"reader","gateway":true,"acl":[{"topic":"a/#","action":"all","permission":"allow"}],` +
		`"limits":{"max_qos":1},"client_attrs":{"k":"v, w"},"created_at":1700000000,"comment":"a, \"b\"\\n"}`
	first := importTo(t, Options{Format: JSONL}, entry)
	var table bytes.Buffer
	w := NewWriter(&table)
	if err := errors.Join(tokenfile.Each(first, tokenfile.All(), func(_ tokenfile.Entry, line []byte) error { return w.Write(line) }), w.Flush()); err != nil {
		t.Fatal(err)
	}
	second := importTo(t, Options{Format: CSV}, table.String())
	want, err := tokenfile.List(first)
	if err != nil {
		t.Fatal(err)
	}
	got, err := tokenfile.List(second)
	if err != nil || fmt.Sprint(got) != fmt.Sprint(want) || got[0].Upstream.Password.Reveal() != `p "q"` || !got[0].Gateway || got[0].Role != authz.RoleReader {
		t.Errorf("the table %s\nmakes %v, %v\nof %v", table.String(), got, err, want)
	}
}

// BenchmarkImport reads, checks and stores 100,000 entries.
func BenchmarkImport(b *testing.B) {
	var table strings.Builder
	table.WriteString("subject,token_hash,clientid\n")
	for i := range 100_000 {
		fmt.Fprintf(&table, "device-%d,sha256:%x,device-%d\n", i, sha256.Sum256(fmt.Append(nil, i)), i)
	}
	for b.Loop() {
		importTo(b, Options{Format: CSV}, table.String())
	}
}
