package tokenfile

import (
	"crypto/sha512"
	"encoding/base64"
	"errors"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/authz"
	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/authz/authztest"
	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/authz/passwordhash"
)

// cheapHash returns a password_hash that costs little.
func cheapHash(password string) string {
	salt := []byte("some salt")
	digest := sha512.Sum512(append([]byte(password), salt...))
	return "$6$" + base64.StdEncoding.EncodeToString(salt) + "$" + base64.StdEncoding.EncodeToString(digest[:])
}

// userLine is an entry with a user name and a password.
func userLine(id, user, password string, more ...string) string {
	fields := append([]string{fmt.Sprintf(`{"id":%q,"username":%q,"password_hash":%q`, id, user, cheapHash(password))}, more...)
	return strings.Join(fields, ",") + "}\n"
}

func login(user, password string) authz.Request {
	return authz.Request{Pair: authz.Pair{ClientID: "client", Username: user, Password: authz.NewToken(password)}}
}

func openUsers(t testing.TB, lines ...string) (*File, *Users) {
	t.Helper()
	path := tokenPath(t)
	put(t, path, lines...)
	f := mustOpen(t, path, Options{Interval: time.Millisecond})
	return f, f.Users(passwordhash.NewWorkers(0))
}

func TestUsersConformance(t *testing.T) {
	authztest.Run(t, authztest.Suite{
		NamesDevices: true,
		New: func(tb testing.TB) authztest.Fixture {
			f, u := openUsers(tb,
				userLine("good-1", "pump-7", "a-good-password"),
				userLine("off-1", "off", "a-good-password", `"disabled":true`),
				userLine("old-1", "old", "a-good-password", `"expire_at":1700000000`),
				userLine("bound-1", "bound", "a-good-password", `"clientid":"another"`),
				line("token"),
			)
			return authztest.Fixture{Authorizer: u, Revoke: func() { swap(tb, f.path, line("token")) }}
		},
		Good:    login("pump-7", "a-good-password"),
		Unknown: login("pump-8", "a-good-password"),
		Denied: map[authz.Reason]authz.Request{
			authz.WrongPassword: login("pump-7", "a-wrong-password"),
			authz.Disabled:      login("off", "a-good-password"),
			authz.Expired:       login("old", "a-good-password"),
			authz.WrongClientID: login("bound", "a-good-password"),
		},
	})
}

// TestUserAnswerIsForEveryDevice: the answer about a pair does not depend on the client id, so
// that devices that share it in a cache get what they would get alone.
func TestUserAnswerIsForEveryDevice(t *testing.T) {
	_, u := openUsers(t, userLine("a-1", "a", "the-password-of-a", `"clientid":"right"`))
	for id, want := range map[string]authz.Reason{"right": "", "wrong": authz.WrongClientID} {
		r := login("a", "the-password-of-a")
		r.Pair.ClientID = id
		g, err := u.Authorize(t.Context(), r)
		if err != nil {
			t.Fatalf("client id %s: %v", id, err)
		}
		if got := reasonOf(g.Check(r, time.Now())); got != want {
			t.Errorf("client id %s: %q, want %q", id, got, want)
		}
	}
}

// TestUserIsNoToken: neither a password nor what the file stores lets anyone in as a token, and
// no token as a password.
func TestUserIsNoToken(t *testing.T) {
	f, u := openUsers(t, userLine("a-1", "a", "the-password-of-a"), line("b"))
	if !f.HasUsers() || authz.Takes(f) != authz.Tokens || authz.Takes(u) != authz.Pairs {
		t.Error("the file does not say what it has")
	}
	for _, token := range []string{"a", "the-password-of-a", cheapHash("the-password-of-a"), "pair\x00a\x00", "pair\x00a\x00" + cheapHash("the-password-of-a"), ""} {
		if _, err := f.Authorize(t.Context(), authz.Request{Token: authz.NewToken(token)}); !errors.Is(err, authz.ErrUnknown) {
			t.Errorf("token %q: %v", token, err)
		}
	}
	if _, err := u.Authorize(t.Context(), login("b", "token-of-b")); !errors.Is(err, authz.ErrUnknown) {
		t.Errorf("a token as a password: %v", err)
	}
}

// TestUserGrant has what other entries have too, and the user name as subject.
func TestUserGrant(t *testing.T) {
	_, u := openUsers(t,
		userLine("a-1", "a", "the-password-of-a", `"client_attrs":{"site":"north"}`, `"upstream":{"username":"u"}`),
		userLine("b-1", "b", "the-password-of-a", `"subject":"pump-b"`))
	for user, subject := range map[string]string{"a": "a", "b": "pump-b"} {
		g, err := u.Authorize(t.Context(), login(user, "the-password-of-a"))
		if err != nil || g.Subject != subject || g.TokenID != user+"-1" || g.PairHash != authz.PairHash(user, cheapHash("the-password-of-a")) {
			t.Errorf("%s: %+v, %v", user, g, err)
		}
		if user == "a" && (g.Attrs["site"] != "north" || g.Upstream.Username != "u") {
			t.Errorf("%+v", g)
		}
	}
}

func TestUserLinesRefused(t *testing.T) {
	hash := cheapHash("a-password")
	for name, tc := range map[string]struct{ text, want string }{
		"both":         {fmt.Sprintf(`{"id":"a","username":"a","password_hash":%q,"token_hash":%q}`, hash, "sha256:"+strings.Repeat("ab", 32)), "password_hash: is next to token_hash"},
		"neither":      {`{"id":"a","username":"a"}`, "token_hash: is missing"},
		"no user name": {fmt.Sprintf(`{"id":"a","password_hash":%q}`, hash), "username: an entry with password_hash needs one user name"},
		"two":          {fmt.Sprintf(`{"id":"a","username":["a","b"],"password_hash":%q}`, hash), "username: an entry"},
		"pattern":      {fmt.Sprintf(`{"id":"a","username":"a*","password_hash":%q}`, hash), "username: an entry"},
		"long":         {fmt.Sprintf(`{"id":"a","username":%q,"password_hash":%q}`, strings.Repeat("u", 257), hash), "username: more than 256 bytes"},
		"plain":        {`{"id":"a","username":"a","password_hash":"hunter2hunter2"}`, "password_hash: not a hash of a known form"},
		"cost":         {`{"id":"a","username":"a","password_hash":"$2y$15$abcdefghijklmnopqrstuujydOTSfIH/d5oUHpsygqV5X9xJLQc6e"}`, "bcrypt with cost 15"},
		"number":       {`{"id":"a","username":"a","password_hash":7}`, "password_hash: want a string"},
		"twice":        {userLine("a", "u", "x") + userLine("b", "u", "y"), ":2: username: the same user name as in line 1"},
	} {
		t.Run(name, func(t *testing.T) {
			path := tokenPath(t)
			put(t, path, tc.text+"\n")
			if _, err := Open(path, Options{}); err == nil || !strings.Contains(err.Error(), tc.want) || strings.Contains(err.Error(), "hunter2") {
				t.Errorf("%v; want %q", err, tc.want)
			}
		})
	}
}

// TestUserChanges: another password ends the sessions, other rights do not.
func TestUserChanges(t *testing.T) {
	watchFile(t, []string{userLine("a-1", "a", "first"), userLine("b-1", "b", "first"), userLine("c-1", "c", "first")}, func(t *testing.T, w *watched) {
		before, _ := w.Users(passwordhash.NewWorkers(1)).Authorize(t.Context(), login("b", "first"))
		put(t, w.path, userLine("a-1", "a", "second"), userLine("b-1", "b", "first", `"comment":"x"`), line("d"))
		w.want(t, time.Second, "a-1", "c-1")
		after, err := w.Users(passwordhash.NewWorkers(1)).Authorize(t.Context(), login("b", "first"))
		if after != before || err != nil {
			t.Error("the grant of an entry that is the same is another one")
		}
		if known, good := w.Confirms(before.PairHash, before); !known || !good {
			t.Error("the session of b is not confirmed")
		}
		old := *before
		old.TokenID, old.Subject, old.PairHash = "a-1", "a", authz.PairHash("a", cheapHash("first"))
		if known, _ := w.Confirms(old.PairHash, &old); known {
			t.Error("a session with the old password is known")
		}
		put(t, w.path, line("d"))
		w.want(t, time.Second, "a-1", "b-1")
		if w.HasUsers() {
			t.Error("the file has no users any more")
		}
	})
}

// TestCreateUser: the file gets a hash, which fits the password, and never the password.
func TestCreateUser(t *testing.T) {
	path := tokenPath(t)
	o := CreateOptions{Name: "pump-7", Username: "u7", Password: authz.NewToken("correct horse")}
	made, err := Create(path, o)
	if err != nil || !made.Token.IsZero() || made.Username != "u7" || made.ID == "" {
		t.Fatalf("%+v, %v", made, err)
	}
	content, err := os.ReadFile(path)
	if err != nil || strings.Contains(string(content), "correct horse") || !strings.Contains(string(content), `"password_hash":"$7$210000$`) {
		t.Errorf("%s, %v", content, err)
	}
	f := mustOpen(t, path, Options{})
	u := f.Users(passwordhash.NewWorkers(0))
	if g, err := u.Authorize(t.Context(), login("u7", "correct horse")); err != nil || g.Subject != "pump-7" || g.TokenID != made.ID {
		t.Errorf("%+v, %v", g, err)
	}
	if _, err := Create(path, o); err == nil || !strings.Contains(err.Error(), "already, as "+made.ID) {
		t.Errorf("the same user name again: %v", err)
	}
	entries, err := Show(path, "pump-7")
	if err != nil || len(entries) != 1 || !entries[0].Password || entries[0].Only.Usernames[0] != "u7" {
		t.Errorf("%+v, %v", entries, err)
	}
	if _, err := Rotate(path, "pump-7", 0); err == nil || errors.Is(err, ErrNotFound) {
		t.Errorf("Rotate: %v", err)
	}
	if id, err := setPassword(path, "pump-7", authz.NewToken("another horse")); err != nil || id != made.ID {
		t.Errorf("SetPassword: %q, %v", id, err)
	}
	if err := f.Reload(t.Context()); err != nil {
		t.Fatal(err)
	}
	if _, err := u.Authorize(t.Context(), login("u7", "correct horse")); reasonOf(err) != authz.WrongPassword {
		t.Errorf("the old password: %v", err)
	}
	if _, err := u.Authorize(t.Context(), login("u7", "another horse")); err != nil {
		t.Errorf("the new password: %v", err)
	}
	// A token of the same device is exchanged alone.
	if _, err := Create(path, CreateOptions{Name: "pump-7"}); err != nil {
		t.Fatal(err)
	}
	if _, err := Rotate(path, "pump-7", 0); err != nil {
		t.Error(err)
	}
	if entries, err := Show(path, "pump-7"); err != nil || len(entries) != 2 {
		t.Errorf("%+v, %v", entries, err)
	}
}

func TestCreateUserRefuses(t *testing.T) {
	path := tokenPath(t)
	password := authz.NewToken("correct horse")
	for name, o := range map[string]CreateOptions{
		"no password":     {Username: "u"},
		"no user name":    {Password: password},
		"token too":       {Username: "u", Password: password, Token: authz.NewToken("a-token-of-its-own")},
		"pattern":         {Username: "u*", Password: password},
		"control":         {Username: "u\n", Password: password},
		"short password":  {Username: "u", Password: authz.NewToken("short")},
		"broken password": {Username: "u", Password: authz.NewToken("a line end\n")},
	} {
		o.Name = "pump-7"
		if _, err := Create(path, o); err == nil || strings.Contains(err.Error(), "correct horse") {
			t.Errorf("%s: %v", name, err)
		}
	}
	put(t, path, line("a"), userLine("b-1", "b1", "x", `"subject":"b"`), userLine("b-2", "b2", "x", `"subject":"b"`))
	for name, who := range map[string]string{"unknown": "c", "a token": "a", "two of them": "b"} {
		if _, err := setPassword(path, who, password); err == nil {
			t.Errorf("%s gets a password", name)
		}
	}
	if _, err := setPassword(path, "b-2", password); err != nil {
		t.Error(err)
	}
}

func setPassword(path, idOrName string, password authz.Token) (id string, err error) {
	err = Update(path, false, func(e *Edit) (err error) {
		id, err = e.SetPassword(idOrName, password)
		return err
	})
	return id, err
}
