package tokenfile

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"
	"unsafe"

	"github.com/google/go-cmp/cmp"

	"pgregory.net/rapid"

	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/authz"
)

// hashOf returns the token_hash of a token.
func hashOf(token string) string { return fmt.Sprintf("sha256:%x", sha256.Sum256([]byte(token))) }

// line returns an entry with an id, the hash of the token "token-of-" + id, and
// more fields.
func line(id string, more ...string) string {
	fields := append([]string{fmt.Sprintf(`"id":%q,"token_hash":%q`, id, hashOf("token-of-"+id))}, more...)
	return "{" + strings.Join(fields, ",") + "}\n"
}

func parseText(text string) (*snapshot, error) {
	return parse(context.Background(), strings.NewReader(text), &snapshot{})
}

func mustParse(t rapid.TB, text string) *snapshot {
	t.Helper()
	s, err := parseText(text)
	if err != nil {
		t.Fatalf("parse: %v", err)
	}
	return s
}

var compareTokens = cmp.Comparer(func(a, b authz.Token) bool { return a.Equal(b) })

var comparePrefixes = cmp.Comparer(func(a, b netip.Prefix) bool { return a == b })

func TestParseEntry(t *testing.T) {
	newYear := time.Date(2027, 1, 1, 0, 0, 0, 0, time.UTC)
	for _, tc := range []struct {
		name string
		text string
		want authz.Grant
	}{
		{"least", line("a"), authz.Grant{TokenID: "a", Subject: "a"}},
		{"subject", line("a", `"subject":"pump 7"`), authz.Grant{TokenID: "a", Subject: "pump 7"}},
		{"spelled with escapes", line("a", `"\u0073ubject":"p\u00fcmp\/7"`), authz.Grant{TokenID: "a", Subject: "pümp/7"}},
		{"expiry in seconds", line("a", `"expire_at":1798761600`), authz.Grant{TokenID: "a", Subject: "a", Expires: newYear}},
		{"expiry in words", line("a", `"expire_at":"2027-01-01T02:00:00+02:00"`), authz.Grant{TokenID: "a", Subject: "a", Expires: newYear}},
		{"begin", line("a", `"not_before":1798761600`), authz.Grant{TokenID: "a", Subject: "a", Only: authz.Conditions{NotBefore: newYear}}},
		{"latest time", line("a", `"expire_at":100000000000`), authz.Grant{TokenID: "a", Subject: "a", Expires: time.Unix(latest, 0)}},
		{"client id", line("a", `"clientid":"c-*"`), authz.Grant{TokenID: "a", Subject: "a", Only: authz.Conditions{ClientIDs: []string{"c-*"}}}},
		{"lists", line("a", `"clientid":["c","d","*"],"username":["u"]`), authz.Grant{TokenID: "a", Subject: "a", Only: authz.Conditions{ClientIDs: []string{"c", "d", "*"}, Usernames: []string{"u"}}}},
		{"networks", line("a", `"cidr":["10.0.0.0/8","192.0.2.1","2001:db8::/32","::1"]`), authz.Grant{TokenID: "a", Subject: "a", Only: authz.Conditions{Addrs: []netip.Prefix{
			netip.MustParsePrefix("10.0.0.0/8"), netip.MustParsePrefix("192.0.2.1/32"), netip.MustParsePrefix("2001:db8::/32"), netip.MustParsePrefix("::1/128"),
		}}}},
		{"upstream", line("a", `"upstream":{"username":"u","password":"p","clientid":"c"}`), authz.Grant{TokenID: "a", Subject: "a", Upstream: authz.Upstream{Username: "u", Password: authz.NewToken("p"), ClientID: "c"}}},
		{"attributes", line("a", `"client_attrs":{"site":"north","note":""}`), authz.Grant{TokenID: "a", Subject: "a", Attrs: map[string]string{"site": "north", "note": ""}}},
		{"empty objects", line("a", `"client_attrs":{},"upstream":{}`), authz.Grant{TokenID: "a", Subject: "a"}},
		{"what is not kept", line("a", `"comment":"","created_at":"2026-11-23T00:00:00Z","disabled":false`), authz.Grant{TokenID: "a", Subject: "a"}},
		{"base64url", `{"id":"a","token_hash":"sha256:` + base64.RawURLEncoding.EncodeToString(sum("token-of-a")) + `"}`, authz.Grant{TokenID: "a", Subject: "a"}},
		{"upper case digits", strings.Replace(line("a"), hashOf("token-of-a"), "sha256:"+strings.ToUpper(hashOf("token-of-a")[7:]), 1), authz.Grant{TokenID: "a", Subject: "a"}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			s := mustParse(t, tc.text)
			hash := sha256.Sum256([]byte("token-of-a"))
			e := s.withHash(&hash)
			if e == nil || s.len() != 1 || s.byHash.count != 1 {
				t.Fatalf("%d entries, %d hashes, found %v", s.len(), s.byHash.count, e != nil)
			}
			tc.want.Keep = notKept()
			if diff := cmp.Diff(tc.want, *e.authorization(), compareTokens, comparePrefixes, cmp.Comparer(time.Time.Equal)); diff != "" {
				t.Error(diff)
			}
			if e.authorization() != e.authorization() {
				t.Error("the grant is not shared")
			}
		})
	}
}

func sum(text string) []byte {
	h := sha256.Sum256([]byte(text))
	return h[:]
}

func TestParseFile(t *testing.T) {
	for _, tc := range []struct {
		name, text string
		ids        []string
	}{
		{"empty", "", nil},
		{"blank", "\n \t\n\r\n", nil},
		{"comments", "# one\n  # two\n#", nil},
		{"header alone", `{"format":"mqtt-auth-tokens/1"}`, nil},
		{"header behind a comment", "# x\n\n" + `{"format":"mqtt-auth-tokens/1"}` + "\n" + line("a"), []string{"a"}},
		{"order", line("b") + "# x\n\n" + line("a") + line("c"), []string{"b", "a", "c"}},
		{"no line end", line("a") + strings.TrimSuffix(line("b"), "\n"), []string{"a", "b"}},
		{"CRLF and spaces", strings.ReplaceAll(" "+line("a")+line("b"), "\n", " \r\n"), []string{"a", "b"}},
		{"end", line("a") + line("b") + `{"end":true,"count":2}`, []string{"a", "b"}},
		{"end of nothing", `{"count":0,"end":true}` + "\n\n \n", nil},
		{"subjects shared", line("a", `"subject":"x"`) + line("b", `"subject":"x"`), []string{"a", "b"}},
		{"longest line", "#" + strings.Repeat("x", maxLine-1) + "\r\n" + line("a"), []string{"a"}},
		{"longest id", line(strings.Repeat("i", maxID), `"subject":"`+strings.Repeat("s", maxSubject)+`"`), []string{strings.Repeat("i", maxID)}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			s, err := parseText(tc.text)
			if err != nil {
				t.Fatal(err)
			}
			var got []string
			for _, e := range s.entries() {
				got = append(got, e.id)
			}
			if !slices.Equal(got, tc.ids) {
				t.Errorf("entries %q, want %q", got, tc.ids)
			}
		})
	}
}

func TestParseShares(t *testing.T) {
	const more = `"subject":"s","clientid":["c"],"client_attrs":{"k":"v"},"upstream":{"password":"p"}`
	s := mustParse(t, line("a", more)+line("b", more)+line("c", more, `"cidr":"::1"`))
	a, b, c := s.withID("a"), s.withID("b"), s.withID("c")
	if a.detail == nil || a.detail != b.detail || a.detail == c.detail {
		t.Error("equal details are not one")
	}
	if unsafe.StringData(a.subject) != unsafe.StringData(b.subject) {
		t.Error("equal subjects are not one")
	}
	s = mustParse(t, line("a", `"clientid":"x"`)+line("b", `"username":"x"`))
	if a, b := s.withID("a").detail, s.withID("b").detail; a == b || a.usernames != nil || b.clientIDs != nil {
		t.Error("one value of two fields makes one detail")
	}
	d := mustParse(t, line("pump-7-x", `"subject":"pump-7"`)).withID("pump-7-x")
	if d.subject != "pump-7" || unsafe.StringData(d.subject) != unsafe.StringData(d.id) {
		t.Error("a subject with which the id begins takes memory of its own")
	}
	if d.detail != nil {
		t.Error("an entry without details has some")
	}
}

// TestParseRefuses has one fault per line, and where and how it is reported.
func TestParseRefuses(t *testing.T) {
	const ok = `"id":"a","token_hash":"sha256:9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08"`
	for _, tc := range []struct {
		name, text string
		want       string // line: field: reason begins with
	}{
		{"no object", "token", "1: column 1: expected one JSON object"},
		{"truncated", `{` + ok, "1: the text ends early"},
		{"two objects", `{` + ok + `}{}`, "1: column"},
		{"unknown field", `{` + ok + `,"expires_at":1}`, "1: expires_at: an unknown field"},
		{"field of a later version", `{` + ok + `,"quota":{}}`, "1: quota: an unknown field"},
		{"unknown field that may be a token", `{"A1B2C3D4E5":"x"}`, "1: an unknown field"},
		{"unknown field in capitals", `{` + ok + `,"Disabled":true}`, "1: disabled: write the field's name in lower case"},
		{"doubled field", `{` + ok + `,"id":"b"}`, "1: column 98: id: a duplicate key"},
		{"doubled field in capitals", `{` + ok + `,"ID":"b"}`, "1: column 98: id: a duplicate key"},
		{"NUL", "{" + ok + "}\x00", "1: contains a NUL byte"},
		{"NUL in a comment", "# \x00", "1: contains a NUL byte"},
		{"zeros of a crash", "{" + ok + "}\n" + strings.Repeat("\x00", 4096), "2: contains a NUL byte"},
		{"not UTF-8", `{` + ok + ",\"comment\":\"\xff\"}", "1: is not valid UTF-8"},
		{"comment not UTF-8", "# \xff", "1: is not valid UTF-8"},
		{"UTF-16", "\xff\xfe{\x00\"\x00", "1: contains a NUL byte"},
		{"byte order mark", "\xef\xbb\xbf{" + ok + "}", "1: starts with a byte order mark"},
		{"long line", "#" + strings.Repeat("x", maxLine), "1: longer than 64 KiB"},
		{"very long line", line("a") + strings.Repeat("x", 5*maxLine) + "\n", "2: longer than 64 KiB"},

		{"no id", `{"token_hash":"` + hashOf("x") + `"}`, "1: id: is missing"},
		{"empty object", `{}`, "1: id: is missing"},
		{"empty id", `{"id":""}`, "1: id: must not be empty"},
		{"id of a wrong type", `{"id":7}`, "1: id: want a string, got a number"},
		{"id null", `{"id":null}`, "1: id: want a string, got null"},
		{"long id", line(strings.Repeat("i", maxID+1)), "1: id: 129 bytes long"},
		{"control character in the id", `{"id":"a\u0085"}`, "1: id: must not contain control characters"},
		{"line end in the id", `{"id":"a\n"}`, "1: id: must not contain control characters"},
		{"long subject", line("a", `"subject":"`+strings.Repeat("s", maxSubject+1)+`"`), "1: subject: 257 bytes long"},
		{"empty subject", line("a", `"subject":""`), "1: subject: must not be empty"},
		{"doubled id", line("a") + "\n" + line("b") + strings.Replace(line("c"), `"c"`, `"a"`, 1), "4: id: the same as in line 1"},
		{"doubled token", line("a") + "# x\n" + strings.Replace(line("a"), `"a"`, `"b"`, 1), "3: token_hash: the same token as in line 1"},

		{"no hash", `{"id":"a"}`, "1: token_hash: is missing"},
		{"hash of a wrong type", `{"id":"a","token_hash":["x"]}`, "1: token_hash: want a string, got a list"},
		{"hash without a scheme", `{"id":"a","token_hash":"` + hashOf("x")[7:] + `"}`, "1: token_hash: want \"sha256:\""},
		{"hash of another scheme", `{"id":"a","token_hash":"hmac-sha256:k:` + hashOf("x")[7:] + `"}`, "1: token_hash: want \"sha256:\""},
		{"short hash", `{"id":"a","token_hash":"` + hashOf("x")[:70] + `"}`, "1: token_hash: want \"sha256:\""},
		{"bad digit", `{"id":"a","token_hash":"` + hashOf("x")[:70] + `g"}`, "1: token_hash: want \"sha256:\""},
		{"padded base64", `{"id":"a","token_hash":"sha256:` + base64.URLEncoding.EncodeToString(sum("x")) + `"}`, "1: token_hash: want \"sha256:\""},
		{"base64 with bits left over", `{"id":"a","token_hash":"sha256:` + base64.RawURLEncoding.EncodeToString(sum("x"))[:42] + `_"}`, "1: token_hash: want \"sha256:\""},
		{"hash of nothing", `{"id":"a","token_hash":"` + hashOf("") + `"}`, "1: token_hash: the hash of an empty text"},
		{"hash of zeros", `{"id":"a","token_hash":"sha256:` + strings.Repeat("0", 64) + `"}`, "1: token_hash: the hash of an empty text"},
		{"plain token", `{"id":"a","token":"plain-token-1"}`, "1: token: a token in plain text"},

		{"expiry in milliseconds", line("a", `"expire_at":1798761600000`), "1: expire_at: too far in the future: milliseconds?"},
		{"expiry just too far", line("a", `"expire_at":100000000001`), "1: expire_at: too far in the future"},
		{"expiry zero", line("a", `"expire_at":0`), "1: expire_at: a time in 1970 or before"},
		{"expiry negative", line("a", `"expire_at":-1`), "1: expire_at: a time in 1970 or before"},
		{"expiry with a fraction", line("a", `"expire_at":1798761600.5`), "1: expire_at: want whole seconds"},
		{"expiry with an exponent", line("a", `"expire_at":1e9`), "1: expire_at: want whole seconds"},
		{"expiry past counting", line("a", `"expire_at":99999999999999999999`), "1: expire_at: want whole seconds"},
		{"expiry as digits in a string", line("a", `"expire_at":"1798761600"`), "1: expire_at: want whole seconds"},
		{"expiry as a date", line("a", `"expire_at":"2027-01-31"`), "1: expire_at: want whole seconds"},
		{"expiry without a zone", line("a", `"expire_at":"2027-01-31T00:00:00"`), "1: expire_at: want whole seconds"},
		{"expiry with a fraction in words", line("a", `"expire_at":"2027-01-31T00:00:00.5Z"`), "1: expire_at: want whole seconds"},
		{"expiry before all", line("a", `"expire_at":"0001-01-01T00:00:00Z"`), "1: expire_at: a time in 1970 or before"},
		{"expiry null", line("a", `"expire_at":null`), "1: expire_at: want seconds"},
		{"expiry true", line("a", `"expire_at":true`), "1: expire_at: want seconds"},
		{"begin behind the end", line("a", `"not_before":20,"expire_at":20`), "1: not_before: not before expire_at"},
		{"created nonsense", line("a", `"created_at":"yesterday"`), "1: created_at: want whole seconds"},
		{"comment of a wrong type", line("a", `"comment":7`), "1: comment: want a string, got a number"},
		{"disabled in words", line("a", `"disabled":"true"`), "1: disabled: want true or false, got a string"},
		{"disabled as a number", line("a", `"disabled":1`), "1: disabled: want true or false, got a number"},
		{"disabled null", line("a", `"disabled":null`), "1: disabled: want true or false, got null"},

		{"no client ids", line("a", `"clientid":[]`), "1: clientid: an empty list"},
		{"empty client id", line("a", `"clientid":""`), "1: clientid: must not be empty"},
		{"empty client id in a list", line("a", `"clientid":["c",""]`), "1: clientid: must not be empty"},
		{"client ids of wrong types", line("a", `"clientid":["c",7]`), "1: clientid: want a string, got a number"},
		{"client ids in an object", line("a", `"clientid":{"c":"d"}`), "1: clientid: want a string or a list of strings, got an object"},
		{"star inside", line("a", `"clientid":"a*b"`), "1: clientid: a * is allowed only at the end"},
		{"two stars", line("a", `"username":"a**"`), "1: username: a * is allowed only at the end"},
		{"bits set behind the mask", line("a", `"cidr":"10.1.0.0/8"`), "1: cidr: an address inside the range 10.0.0.0/8"},
		{"no network", line("a", `"cidr":"localhost"`), "1: cidr: want an address or a range"},
		{"mask too long", line("a", `"cidr":"10.0.0.0/33"`), "1: cidr: want an address or a range"},
		{"v4 in v6", line("a", `"cidr":"::ffff:10.0.0.0/104"`), "1: cidr: want an address or a range"},
		{"v4 in v6 address", line("a", `"cidr":"::ffff:10.0.0.1"`), "1: cidr: want an address or a range"},
		{"zone", line("a", `"cidr":"fe80::1%eth0"`), "1: cidr: want an address or a range"},
		{"upstream of a wrong type", line("a", `"upstream":"u"`), "1: upstream: want an object of strings, got a string"},
		{"upstream password of a wrong type", line("a", `"upstream":{"password":7}`), "1: upstream: want a string, got a number"},
		{"upstream with more", line("a", `"upstream":{"pool":"x"}`), "1: upstream: only username, password and clientid"},
		{"attribute of a wrong type", line("a", `"client_attrs":{"k":["v"]}`), "1: client_attrs: want a string, got a list"},
		{"doubled attribute", line("a", `"client_attrs":{"k":"v","K":"w"}`), "1: column"},
		{"attribute without a name", line("a", `"client_attrs":{"":"v"}`), "1: client_attrs: a key: must not be empty"},

		{"format of the future", `{"format":"mqtt-auth-tokens/2"}`, "1: format: is not mqtt-auth-tokens/1"},
		{"format of a wrong type", `{"format":1}`, "1: format: want a string"},
		{"format with more", `{"format":"mqtt-auth-tokens/1","id":"a"}`, "1: format: no other field"},
		{"roles", `{"format":"mqtt-auth-tokens/1","roles":{}}`, "1: roles: an unknown field"},
		{"format behind an entry", line("a") + `{"format":"mqtt-auth-tokens/1"}`, "2: format: must occur once"},
		{"format twice", strings.Repeat(`{"format":"mqtt-auth-tokens/1"}`+"\n", 2), "2: format: must occur once"},
		{"count wrong", line("a") + `{"end":true,"count":2}`, "2: count: says 2, but there are 1 entries"},
		{"count missing", line("a") + `{"end":true}`, "2: end: the end line must read"},
		{"count alone", line("a") + `{"count":1}`, "2: end: the end line must read"},
		{"count in words", line("a") + `{"end":true,"count":"1"}`, "2: end: the end line must read"},
		{"count negative", `{"end":true,"count":-0}` + "\n" + `{"end":true,"count":-1}`, "2: is after the end line"},
		{"end false", line("a") + `{"end":false,"count":1}`, "2: end: the end line must read"},
		{"end with more", line("a") + `{"end":true,"count":1,"id":"b"}`, "2: end: the end line must read"},
		{"entry behind the end", `{"end":true,"count":0}` + "\n" + line("a"), "2: is after the end line, line 1"},
		{"comment behind the end", `{"end":true,"count":0}` + "\n# x", "2: is after the end line, line 1"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			s, err := parseText(tc.text)
			var broken *FormatError
			if s != nil || !errors.As(err, &broken) || len(broken.Faults) != 1 {
				t.Fatalf("parse = %v, %v; want one fault", s, err)
			}
			broken.Path = "f"
			if got := err.Error(); !strings.HasPrefix(got, "f:"+tc.want) {
				t.Errorf("%s\nwant f:%s", got, tc.want)
			}
		})
	}
}

func TestParseListsFaults(t *testing.T) {
	var text strings.Builder
	for i := range 50 {
		text.WriteString(line(fmt.Sprint("good", i)))
		fmt.Fprintf(&text, `{"id":"bad%d"}`+"\n", i)
	}
	_, err := parseText(text.String())
	var broken *FormatError
	if !errors.As(err, &broken) || len(broken.Faults) != 20 {
		t.Fatalf("parse = %v, want 20 faults", err)
	}
	for i, f := range broken.Faults {
		if f.Line != 2*i+2 || f.Field != "token_hash" {
			t.Errorf("fault %d is of line %d, %s", i, f.Line, f.Field)
		}
	}
	if text := err.Error(); strings.Count(text, "\n") != 20 || !strings.HasSuffix(text, "these are the first 20") {
		t.Errorf("the text is %s", text)
	}
}

// TestFaultsKeepSecrets puts a secret wherever it can be misplaced, and searches the errors for
// it, and for most of its hash.
func TestFaultsKeepSecrets(t *testing.T) {
	const secret = "zQ7secretTokenOfPump7"
	for _, text := range []string{
		secret,
		`"` + secret + `"`,
		`{"` + secret + `":"pump-7"}`,
		`{"` + strings.ToLower(strings.Trim(secret, "7")) + `_more_than_twenty":"pump-7"}`,
		`{"id":"a","token":"` + secret + `"}`,
		`{"id":"a","token_hash":"` + secret + `"}`,
		`{"id":"a","token_hash":"sha256:` + secret + `"}`,
		`{"id":"a","token_hash":"` + hashOf(secret) + `0"}`,
		`{"id":"a","token_hash":"` + hashOf(secret)[:70] + `"}`,
		line("a") + strings.Replace(line("a"), `"a"`, `"b"`, 1),
		`{"id":"a","token_hash":"` + hashOf(secret) + `","upstream":{"password":"` + secret + `","x":"y"}}`,
		`{"id":"a","token_hash":"` + hashOf(secret) + `","upstream":{"` + secret + `":"x"}}`,
		`{"id":"a","token_hash":"` + hashOf(secret) + `","upstream":"` + secret + `"}`,
		`{"id":"a","token_hash":"` + hashOf(secret) + `","cidr":"` + secret + `"}`,
		`{"id":"a","token_hash":"` + hashOf(secret) + `","expire_at":"` + secret + `"}`,
		`{"id":"a","token_hash":"` + hashOf(secret) + `","clientid":"` + secret + `*x"}`,
		`{"id":"a","token_hash":"` + hashOf(secret) + `","client_attrs":{"` + secret + `":7}}`,
		`{"id":"a","token_hash":"` + hashOf(secret) + `","comment":` + secret + `}`,
		`{"format":"` + secret + `"}`,
		`{"end":"` + secret + `"}`,
		`{"end":true,"count":"` + secret + `"}`,
	} {
		_, err := parseText(text)
		if err == nil {
			t.Errorf("%.30s is good", text)
			continue
		}
		for _, verb := range []string{"%v", "%+v", "%#v", "%q"} {
			got := fmt.Sprintf(verb, err)
			for _, part := range []string{secret, secret[:10], strings.ToLower(secret)[:10], hashOf(secret)[7:23], hashOf("token-of-a")[7:23]} {
				if strings.Contains(got, part) {
					t.Errorf("%s of the fault in %.30s repeats %s", verb, text, part)
				}
			}
		}
	}
}

func TestParseEndsWithContext(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, err := parse(ctx, bytes.NewReader(bytes.Repeat([]byte("#\n"), 5000)), &snapshot{})
	if !errors.Is(err, context.Canceled) {
		t.Errorf("parse = %v", err)
	}
	broken := errors.New("disk")
	if _, err := parse(t.Context(), readerFunc(func([]byte) (int, error) { return 0, broken }), &snapshot{}); !errors.Is(err, broken) {
		t.Errorf("parse = %v", err)
	}
}

type readerFunc func([]byte) (int, error)

func (f readerFunc) Read(p []byte) (int, error) { return f(p) }

// TestPanicOfTheParserIsAFault: the file is refused like any other that cannot be read.
func TestPanicOfTheParserIsAFault(t *testing.T) {
	snap, err := safely(func() (*snapshot, error) { panic("token-in-the-value") })
	if err == nil || snap != nil || strings.Contains(err.Error(), "token-in-the-value") {
		t.Errorf("%v, %v", snap, err)
	}
}
