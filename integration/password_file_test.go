//go:build integration && linux

package integration

import (
	"crypto/rand"
	"fmt"
	"io"
	"net"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/authz"
	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/authz/passwdfile"
	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/integration/harness"
	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/packets"
	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/packets/packetstest"
)

// passwords are a password file and the passwords in it.
type passwords struct {
	t    testing.TB
	file string
	of   map[string]string
}

// add adds a user with a password of its own, or gives it another one, with the program that
// the file belongs to.
func (p *passwords) add(user string, program ...string) {
	p.t.Helper()
	p.of[user] = rand.Text()
	if r := harness.Run(p.t, append(program, p.file, user, p.of[user])...); r.Status != 0 {
		p.t.Fatalf("%v: %s", program, r.Output())
	}
}

func (p *passwords) connect(user string) *packets.Connect {
	c := packetstest.Identity(4, "id-of-"+user, user)
	c.HasPassword, c.Password = true, p.of[user]
	return c
}

// TestMosquittoPasswordFile: a file that mosquitto_passwd has written is read without conversion.
// Its devices connect with their passwords, and others with tokens. A wrong password is refused,
// and a user who is removed from the file loses the session.
func TestMosquittoPasswordFile(t *testing.T) {
	t.Parallel()
	tool := harness.Need(t, "mosquitto_passwd")
	users := passwords{t, filepath.Join(t.TempDir(), "passwd"), map[string]string{}}
	users.add("pump-7", tool, "-c", "-b")
	users.add("pump-8", tool, "-b")
	users.add("pump-9", tool, "-H", "sha512", "-b")
	m := harness.StartMosquitto(t)
	p := harness.NewProxy(t, m.Upstream()+"auth: {sources: [{passwd: {path: '"+users.file+"'}}, {file: {path: tokens.jsonl}}]}\n")
	for _, password := range users.of {
		p.AddSecret(password)
		p.AddSecret(authz.NewToken(password).Fingerprint())
	}
	token := p.Token("valve-1")
	p.Start()

	behind := harness.Subscribe(t, append(m.ClientArgs(), "-t", "from/#", "-C", "4")...)
	for _, user := range []string{"pump-7", "pump-8", "pump-9"} {
		harness.Publish(t, append(p.ClientArgs(user), "-P", users.of[user], "-q", "1", "-t", "from/"+user, "-m", "x")...)
	}
	harness.Publish(t, append(p.ClientArgs(token), "-q", "1", "-t", "from/valve-1", "-m", "x")...)
	if n := len(behind.Messages(4)); n != 4 {
		t.Errorf("%d messages", n)
	}
	wrong := rand.Text()
	p.AddSecret(wrong)
	p.AddSecret(authz.NewToken(wrong).Fingerprint())
	for user, reason := range map[string]string{"pump-7": "wrong_password", "pump-1": "unknown_token"} {
		if r := harness.MosquittoPub(t, append(p.ClientArgs(user), "-P", wrong, "-t", "a", "-m", "b")...); r.Status != 5 {
			t.Errorf("%s with a wrong password: status %d\n%s", user, r.Status, r.Output())
		}
		p.AwaitLog("refused "+user, func(l harness.LogLine) bool { return l.String("reason") == reason })
	}

	gone := packetstest.Connect(t, packetstest.Dial(t, p.Plain), users.connect("pump-8"))
	changed := packetstest.Connect(t, packetstest.Dial(t, p.Plain), users.connect("pump-9"))
	stays := packetstest.Connect(t, packetstest.Dial(t, p.Plain), users.connect("pump-7"))
	old := users.connect("pump-9")
	if r := harness.Run(t, tool, "-D", users.file, "pump-8"); r.Status != 0 {
		t.Fatal(r.Output())
	}
	users.add("pump-9", tool, "-b")
	p.AddSecret(users.of["pump-9"])
	begun := time.Now()
	for name, c := range map[string]*packetstest.Client{"removed": gone, "changed": changed} {
		if _, err := io.ReadAll(c); err != nil {
			t.Errorf("the session of a user who was %s: %v", name, err)
		}
	}
	if took := time.Since(begun); took > harness.WithdrawalLimit+harness.Slack {
		t.Errorf("the sessions ended after %v", took)
	}
	if err := stays.Publish("a", "b"); err != nil {
		t.Errorf("the session of another user: %v", err)
	}
	for name, tc := range map[string]struct {
		connect *packets.Connect
		want    packets.ReasonCode
	}{
		"removed":               {users.connect("pump-8"), packets.RefusedNotAuthorized},
		"with the old password": {old, packets.RefusedNotAuthorized},
		"with the new password": {users.connect("pump-9"), packets.Success},
	} {
		if _, ack := packetstest.Present(t, packetstest.Dial(t, p.Plain), tc.connect); ack.Code != tc.want {
			t.Errorf("%s: CONNACK %v", name, ack.Code)
		}
	}
}

// TestBadPasswordFile: a hash that is not supported keeps the program from starting, and
// check and log name the line; later it changes nothing.
func TestBadPasswordFile(t *testing.T) {
	t.Parallel()
	tool := harness.Need(t, "htpasswd")
	users := passwords{t, filepath.Join(t.TempDir(), "htpasswd"), map[string]string{}}
	users.add("pump-7", tool, "-c", "-b", "-B")
	p := harness.NewProxy(t, harness.StartSink(t).Upstream()+"auth: {sources: [{passwd: {path: '"+users.file+"', format: htpasswd}}]}\n")
	good := harness.ReadFile(t, users.file)
	users.add("pump-8", tool, "-b", "-m")
	want := users.file + ":2: MD5 of Apache ($apr1$) is not supported"
	if r := harness.Run(t, harness.Binary(), "check", "--config", p.Config); r.Status == 0 || !strings.Contains(r.Output(), want) {
		t.Errorf("check: status %d\n%s", r.Status, r.Output())
	}
	bad := harness.ReadFile(t, users.file)
	harness.WriteFile(t, users.file, good)
	p.Start()
	live := packetstest.Connect(t, packetstest.Dial(t, p.Plain), users.connect("pump-7"))
	harness.WriteFile(t, users.file, bad)
	p.AwaitLog("rejected file", func(l harness.LogLine) bool { return strings.Contains(l.String("error"), want) })
	if err := live.Publish("a", "b"); err != nil {
		t.Error(err)
	}
	packetstest.Connect(t, packetstest.Dial(t, p.Plain), users.connect("pump-7"))
}

// TestFloodOfPasswords: wrong passwords from many addresses, each of which would cost a slow hash,
// keep no known device from connecting, and few hashes are computed for them.
func TestFloodOfPasswords(t *testing.T) {
	tool := harness.Need(t, "htpasswd")
	const devices, addresses = 20, 40
	users := passwords{t, filepath.Join(t.TempDir(), "htpasswd"), map[string]string{}}
	var connects []*packets.Connect
	for i := range devices {
		user := fmt.Sprintf("pump-%d", i)
		create := "-b"
		if i == 0 {
			create = "-cb"
		}
		users.add(user, tool, create, "-B", "-C", "10")
		connects = append(connects, users.connect(user))
	}
	p := harness.NewProxy(t, harness.StartSink(t).Upstream()+"auth: {sources: [{passwd: {path: '"+users.file+"', format: htpasswd}}]}\n")
	p.Start()
	known := fleetClients{t: t, proxy: p, from: "127.0.0.1", atOnce: 1}
	closeAll(known.mustConnectAll(connects))
	harness.Eventually(t, "one hash for each device", func() bool {
		return harness.Metric(t, p, "mqtt_auth_proxy_password_hashes_total") == devices
	})

	var attackers sync.WaitGroup
	var over atomic.Bool
	var denied, busy, let atomic.Int64
	for i := range addresses {
		attackers.Go(func() {
			from := fleetClients{t: t, proxy: p, from: net.IPv4(127, 0, 1, byte(i+2)).String()}
			for n := 0; !over.Load(); n++ {
				c := users.connect(fmt.Sprintf("pump-%d", n%devices))
				c.Level, c.Password = 5, rand.Text()
				switch a := from.connect(c); {
				case a.err == nil && a.code == packets.Success:
					let.Add(1)
				case a.err == nil && a.code == packets.BadUserNameOrPassword:
					denied.Add(1)
				default:
					busy.Add(1)
					closeAll([]fleetConnection{a})
				}
			}
		})
	}
	harness.Eventually(t, "a flood", func() bool { return denied.Load() > 20 })
	for range 20 {
		for _, a := range known.connectAll(connects) {
			if a.err != nil || a.code != packets.Success {
				t.Errorf("a known device in the flood: %v, %v", a.code, a.err)
			}
			closeAll([]fleetConnection{a})
		}
	}
	over.Store(true)
	attackers.Wait()
	hashes := int64(harness.Metric(t, p, "mqtt_auth_proxy_password_hashes_total"))
	t.Logf("%d wrong passwords were denied and %d put off, with %d hashes", denied.Load(), busy.Load(), hashes-devices)
	if let.Load() != 0 || hashes < devices+denied.Load() {
		t.Errorf("%d wrong passwords are accepted, %d hashes for %d denials", let.Load(), hashes-devices, denied.Load())
	}
	if denials := int64(harness.Metric(t, p, "mqtt_auth_proxy_cache_hits_total{source=\"passwd0\",store=\"positive\"}")); denials < 20*devices {
		t.Errorf("%d answers from the cache for %d known devices", denials, 20*devices)
	}
}

// TestPasswordInTheTokenFile: the token commands also manage devices that have a password.
func TestPasswordInTheTokenFile(t *testing.T) {
	t.Parallel()
	p := harness.NewProxy(t, harness.StartSink(t).Upstream())
	token := p.Token("valve-1")
	file, password, next := filepath.Join(t.TempDir(), "password"), rand.Text(), rand.Text()
	p.AddSecret(password)
	p.AddSecret(next)
	harness.WriteFile(t, file, password+"\n")
	if r := p.TokenCommand("create", "pump-7", "--username", "u7", "--password-file", file); r.Status != 0 || !strings.HasPrefix(r.Stdout, "pump-7-") {
		t.Fatalf("status %d\n%s", r.Status, r.Output())
	}
	if r := p.TokenCommand("create", "pump-7", "--another", "--username", "u7", "--password-file", file); r.Status == 0 || !strings.Contains(r.Output(), "already, as pump-7-") {
		t.Errorf("the same user name again: status %d\n%s", r.Status, r.Output())
	}
	if r := p.TokenCommand("list"); !strings.Contains(r.Stdout, "password") {
		t.Errorf("list: %s", r.Output())
	}
	p.Start()
	p.Connect(t, 4, "valve", token)
	connect := packetstest.Identity(4, "pump", "u7")
	connect.HasPassword, connect.Password = true, password
	live := packetstest.Connect(t, packetstest.Dial(t, p.Plain), connect)
	harness.WriteFile(t, file, next)
	if r := p.TokenCommand("rotate", "pump-7", "--password-file", file); r.Status != 0 {
		t.Fatalf("status %d\n%s", r.Status, r.Output())
	}
	if _, err := io.ReadAll(live); err != nil {
		t.Errorf("the session with the old password: %v", err)
	}
	if _, ack := packetstest.Present(t, packetstest.Dial(t, p.Plain), connect); ack.Code != packets.RefusedNotAuthorized {
		t.Errorf("the old password: %v", ack.Code)
	}
	connect.Password = next
	packetstest.Connect(t, packetstest.Dial(t, p.Plain), connect)
}

// hashing is a Python program that writes lines of a password file with hashlib.
const hashing = `
import base64, hashlib, os, sys
b = lambda x: base64.b64encode(x).decode()
for i, line in enumerate(map(os.fsencode, sys.argv[1:])):
    salt, rounds = os.urandom(12 + i), 1 + 100 * i
    name = ("sha512", "sha256")[i % 2]
    digest = hashlib.pbkdf2_hmac(name, line, salt, rounds, (64, 32)[i % 2])
    print("user-%d:PBKDF2$%s$%d$%s$%s" % (i, name, rounds, b(salt), b(digest)))
`

// TestHashesOfRealPrograms: the hashes that mosquitto_passwd, htpasswd and hashlib make of
// passwords of every kind match those passwords and no others.
func TestHashesOfRealPrograms(t *testing.T) {
	t.Parallel()
	passwords := []string{"plain", "with blanks in it", " at the ends ", "$7$101$not-a-hash", "p:w", "#", "ünïcödé", "日本語のパスワード", strings.Repeat("long", 17), "'\"\\%s%n"}
	mosquitto, apache, python := harness.Need(t, "mosquitto_passwd"), harness.Need(t, "htpasswd"), harness.Need(t, "python3")
	for format, write := range map[passwdfile.Format]func(file string){
		passwdfile.Mosquitto: func(file string) {
			harness.WriteFile(t, file, "")
			for i, p := range passwords {
				hash := []string{"sha512-pbkdf2", "sha512"}[i%2]
				if r := harness.Run(t, mosquitto, "-H", hash, "-b", file, fmt.Sprint("user-", i), p); r.Status != 0 {
					t.Fatal(r.Output())
				}
			}
		},
		passwdfile.Htpasswd: func(file string) {
			harness.WriteFile(t, file, "")
			for i, p := range passwords {
				if r := harness.Run(t, apache, "-b", "-B", "-C", "4", file, fmt.Sprint("user-", i), p); r.Status != 0 {
					t.Fatal(r.Output())
				}
			}
		},
		passwdfile.GoAuth: func(file string) {
			r := harness.Run(t, append([]string{python, "-c", hashing}, passwords...)...)
			if r.Status != 0 {
				t.Fatal(r.Output())
			}
			harness.WriteFile(t, file, r.Stdout)
		},
	} {
		file := filepath.Join(t.TempDir(), string(format))
		write(file)
		f, err := passwdfile.Open(file, passwdfile.Options{Format: format})
		if err != nil {
			t.Errorf("%s: %v", format, err)
			continue
		}
		for i := range passwords {
			for j, p := range passwords {
				r := authz.Request{Pair: authz.Pair{Username: fmt.Sprint("user-", i), Password: authz.NewToken(p)}}
				if _, err := f.Authorize(t.Context(), r); (err == nil) != (i == j) {
					t.Errorf("%s: the user of password %d with password %d: %v", format, i, j, err)
				}
			}
		}
	}
}
