package service

import (
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/crypto/bcrypt"

	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/authz"
	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/authz/tokenfile"
	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/packets"
)

// htpasswd writes a file of users, each with the password "password-of-" and its name.
func htpasswd(t *testing.T, users ...string) (path string) {
	t.Helper()
	var text strings.Builder
	for _, u := range users {
		hash, err := bcrypt.GenerateFromPassword([]byte("password-of-"+u), bcrypt.MinCost)
		if err != nil {
			t.Fatal(err)
		}
		fmt.Fprintf(&text, "%s:%s\n", u, hash)
	}
	path = filepath.Join(t.TempDir(), "htpasswd")
	if err := os.WriteFile(path, []byte(text.String()), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func codeOfUser(t *testing.T, s *Service, user, password string) packets.ReasonCode {
	t.Helper()
	nc, ack := login(t, s, packets.Connect{Level: 5, CleanStart: true, HasUsername: true, Username: user, HasPassword: true, Password: password})
	nc.Close()
	return ack.Code
}

// TestReconnectsComputeNoHash: 20,000 devices whose passwords are in the cache come back, and
// no hash is computed, not for a recheck either. A wrong password costs one while its answer is kept.
func TestReconnectsComputeNoHash(t *testing.T) {
	const users, rounds = 100, 200
	var names []string
	for i := range users {
		names = append(names, fmt.Sprint("pump-", i))
	}
	s, _ := startService(t, bundledConfig+"auth: {cache: {ttl: 1h, negative_ttl: 1m}, sources: [{passwd: {path: "+htpasswd(t, names...)+", format: htpasswd}}]}\n")
	ask := func(user, password string, purpose authz.Purpose) error {
		_, err := currentSources{s}.Authorize(t.Context(), authz.Request{
			Token: authz.NewToken(user), Purpose: purpose,
			Pair: authz.Pair{Username: user, Password: authz.NewToken(password)},
		})
		return err
	}
	for round := range rounds + 1 {
		for _, u := range names {
			purpose := authz.Connect
			if round%2 == 0 && round > 0 {
				purpose = authz.Recheck
			}
			if err := ask(u, "password-of-"+u, purpose); err != nil {
				t.Fatal(err)
			}
		}
	}
	if n := s.workers.Stats().Hashes; n != users {
		t.Errorf("%d hashes for %d users who came %d times each", n, users, rounds+1)
	}
	for range 50 {
		if err := ask("pump-1", "wrong-password", authz.Connect); err == nil {
			t.Fatal("a wrong password is good")
		}
	}
	if n := s.workers.Stats().Hashes; n != users+1 {
		t.Errorf("%d hashes for one wrong password", n-users)
	}
	if status, body := get(t, s, "/metrics"); status != 200 || !strings.Contains(body, fmt.Sprintf("mqtt_auth_proxy_password_hashes_total %d", users+1)) {
		t.Error("the counter is not in the metrics")
	}
}

// TestPairsNextToTokens: one configuration has both, and each device gets in by what it has.
func TestPairsNextToTokens(t *testing.T) {
	tokens := filepath.Join(t.TempDir(), "tokens.jsonl")
	made, err := tokenfile.Create(tokens, tokenfile.CreateOptions{Name: "valve-1"})
	if err != nil {
		t.Fatal(err)
	}
	for _, from := range []string{"username", "password"} {
		for _, order := range []string{"{file: {path: %s}}, {passwd: {path: %s, format: htpasswd}}", "{passwd: {path: %[2]s, format: htpasswd}}, {file: {path: %[1]s}}"} {
			t.Run(from, func(t *testing.T) {
				s, log := startService(t, bundledConfig+"token: {from: ["+from+"]}\nauth: {sources: ["+fmt.Sprintf(order, tokens, htpasswd(t, "pump-7"))+"]}\n")
				user, password := made.Token.Reveal(), ""
				if from == "password" {
					user, password = "any", made.Token.Reveal()
				}
				for _, tc := range []struct {
					user, password string
					want           packets.ReasonCode
				}{
					{user, password, packets.Success},
					{"pump-7", "password-of-pump-7", packets.Success},
					{"pump-7", "a-wrong-password", packets.BadUserNameOrPassword},
					{"pump-8", "password-of-pump-7", packets.BadUserNameOrPassword},
				} {
					if code := codeOfUser(t, s, tc.user, tc.password); code != tc.want {
						t.Errorf("%s gets %v", tc.user, code)
					}
				}
				await(t, "the reason wrong_password in the log", func() bool { return strings.Contains(log.String(), `"reason":"wrong_password"`) })
				for _, secret := range []string{"password-of-pump-7", "a-wrong-password", authz.NewToken("a-wrong-password").Fingerprint(), authz.NewToken("password-of-pump-7").Fingerprint()} {
					if strings.Contains(log.String(), secret) {
						t.Errorf("the log has %s", secret)
					}
				}
			})
		}
	}
}

// TestPasswordFileIsReloaded: what was removed or changed ends its sessions, others go on; a
// bad version changes nothing and is shown.
func TestPasswordFileIsReloaded(t *testing.T) {
	path := htpasswd(t, "pump-7", "pump-8")
	s, _ := startService(t, bundledConfig+"auth: {sources: [{passwd: {path: "+path+", format: htpasswd}}]}\n")
	connect := func(user string) packets.Connect {
		return packets.Connect{Level: 5, CleanStart: true, ClientID: user, HasUsername: true, Username: user, HasPassword: true, Password: "password-of-" + user}
	}
	gone, _ := login(t, s, connect("pump-7"))
	stays, _ := login(t, s, connect("pump-8"))
	content, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte("pump-8:$apr1$x$y\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := reload(t, s); err == nil || !strings.Contains(err.Error(), path+":1: MD5 of Apache") {
		t.Errorf("a reload with a bad file: %v", err)
	}
	if _, body := get(t, s, "/v1/status"); !strings.Contains(body, `"password_files"`) || !strings.Contains(body, "MD5 of Apache") {
		t.Errorf("the status: %s", body)
	}
	if !alive(t, gone) || !alive(t, stays) {
		t.Fatal("a bad file ends sessions")
	}
	_, rest, _ := strings.Cut(string(content), "\n")
	if err := os.WriteFile(path, []byte(rest), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := reload(t, s); err != nil {
		t.Fatal(err)
	}
	awaitEnd(t, gone)
	if !alive(t, stays) {
		t.Error("the session of another user has ended")
	}
}

// TestOtherPasswordFileIsConfirmed: with another file in the configuration, the sessions of
// users with the same hash go on, and all others end.
func TestOtherPasswordFileIsConfirmed(t *testing.T) {
	path := htpasswd(t, "pump-7", "pump-8")
	config := bundledConfig + "auth: {sources: [{passwd: {path: %s, format: htpasswd}}]}\n"
	s, _ := startService(t, fmt.Sprintf(config, path))
	connect := func(user string) packets.Connect {
		return packets.Connect{Level: 5, CleanStart: true, ClientID: user, HasUsername: true, Username: user, HasPassword: true, Password: "password-of-" + user}
	}
	gone, _ := login(t, s, connect("pump-7"))
	stays, _ := login(t, s, connect("pump-8"))
	content, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(content), "\n")
	other := htpasswd(t, "pump-7") // the same password, another salt
	if more, err := os.ReadFile(other); err != nil || os.WriteFile(other, []byte(string(more)+rest), 0o600) != nil {
		t.Fatal(err)
	}
	edit(t, s, fmt.Sprintf(config, other))
	if err := reload(t, s); err != nil {
		t.Fatal(err)
	}
	awaitEnd(t, gone)
	if !alive(t, stays) {
		t.Error("the session of a user with the same hash has ended")
	}
}

// TestFloodOfWrongPasswordsLeavesRoom: while they wait for the workers, a known device
// comes in without waiting.
func TestFloodOfWrongPasswordsLeavesRoom(t *testing.T) {
	path := filepath.Join(t.TempDir(), "passwd")
	hash, err := bcrypt.GenerateFromPassword([]byte("password-of-pump-7"), 10)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, fmt.Appendf(nil, "pump-7:%s\n", hash), 0o600); err != nil {
		t.Fatal(err)
	}
	s, _ := startService(t, bundledConfig+"auth: {guard: {exempt: [127.0.0.0/8]}, sources: [{passwd: {path: "+path+", format: htpasswd}}]}\n")
	source, ok := find[*passwdSource](s.current.Load().sources.list[0].source)
	if !ok {
		t.Fatal("no password file among the sources")
	}
	known := authz.Request{Pair: authz.Pair{Username: "pump-7", Password: authz.NewToken("password-of-pump-7")}}
	if _, err := (currentSources{s}).Authorize(t.Context(), known); err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 200)
	for i := range cap(done) {
		go func() {
			r := known
			r.Pair.Password = authz.NewToken(fmt.Sprint("wrong-", i))
			_, err := currentSources{s}.Authorize(t.Context(), r)
			done <- err
		}()
	}
	for source.answers.Stats().InFlight == 0 {
		<-time.After(time.Millisecond)
	}
	if st := source.answers.Stats(); st.InFlight > max(1, s.workers.Size()/2) {
		t.Errorf("%d of %d workers check passwords that were never good", st.InFlight, s.workers.Size())
	}
	before := source.answers.Stats().Positive.Hits
	if _, err := (currentSources{s}).Authorize(t.Context(), known); err != nil {
		t.Errorf("the known device in the flood: %v", err)
	}
	if hits := source.answers.Stats().Positive.Hits; hits != before+1 {
		t.Errorf("the known device was not answered from the cache: %d hits", hits-before)
	}
	for range cap(done) {
		if <-done == nil {
			t.Error("a wrong password is good")
		}
	}
}

// awaitEnd waits for the end of a session.
func awaitEnd(t *testing.T, nc io.Reader) {
	t.Helper()
	if _, err := io.ReadAll(nc); err != nil {
		t.Errorf("the session goes on: %v", err)
	}
}

// TestUsersOfATokenFile: entries with a user name and a password are behind a cache that notices
// every change of the file, and a file without any looks at tokens alone.
func TestUsersOfATokenFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "tokens.jsonl")
	if _, err := tokenfile.Create(path, tokenfile.CreateOptions{Name: "valve-1"}); err != nil {
		t.Fatal(err)
	}
	s, _ := startService(t, bundledConfig+"auth: {sources: [{file: {path: "+path+"}}]}\n")
	in := currentSources{s}
	if in.Takes() != authz.Tokens {
		t.Error("pairs are looked at without any in the file")
	}
	made, err := tokenfile.Create(path, tokenfile.CreateOptions{Name: "pump-7", Username: "u7", Password: authz.NewToken("correct horse")})
	if err != nil {
		t.Fatal(err)
	}
	if err := reload(t, s); err != nil || in.Takes() != authz.Tokens|authz.Pairs {
		t.Fatalf("%v; the file takes %v", err, in.Takes())
	}
	connect := packets.Connect{Level: 5, CleanStart: true, ClientID: "c", HasUsername: true, Username: "u7", HasPassword: true, Password: "correct horse"}
	live, ack := login(t, s, connect)
	if ack.Code != packets.Success {
		t.Fatal(ack.Code)
	}
	ask := func() *authz.Grant {
		t.Helper()
		g, err := in.Authorize(t.Context(), authz.Request{Pair: authz.Pair{Username: "u7", Password: authz.NewToken("correct horse")}})
		if err != nil {
			t.Fatal(err)
		}
		return g
	}
	for range 100 {
		ask()
	}
	if n := s.workers.Stats().Hashes; n != 1 {
		t.Errorf("%d hashes for one user", n)
	}
	content, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	other := strings.Replace(string(content), `"username":"u7"`, `"username":"u7","client_attrs":{"site":"north"}`, 1)
	if err := os.WriteFile(path, []byte(other), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := reload(t, s); err != nil {
		t.Fatal(err)
	}
	await(t, "the grant of the new version", func() bool { return ask().Attrs["site"] == "north" })
	if !alive(t, live) {
		t.Error("another attribute has ended the session")
	}
	for c := range s.server.Clients() {
		if c.Grant.Attrs["site"] != "north" || c.Grant.TokenID != made.ID {
			t.Errorf("the session has the grant %+v", c.Grant)
		}
	}
	if _, err := tokenfile.Disable(path, "pump-7"); err != nil {
		t.Fatal(err)
	}
	if err := reload(t, s); err != nil {
		t.Fatal(err)
	}
	awaitEnd(t, live)
	if code := codeOfUser(t, s, "u7", "correct horse"); code != packets.NotAuthorized {
		t.Errorf("a disabled user gets %v", code)
	}
	if code := codeOfUser(t, s, "u7", "wrong-password"); code != packets.BadUserNameOrPassword {
		t.Errorf("a wrong password of a disabled user gets %v", code)
	}
}

// TestPairsAreListedAndDenied: the admin side shows sessions of user names by their subject, and
// a denial of the subject counts for them.
func TestPairsAreListedAndDenied(t *testing.T) {
	s, _ := startService(t, bundledConfig+"auth: {sources: [{passwd: {path: "+htpasswd(t, "pump-7")+", format: htpasswd}}]}\n")
	live, ack := login(t, s, packets.Connect{Level: 5, CleanStart: true, ClientID: "pump-7", HasUsername: true, Username: "pump-7", HasPassword: true, Password: "password-of-pump-7"})
	if ack.Code != packets.Success {
		t.Fatal(ack.Code)
	}
	_, body := get(t, s, "/v1/sessions")
	for _, want := range []string{`"subject":"pump-7"`, `"token_id":"pump-7"`, `"client_id":"pump-7"`} {
		if !strings.Contains(strings.ReplaceAll(body, ": ", ":"), want) {
			t.Errorf("the list of sessions lacks %s: %s", want, body)
		}
	}
	for _, password := range []string{authz.NewToken("password-of-pump-7").Fingerprint(), authz.NewToken("pump-7password-of-pump-7").Fingerprint()} {
		if strings.Contains(body, password) {
			t.Error("the list has a digest of the password")
		}
	}
	if status, answer := call(t, s, http.MethodPost, "/v1/revocations", `{"subject":"pump-7","mode":"deny"}`); status != http.StatusOK || !strings.Contains(answer, `"sessions":1`) {
		t.Errorf("the denial: %d %s", status, answer)
	}
	awaitEnd(t, live)
	if code := codeOfUser(t, s, "pump-7", "password-of-pump-7"); code != packets.NotAuthorized {
		t.Errorf("after the denial: %v", code)
	}
}
