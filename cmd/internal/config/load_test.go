package config

import (
	"errors"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/cmd/internal/config/schema"
)

// write puts a config file, readable by its owner alone, into a new directory.
func write(t testing.TB, text string) Options {
	t.Helper()
	o := Options{WorkDir: t.TempDir(), Path: "proxy.yaml"}
	put(t, filepath.Join(o.WorkDir, o.Path), text, 0o600)
	return o
}

func put(t testing.TB, path, text string, mode os.FileMode) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), mode); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(path, mode); err != nil {
		t.Fatal(err)
	}
}

func load(t testing.TB, o Options) *Config {
	t.Helper()
	c, err := Load(o)
	if err != nil {
		t.Fatalf("Load: %v", err)
	}
	return c
}

// reasons returns the faults of a configuration that must have some.
func reasons(t testing.TB, o Options) string {
	t.Helper()
	c, err := Load(o)
	e, ok := errors.AsType[*Error](err)
	if !ok || c != nil || len(e.Faults) == 0 {
		t.Fatalf("Load = %v, %v; want nil and an *Error with faults", c, err)
	}
	return err.Error()
}

// settings leaves of a Config what can be compared between two sources.
func settings() cmp.Option {
	return cmp.Options{
		cmpopts.IgnoreFields(Config{}, "Origins"),
		// Secrets print as ***, so compare what they are.
		cmp.Comparer(func(a, b Secret) bool { return a.Reveal() == b.Reveal() }),
	}
}

// none is what a key with zero:"none" holds when 0 is written.
const none = schema.None

func embedded(data string) *Config {
	return &Config{
		Data: data,
		Listeners: []Listener{
			{Address: "127.0.0.1:1883", Name: "127.0.0.1:1883"},
			{Address: ":8883", Name: ":8883", TLS: &ListenerTLS{Auto: true, ClientAuth: "none", MinVersion: "1.2"}},
		},
		Connect: Connect{Timeout: 10 * time.Second, MaxPacket: 65536, Protocols: []string{"3.1", "3.1.1", "5"}},
		Limits: Limits{
			Connections: none, PerAddress: none, SessionsPerSubject: none, ConnectRate: none, ConnectRatePerAddress: none,
			OverLimit: "kick_oldest", WriteTimeout: time.Minute, Memory: Memory{Auto: true},
			Session: SessionLimits{MaxPacket: none, PublishRate: none, ByteRate: none, Subscriptions: none, MaxQoS: "2", Retain: true},
		},
		Token: Token{From: []string{"username"}},
		Auth: Auth{
			Sources: []Source{{File: &FileSource{Path: filepath.Join(data, "tokens.jsonl")}}},
			Cache:   Cache{Size: 100_000, TTL: time.Minute, NegativeSize: 20_000, NegativeTTL: 10 * time.Second, StaleIfError: 5 * time.Minute, RefreshAhead: 0.8},
			Guard:   Guard{Rate: 10, Burst: 20, MinLength: 1, MaxLength: 16384},
			Recheck: none,
		},
		Upstream: Upstream{
			Servers:        []Server{{Address: "bundled", Weight: 1}},
			Username:       "${subject}",
			ClientID:       "${subject}:${client_id}",
			ConnectTimeout: 5 * time.Second,
			ProxyProtocol:  "off",
			Balance:        "client_id",
			SlowStart:      30 * time.Second,
			Health:         Health{Interval: 10 * time.Second, Timeout: 2 * time.Second, Failures: 3},
		},
		Topics:    Topics{Unmapped: "pass", ACLNoMatch: "deny"},
		Admin:     Admin{Address: "127.0.0.1:9883", TokenFile: filepath.Join(data, "admin-token"), ReadTokenFile: filepath.Join(data, "admin-read-token"), MetricsTokenFile: filepath.Join(data, "admin-metrics-token"), Refusals: 10000},
		Log:       Log{Level: "info", LinesPerSecond: 10},
		Shutdown:  Shutdown{Delay: none, Drain: 30 * time.Second, Spread: 10 * time.Second},
		Replicas:  Replicas{Bus: "none", Topic: "mqtt-auth-proxy/bus"},
		Hooks:     Hooks{Events: []string{"connected", "disconnected", "refused"}},
		Sandbox:   "auto",
		Telemetry: Telemetry{Path: filepath.Join(data, "telemetry.db"), Retention: 720 * time.Hour, Durability: "sync", MinFree: 64 << 20, MaxKeys: 10_000, ReaderQueue: 256 << 20, MaxBytes: 8 << 30, CastText: true},
	}
}

func TestEmbeddedDefault(t *testing.T) {
	work := t.TempDir()
	c := load(t, Options{WorkDir: work})
	if diff := cmp.Diff(embedded(filepath.Join(work, "mqtt-auth-proxy-data")), c, settings()); diff != "" {
		t.Error(diff)
	}
	if len(c.Files) != 0 || len(c.Warnings) != 0 || len(c.Hash) != 64 {
		t.Errorf("Files %q, Warnings %v, Hash %q", c.Files, c.Warnings, c.Hash)
	}
}

func TestEmptyFileIsTheDefault(t *testing.T) {
	for _, text := range []string{"", "\n\n", "# nothing\n", "---\n", "--- # nothing\n...\n", "\ufeff# nothing"} {
		o := write(t, text)
		c := load(t, o)
		if diff := cmp.Diff(embedded(filepath.Join(o.WorkDir, "mqtt-auth-proxy-data")), c, settings()); diff != "" {
			t.Errorf("%q: %s", text, diff)
		}
	}
}

// TestARunningProgramNeedsAWholeFile: an empty one is what a failed write leaves.
func TestARunningProgramNeedsAWholeFile(t *testing.T) {
	for text, ok := range map[string]bool{"": false, "# nothing\n": false, "log: {level: warn}\n": true} {
		o := write(t, text)
		o.Whole = true
		if _, err := Load(o); (err == nil) != ok {
			t.Errorf("%q: %v", text, err)
		}
	}
	if _, err := Load(Options{WorkDir: t.TempDir(), Whole: true}); err != nil {
		t.Errorf("without a file: %v", err)
	}
}

func TestLateFaultsHaveAPlace(t *testing.T) {
	c := load(t, write(t, "log: {level: warn}\nlisteners:\n  - address: ':1'\n    tls: {auto: true}\n"))
	for key, want := range map[string]string{
		"listeners[0].tls":     "proxy.yaml:4: listeners[0].tls: x",
		"listeners[0].address": "proxy.yaml:3: listeners[0].address: x",
		"admin.address":        "proxy.yaml: admin.address: x",
	} {
		if got := c.Fault(key, "x").String(); got != want {
			t.Errorf("got %s, want %s", got, want)
		}
	}
}

func full(work string) *Config {
	at := func(name string) string { return filepath.Join(work, name) }
	return &Config{
		Data: at("state"),
		Listeners: []Listener{
			{Address: "[::1]:2883", Name: "devices", TLS: &ListenerTLS{Certificate: at("server.pem"), Key: at("server-key.pem"), ClientCA: at("devices-ca.pem"), ClientCRL: at("devices.crl"), ClientAuth: "request", MinVersion: "1.3",
				Certificates: []CertificatePair{{at("other.pem"), at("other-key.pem")}}, TicketSecretFile: at("tickets"), Curves: []string{"X25519", "P-256"}},
				ProxyProtocol: &ProxyProtocol{Trusted: []string{"10.0.0.0/8", "2001:db8::/32"}},
				WebSocket:     &WebSocket{Path: []string{"/ws", "/mqtt"}, Origins: []string{"https://app.example", "https://*.app.example:8443"}, Trusted: []string{"10.1.0.0/16"}}},
			{Address: "localhost:2884", Name: "localhost:2884", ReusePort: true, TLS: &ListenerTLS{Auto: true, ClientAuth: "none", MinVersion: "1.2", Compatibility: true}},
		},
		Connect: Connect{Timeout: 90 * time.Second, MaxPacket: 1 << 20, Protocols: []string{"5", "3.1.1"}},
		Limits: Limits{
			Connections: 1000, PerAddress: 10, Pending: 2000, Handshakes: 64, SessionsPerSubject: 3, OverLimit: "refuse", WriteTimeout: 90 * time.Second,
			ConnectRate: 500, ConnectBurst: 2000, ConnectRatePerAddress: 5, ConnectBurstPerAddress: 20,
			Memory:  Memory{Size: 512 << 20},
			Session: SessionLimits{MaxPacket: 256 << 10, PublishRate: 50, PublishBurst: 100, ByteRate: 1 << 20, Subscriptions: 100, MaxQoS: "1"},
		},
		Token: Token{From: []string{"password", "user_property:token"}},
		Auth: Auth{Sources: []Source{{File: &FileSource{Path: at("state/devices.jsonl")}}, {File: &FileSource{Path: "/srv/more.jsonl"}}, {HTTP: &HTTPSource{
			URL: "https://auth.example/mqtt", Preset: "goauth", Method: "PUT", Format: "form", Body: "u=${username}", Headers: []string{"X-Site: hall 2"},
			AllowStatus: []int{202}, DenyStatus: []int{404}, Fields: []string{"subject=ext.device"}, Require: []string{"iss=https://login.example"},
			Timeout: 2 * time.Second, BearerFile: at("bearer"), BasicFile: at("basic"), SecretFile: at("secret-of-source"),
			IgnoreCacheControl: true, ProxyFromEnvironment: true, Concurrency: 8,
			TLS: UpstreamTLS{CA: at("source-ca.pem"), Certificate: at("source-client.pem"), Key: at("source-key.pem"), ServerName: "auth.example"},
		}}, {JWT: &JWTSource{
			URL: "https://id.example/jwks.json", Algorithms: []string{"ES256"}, Issuers: []string{"https://id.example/"}, Audiences: []string{"mqtt"},
			AllowNoExpiry: true, StartWithoutKeys: true, Leeway: time.Second, Refresh: 11 * time.Second,
			Subject: "device", ClientID: "cid", Username: "user", ACL: "rights", Limits: "quota", Role: "kind", Gateway: "is_gateway", Attrs: []string{"site=realm.site"},
			TLS: UpstreamTLS{CA: at("issuer-ca.pem"), Certificate: at("issuer-client.pem"), Key: at("issuer-key.pem"), ServerName: "id.example"},
		}},
			{JWT: &JWTSource{JWKSFile: at("jwks.json"), AnyAudience: true, Leeway: 30 * time.Second, Refresh: 5 * time.Minute, Subject: "sub"}},
			{JWT: &JWTSource{PublicKeyFile: at("issuer.pem"), Leeway: 30 * time.Second, Refresh: 5 * time.Minute, Subject: "sub"}},
			{JWT: &JWTSource{SecretFile: at("issuer-secret"), Leeway: 30 * time.Second, Refresh: 5 * time.Minute, Subject: "sub"}},
			{Passwd: &PasswdSource{Path: at("passwd"), Format: "goauth"}},
			{Postgres: &PostgresSource{DSNFile: at("source-dsn"), Query: "SELECT password_hash\n\tFROM users WHERE username = @username", Timeout: 14 * time.Second, Connections: 15, Notify: "tokens", ListenDSNFile: at("direct-dsn")}},
		},
			Cache:   Cache{Size: 5, TTL: 6 * time.Second, NegativeSize: 7, NegativeTTL: 8 * time.Second, StaleIfError: 9 * time.Second, RefreshAhead: 0.5},
			Guard:   Guard{Rate: 1, Burst: 2, Exempt: []string{"10.0.0.0/8"}, MinLength: 3, MaxLength: 4, Prefix: "map_", Charset: "abc", Checksum: true},
			Recheck: 5 * time.Minute},
		Upstream: Upstream{
			Servers:        []Server{{Address: "tcp://broker.example:1883", Weight: 1}, {Address: "tls://10.0.0.2:8883", Weight: 2, Backup: true}, {Address: "unix:///run/broker.sock", Weight: 1}},
			Username:       "proxy",
			Password:       "hunter2 # not a comment",
			ClientID:       "proxy-${client_id}",
			ConnectTimeout: 250 * time.Millisecond,
			Balance:        "least_connections",
			SlowStart:      11 * time.Second,
			Health: Health{
				Interval: 12 * time.Second, Timeout: 13 * time.Second, Failures: 14,
				MQTT: true, Username: "prober", Password: "hunter3", CutSessions: true,
			},
			ProxyProtocol: "v2",
			TLS:           UpstreamTLS{CA: at("certs/ca.pem"), Certificate: at("client.pem"), Key: at("client-key.pem"), ServerName: "broker.example"},
		},
		Topics: Topics{
			Preset: "thingsboard", Map: []TopicRule{{"cmd", "devices/${subject}/cmd"}}, Unmapped: "refuse", Forbidden: ".*",
			ACL: []ACLRule{{"deny", "publish", []string{"a/#"}, []int{1, 2}, "true"}}, ACLNoMatch: "defer",
		},
		Admin: Admin{
			Address: ":9000", TokenFile: at("state/token-of-the-admin"), ReadTokenFile: at("state/token-of-readers"), MetricsTokenFile: at("state/token-of-prometheus"),
			TLS:   &AdminTLS{Certificate: at("admin.pem"), Key: at("admin-key.pem"), MinVersion: "1.3"},
			Hosts: []string{"proxy.example", "192.0.2.7"}, Refusals: 15, PushSecretFile: at("pushed"),
		},
		Log:      Log{Level: "debug", Format: "console", Sessions: true, LinesPerSecond: 50},
		Shutdown: Shutdown{Delay: 5 * time.Second, Drain: none, Spread: time.Minute},
		Replicas: Replicas{Bus: "mqtt", SecretFile: at("bus-secret"), Topic: "proxies/bus", Name: "proxy-1", Username: "proxy", PasswordFile: at("bus-password")},
		Hooks: Hooks{URL: "https://fleet.example/mqtt", SecretFile: at("hook-secret"), Events: []string{"refused", "connected"},
			TLS: UpstreamTLS{CA: at("hook-ca.pem"), Certificate: at("hook-client.pem"), Key: at("hook-client-key.pem"), ServerName: "fleet.example"}},
		Sandbox: "off",
		Telemetry: Telemetry{Retention: 36 * time.Hour, Durability: "os", MinFree: 1 << 20, MaxKeys: 500, ReaderQueue: 32 << 20, MaxBytes: 2 << 20, StrictJSON: true,
			Postgres: &Postgres{DSNFile: at("database"), Connections: 7}},
	}
}

func TestEveryKeyFromFile(t *testing.T) {
	o := write(t, read(t, "testdata/full.yaml"))
	if diff := cmp.Diff(full(o.WorkDir), load(t, o), settings()); diff != "" {
		t.Error(diff)
	}
}

func read(t testing.TB, path string) string {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

func TestAliases(t *testing.T) {
	c := load(t, write(t, `
listeners:
  - {address: ":1", tls: &tls {certificate: &name a.pem, key: *name}}
  - {address: ":2", tls: *tls}
`))
	if a, b := c.Listeners[0].TLS, c.Listeners[1].TLS; !reflect.DeepEqual(a, b) || a == b || filepath.Base(a.Key) != "a.pem" {
		t.Errorf("TLS of the listeners = %+v, %+v; want equal copies", a, b)
	}
}

func TestPrecedence(t *testing.T) {
	o := write(t, "data: file\nlog: {level: warn, format: json}\n")
	sub := func(name string) string { return filepath.Join(o.WorkDir, name) }
	c := load(t, o)
	if c.Data != sub("file") || c.Log != (Log{"warn", "json", false, 10}) || c.Telemetry.Durability != "sync" {
		t.Errorf("file over default: data %s, log %+v, durability %s", c.Data, c.Log, c.Telemetry.Durability)
	}
	o.Environ = []string{"MQTT_AUTH_PROXY_DATA=env", "MQTT_AUTH_PROXY_LOG_LEVEL=error", "HOME=/root"}
	c = load(t, o)
	if c.Data != sub("env") || c.Log != (Log{"error", "json", false, 10}) {
		t.Errorf("environment over file: data %s, log %+v", c.Data, c.Log)
	}
	o.DataDir = "flag"
	if c = load(t, o); c.Data != sub("flag") {
		t.Errorf("flag over environment: data %s", c.Data)
	}
}

func TestConfigFileNamedByEnvironment(t *testing.T) {
	o := write(t, "log: {level: warn}")
	put(t, filepath.Join(o.WorkDir, "other.yaml"), "log: {level: error}", 0o600)
	o.Environ = []string{"MQTT_AUTH_PROXY_CONFIG=other.yaml"}
	if c := load(t, o); c.Log.Level != "warn" {
		t.Errorf("level %s: the flag names the file before the environment does", c.Log.Level)
	}
	o.Path = ""
	if c := load(t, o); c.Log.Level != "error" {
		t.Errorf("level %s: the environment names the file", c.Log.Level)
	}
}

// The same --config yields the same files wherever it is started from; what is
// given on the spot starts there.
func TestRelativePaths(t *testing.T) {
	o := write(t, `
listeners: [{address: ":1", tls: {certificate: tls/a.pem, key: ../b.pem}}]
telemetry: {path: sub/t.db}
`)
	etc := o.WorkDir
	o.Path, o.WorkDir = filepath.Join(etc, "proxy.yaml"), t.TempDir()
	c := load(t, o)
	want := map[string]string{
		c.Data:                         filepath.Join(etc, "mqtt-auth-proxy-data"),
		c.Listeners[0].TLS.Certificate: filepath.Join(etc, "tls/a.pem"),
		c.Listeners[0].TLS.Key:         filepath.Join(filepath.Dir(etc), "b.pem"),
		c.Telemetry.Path:               filepath.Join(c.Data, "sub/t.db"),
		c.Admin.TokenFile:              filepath.Join(c.Data, "admin-token"),
		c.Auth.Sources[0].File.Path:    filepath.Join(c.Data, "tokens.jsonl"),
	}
	o.DataDir = "d"
	o.Environ = []string{"MQTT_AUTH_PROXY_LISTENERS_0_TLS_KEY=k.pem", "MQTT_AUTH_PROXY_TELEMETRY_PATH=t.db"}
	c = load(t, o)
	want[c.Data] = filepath.Join(o.WorkDir, "d")
	want[c.Listeners[0].TLS.Key] = filepath.Join(o.WorkDir, "k.pem")
	want[c.Telemetry.Path] = filepath.Join(c.Data, "t.db")
	for got, want := range want {
		if got != want {
			t.Errorf("path %s, want %s", got, want)
		}
	}
}

func TestHash(t *testing.T) {
	o := write(t, "upstream: {password_file: pw}")
	pw := filepath.Join(o.WorkDir, "pw")
	put(t, pw, "one", 0o600)
	hashes := []string{}
	see := func(what string, fresh bool) {
		t.Helper()
		var h string
		switch c, err := Load(o); {
		case err == nil:
			h = c.Hash
		default:
			e, _ := errors.AsType[*Error](err)
			h = e.Hash
		}
		if slices.Contains(hashes, h) == fresh {
			t.Errorf("%s: hash %s among %s; want fresh %t", what, h, hashes, fresh)
		}
		hashes = append(hashes, h)
	}
	see("first", true)
	see("nothing changed", false)
	put(t, pw, "two", 0o600)
	see("secret changed", true)
	put(t, pw, "one", 0o600)
	see("secret changed back", false)
	o.Environ = []string{"MQTT_AUTH_PROXY_LOG_LEVEL=warn"}
	see("environment changed", true)
	o.Environ = append(o.Environ, "PATH=/bin")
	see("foreign variable", false)
	o.DataDir = "x"
	see("flag changed", true)
	if err := os.Remove(pw); err != nil {
		t.Fatal(err)
	}
	see("secret gone", true)
	see("secret still gone", false)
	put(t, filepath.Join(o.WorkDir, o.Path), "# changed\nupstream: {password_file: pw}", 0o600)
	see("file changed", true)
}

func TestFiles(t *testing.T) {
	o := write(t, "upstream: {password_file: pw}")
	put(t, filepath.Join(o.WorkDir, "pw"), "x", 0o600)
	want := []string{filepath.Join(o.WorkDir, "proxy.yaml"), filepath.Join(o.WorkDir, "pw")}
	if c := load(t, o); !slices.Equal(c.Files, want) {
		t.Errorf("Files = %q, want %q", c.Files, want)
	}
}

func TestChecksOfTheCallerAreReported(t *testing.T) {
	o := write(t, "\nupstream:\n  username: ${nobody}\n  client_id: ''\n")
	o.Environ = []string{"MQTT_AUTH_PROXY_TOKEN_FROM=password"}
	o.Check = func(c *Config, fault func(key, reason string)) {
		if c.Upstream.ClientID != "${subject}:${client_id}" {
			t.Errorf("client id %q; a key at fault holds its default", c.Upstream.ClientID)
		}
		fault("upstream.username", "has an unknown variable")
		fault("upstream.client_id", "is at fault already")
		fault("token.from", "does not suit")
		fault("log.level", "is a bad default")
	}
	want := `proxy.yaml: log.level: is a bad default
proxy.yaml:3: upstream.username: has an unknown variable
proxy.yaml:4: upstream.client_id: is empty; write a value or remove the key
environment: MQTT_AUTH_PROXY_TOKEN_FROM: does not suit`
	if got := reasons(t, o); got != want {
		t.Errorf("faults:\n%s\nwant:\n%s", got, want)
	}
}

func TestUnreadableFile(t *testing.T) {
	o := Options{WorkDir: t.TempDir(), Path: "none.yaml"}
	if got := reasons(t, o); !strings.Contains(got, "none.yaml: "+filepath.Join(o.WorkDir, "none.yaml")+" cannot be read: no such file") {
		t.Error(got)
	}
	o.Path = "."
	if got := reasons(t, o); !strings.Contains(got, "it is no regular file") {
		t.Error(got)
	}
	o = write(t, strings.Repeat("#", 256<<10+1))
	if got := reasons(t, o); !strings.Contains(got, "larger than 256KiB") {
		t.Error(got)
	}
}

// A txtar file cannot hold these.
func TestBadText(t *testing.T) {
	const bad = "has a byte that is not allowed in YAML; save the file as UTF-8 without control characters"
	for text, want := range map[string]string{
		"log:\n  level: \xff":     "proxy.yaml:2: " + bad,
		"\n\nlog: {level: \x01}":  "proxy.yaml:3: " + bad,
		"log: {level: \x7f}":      "proxy.yaml:1: " + bad,
		"\xff\xfel\x00o\x00":      "proxy.yaml:1: " + bad,
		"log: {level: \uffff}":    "proxy.yaml: cannot be read as YAML",
		"log:\r\n\tlevel: info":   "proxy.yaml:2: is not YAML: found character that cannot start any token; check the indentation, and put values with special characters in quotes",
		"log: {level: \"a\\nb\"}": `proxy.yaml:1: log.level: "a\nb" is not allowed; write one of debug, info, warn, error`,
	} {
		if got := reasons(t, write(t, text)); got != want {
			t.Errorf("%q:\n%s\nwant:\n%s", text, got, want)
		}
	}
}

func TestFlagFaults(t *testing.T) {
	o := Options{WorkDir: t.TempDir(), DataDir: "a\nb"}
	if got, want := reasons(t, o), "flag: --data: has a control character or is not UTF-8; remove it"; got != want {
		t.Errorf("faults %s, want %s", got, want)
	}
	o = Options{WorkDir: t.TempDir(), Path: "a\nb"}
	if got := reasons(t, o); !strings.HasPrefix(got, "a?b: ") || strings.Contains(got, "\n") {
		t.Errorf("faults %q", got)
	}
}

func BenchmarkLoad(b *testing.B) {
	o := write(b, read(b, "testdata/full.yaml"))
	b.ReportAllocs()
	for b.Loop() {
		if _, err := Load(o); err != nil {
			b.Fatal(err)
		}
	}
}
