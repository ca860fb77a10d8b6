package passwdfile

import (
	"context"
	"crypto/sha512"
	"encoding/base64"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/authz"
	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/authz/authztest"
	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/authz/passwordhash"
)

// line returns a line of Mosquitto's format with a hash that costs little.
func line(user, password string) string {
	salt := sha512.Sum512([]byte("salt of " + user))
	digest := sha512.Sum512(append([]byte(password), salt[:12]...))
	return user + ":$6$" + base64.StdEncoding.EncodeToString(salt[:12]) + "$" + base64.StdEncoding.EncodeToString(digest[:]) + "\n"
}

// of returns the password of a user in these tests.
func of(user string) string { return "password-of-" + user }

func put(t testing.TB, path string, lines ...string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(strings.Join(lines, "")), 0o600); err != nil {
		t.Fatal(err)
	}
}

// swap puts a new file in the place of the old one.
func swap(t testing.TB, path string, lines ...string) {
	t.Helper()
	put(t, path+".new", lines...)
	if err := os.Rename(path+".new", path); err != nil {
		t.Fatal(err)
	}
}

func passwdPath(t testing.TB) string { return filepath.Join(t.TempDir(), "passwd") }

func mustOpen(t testing.TB, path string, o Options) *File {
	t.Helper()
	if o.Format == "" {
		o.Format = Mosquitto
	}
	f, err := Open(path, o)
	if err != nil {
		t.Fatal(err)
	}
	return f
}

func login(user, password string) authz.Request {
	return authz.Request{Pair: authz.Pair{ClientID: "client", Username: user, Password: authz.NewToken(password)}}
}

func reasonOf(err error) authz.Reason {
	if d, ok := errors.AsType[*authz.Denial](err); ok {
		return d.Reason
	}
	return ""
}

func TestConformance(t *testing.T) {
	authztest.Run(t, authztest.Suite{
		NamesDevices: true,
		New: func(tb testing.TB) authztest.Fixture {
			path := passwdPath(tb)
			put(tb, path, "# the pumps\n", line("pump-7", of("pump-7")), "\n", line("pump-8", of("pump-7")))
			f := mustOpen(tb, path, Options{Interval: time.Millisecond})
			return authztest.Fixture{Authorizer: f, Revoke: func() { swap(tb, path, line("pump-8", "another-password")) }}
		},
		Good:    login("pump-7", of("pump-7")),
		Unknown: login("pump-9", of("pump-7")),
		Denied: map[authz.Reason]authz.Request{
			authz.WrongPassword: login("pump-7", "password-of-somebody"),
		},
	})
}

// TestTwoDevicesWithOnePassword: each device gets the grant of its own user name.
func TestTwoDevicesWithOnePassword(t *testing.T) {
	path := passwdPath(t)
	put(t, path, line("a", "the same for all"), line("b", "the same for all"))
	f := mustOpen(t, path, Options{})
	hashes := map[[32]byte]bool{}
	for _, user := range []string{"a", "b"} {
		g, err := f.Authorize(t.Context(), login(user, "the same for all"))
		if err != nil || g.Subject != user || g.TokenID != user || !g.IsPair() {
			t.Fatalf("%s: %+v, %v", user, g, err)
		}
		hashes[g.PairHash] = true
	}
	if len(hashes) != 2 {
		t.Error("both have the same PairHash")
	}
}

// TestOnlyPairsAreAccepted: neither a token nor a password without its user name is accepted.
func TestOnlyPairsAreAccepted(t *testing.T) {
	path := passwdPath(t)
	put(t, path, line("a", of("a")))
	f := mustOpen(t, path, Options{})
	if authz.Takes(f) != authz.Pairs {
		t.Error("the file accepts credentials other than pairs")
	}
	for name, r := range map[string]authz.Request{
		"a token":         {Token: authz.NewToken(of("a")), Username: "a", Password: authz.NewToken(of("a"))},
		"no password":     {Pair: authz.Pair{Username: "a"}},
		"empty password":  login("a", ""),
		"no user name":    login("", of("a")),
		"another case":    login("A", of("a")),
		"blanks around":   login(" a ", of("a")),
		"the hash itself": login("a", strings.TrimSpace(strings.TrimPrefix(line("a", of("a")), "a:"))),
	} {
		if _, err := f.Authorize(t.Context(), r); !errors.Is(err, authz.ErrDenied) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestBusyIsNoDenial: a check for which there is no worker is not a denial.
func TestBusyIsNoDenial(t *testing.T) {
	path := passwdPath(t)
	put(t, path, line("a", of("a")))
	f := mustOpen(t, path, Options{})
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	for _, password := range []string{of("a"), "wrong-password"} {
		if _, err := f.Authorize(ctx, login("a", password)); err == nil || errors.Is(err, authz.ErrDenied) {
			t.Errorf("with an ended context: %v", err)
		}
	}
}

// TestUnknownUserCostsNoHash: made-up user names cannot occupy the processors.
func TestUnknownUserCostsNoHash(t *testing.T) {
	path := passwdPath(t)
	put(t, path, line("a", of("a")))
	w := passwordhash.NewWorkers(1)
	f := mustOpen(t, path, Options{Workers: w})
	for i := range 100 {
		if _, err := f.Authorize(t.Context(), login(fmt.Sprint("nobody-", i), of("a"))); !errors.Is(err, authz.ErrUnknown) {
			t.Fatal(err)
		}
	}
	if n := w.Stats().Hashes; n != 0 {
		t.Errorf("%d hashes for unknown users", n)
	}
	if _, err := f.Authorize(t.Context(), login("a", "wrong-password")); reasonOf(err) != authz.WrongPassword || errors.Is(err, authz.ErrUnknown) {
		t.Errorf("a wrong password: %v", err)
	}
	if n := w.Stats().Hashes; n != 1 {
		t.Errorf("%d hashes for one wrong password", n)
	}
}

func TestLongUserName(t *testing.T) {
	path := passwdPath(t)
	long := strings.Repeat("ü", 128)
	put(t, path, line(long, of("a")), line(long[:200], of("a")))
	f := mustOpen(t, path, Options{})
	ids := map[string]bool{}
	for _, user := range []string{long, long[:200]} {
		g, err := f.Authorize(t.Context(), login(user, of("a")))
		if err != nil || g.Subject != user || len(g.TokenID) > 128 || strings.ToValidUTF8(g.TokenID, "?") != g.TokenID {
			t.Fatalf("%+v, %v", g, err)
		}
		ids[g.TokenID] = true
	}
	if len(ids) != 2 {
		t.Error("two users have one token id")
	}
}

func TestConfirms(t *testing.T) {
	path := passwdPath(t)
	put(t, path, line("a", of("a")), line("b", of("b")))
	before := mustOpen(t, path, Options{})
	grants := map[string]*authz.Grant{}
	for _, user := range []string{"a", "b"} {
		g, err := before.Authorize(t.Context(), login(user, of(user)))
		if err != nil {
			t.Fatal(err)
		}
		grants[user] = g
	}
	put(t, path, line("a", of("a")), line("b", "another"))
	after := mustOpen(t, path, Options{})
	for _, tc := range []struct {
		g           *authz.Grant
		known, good bool
	}{
		{grants["a"], true, true},
		{grants["b"], true, false},
		{&authz.Grant{Subject: "a", TokenID: "a"}, false, false},
		{&authz.Grant{Subject: "c", TokenID: "c", PairHash: [32]byte{1}}, false, false},
	} {
		if known, good := after.Confirms(tc.g.PairHash, tc.g); known != tc.known || good != tc.good {
			t.Errorf("%s: %v, %v", tc.g.Subject, known, good)
		}
	}
}

func TestOpenRefuses(t *testing.T) {
	good := line("ok", of("ok"))
	bcrypt := "$2y$04$mNh1CP47W4hkLTwhmEg1nOt21Kf0sctMV.KMI7s1Kz3YQw8UqXpCa"
	for name, tc := range map[string]struct {
		format Format
		text   string
		want   string
	}{
		"no colon":           {Mosquitto, good + "# x\npump-7\n", ":3: no colon"},
		"no user":            {Mosquitto, ":$6$x$y\n", ":1: no user name"},
		"no hash":            {Mosquitto, "pump-7:\n", ":1: no hash after the colon"},
		"plain text":         {Mosquitto, good + "pump-7:hunter2hunter2\n", ":2: a password in plain text; mosquitto_passwd -U"},
		"twice":              {Mosquitto, good + line("b", "x") + good, ":3: the same user name as in line 1"},
		"long user":          {Mosquitto, strings.Repeat("u", 257) + ":x\n", ":1: a user name of 257 bytes"},
		"NUL":                {Mosquitto, "a\x00b:x\n", "control characters"},
		"UTF-8":              {Mosquitto, "a\xff:x\n", "UTF-8"},
		"byte order mark":    {Mosquitto, "\xef\xbb\xbf" + good, "byte order mark"},
		"foreign to it":      {Mosquitto, "pump-7:" + bcrypt + "\n", "files of format mosquitto do not have; these begin with $7$, $6$"},
		"rounds":             {Mosquitto, "pump-7:$7$2000001$c2FsdA==$" + strings.Repeat("A", 86) + "==\n", "at most 2000000"},
		"MD5":                {Htpasswd, "pump-7:$apr1$fq2vEoCQ$q.Er9B6TN.xvb8qMX6joe1\n", "MD5 of Apache ($apr1$) is not supported; supported are"},
		"MD5, and what does": {Htpasswd, "pump-7:$apr1$fq2vEoCQ$q.Er9B6TN.xvb8qMX6joe1\n", "htpasswd -B"},
		"cost":               {Htpasswd, "pump-7:" + strings.Replace(bcrypt, "$04$", "$15$", 1) + "\n", "cost 15, at most 14"},
		"more fields":        {Htpasswd, "pump-7:" + bcrypt + ":x\n", ":1: a bcrypt hash has 60"},
		"mosquitto's":        {GoAuth, good, "files of format goauth do not have"},
		"memory":             {GoAuth, "pump-7:$argon2id$v=19$m=131073,t=3,p=2$c29tZXNhbHQ$AAAAAAAAAAAAAAAAAAAAAA\n", "at most 131072"},
		"another format":     {"apache", good, `unknown format "apache"`},
	} {
		t.Run(name, func(t *testing.T) {
			path := passwdPath(t)
			put(t, path, tc.text)
			_, err := Open(path, Options{Format: tc.format})
			if err == nil || !strings.Contains(err.Error(), tc.want) {
				t.Fatalf("%v; want %q", err, tc.want)
			}
			for _, secret := range []string{"hunter2", "pump-7", "mNh1CP47", "fq2vEoCQ"} {
				if strings.Contains(strings.ReplaceAll(err.Error(), path, ""), secret) {
					t.Errorf("the error repeats %q: %v", secret, err)
				}
			}
		})
	}
}

func TestManyFaultsAreCutOff(t *testing.T) {
	path := passwdPath(t)
	put(t, path, strings.Repeat("x\n", 1000))
	_, err := Open(path, Options{Format: Mosquitto})
	broken, ok := errors.AsType[*FormatError](err)
	if !ok || len(broken.Faults) != maxFaults || !strings.Contains(err.Error(), "there may be more") {
		t.Error(err)
	}
}

func TestMissingOrIrregularFile(t *testing.T) {
	if _, err := Open(passwdPath(t), Options{Format: Mosquitto}); !errors.Is(err, os.ErrNotExist) {
		t.Error(err)
	}
	if _, err := Open(t.TempDir(), Options{Format: Mosquitto}); err == nil {
		t.Error("a directory is a password file")
	}
}

func TestWindowsLineEnds(t *testing.T) {
	path := passwdPath(t)
	put(t, path, strings.ReplaceAll(line("a", of("a"))+"\n"+line("b", of("b")), "\n", "\r\n"))
	f := mustOpen(t, path, Options{})
	if _, err := f.Authorize(t.Context(), login("b", of("b"))); err != nil {
		t.Error(err)
	}
}

// FuzzParse: no content causes a panic, and each line of an accepted file has a user.
func FuzzParse(f *testing.F) {
	f.Add("mosquitto", "# x\n\n"+line("a", "b")+line("c", "d"))
	f.Add("htpasswd", "u:$2y$04$mNh1CP47W4hkLTwhmEg1nOt21Kf0sctMV.KMI7s1Kz3YQw8UqXpCa\r\n")
	f.Add("goauth", "u:PBKDF2$sha512$1000$saltsalt$EHLBej+uEvxlmr0QnHnceg1vM6h1wbwSP5XErh3Smiw=\n")
	f.Add("goauth", "u:$argon2id$v=19$m=4096,t=3,p=2$c29tZXNhbHRzb21lc2FsdA$0vhImacNnpVu8RDXBtG0LHWkJQI88fyR6Q5wR3SV2fI")
	f.Fuzz(func(t *testing.T, format, content string) {
		snap, err := parse(Format(format), []byte(content))
		if err != nil {
			if broken, ok := errors.AsType[*FormatError](err); ok && (len(broken.Faults) == 0 || len(broken.Faults) > maxFaults) {
				t.Errorf("%d faults", len(broken.Faults))
			}
			return
		}
		lines := 0
		for text := range strings.Lines(content) {
			if text = strings.TrimSpace(text); text != "" && text[0] != '#' {
				lines++
			}
		}
		if len(snap.users) > lines {
			t.Errorf("%d users in %d lines", len(snap.users), lines)
		}
		for user, e := range snap.users {
			if user == "" || len(user) > maxUser || e.user != user || len(e.id()) > maxID || strings.Contains(user, ":") {
				t.Errorf("user %q", user)
			}
		}
	})
}
