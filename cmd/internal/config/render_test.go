package config

import (
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
)

// again loads what a Config renders to, somewhere else.
func again(t testing.TB, c *Config) *Config {
	t.Helper()
	text, err := c.Render()
	if err != nil {
		t.Fatal(err)
	}
	return load(t, write(t, string(text)))
}

func TestRenderLoadsAgain(t *testing.T) {
	for _, text := range []string{"", read(t, "testdata/full.yaml"), "admin: {address: ''}\nlog: {format: ''}", "upstream: {username: 'a: # b', client_id: '***'}"} {
		c := load(t, write(t, text))
		if diff := cmp.Diff(c, again(t, c), settings(), cmpopts.IgnoreFields(Upstream{}, "Password"), cmpopts.IgnoreFields(Health{}, "Password")); diff != "" {
			t.Errorf("%.20q: %s", text, diff)
		}
	}
}

// TestFingerprint: it tells values apart, but neither places nor secrets.
func TestFingerprint(t *testing.T) {
	name := func(text string) string {
		o := write(t, text)
		o.DataDir = "/data"
		name, err := load(t, o).Fingerprint()
		if err != nil || len(name) != 16 {
			t.Fatal(name, err)
		}
		return name
	}
	base := name("log: {level: warn}\nupstream: {password: one}\n")
	if other := name("# moved\n\nupstream: {password: two}\nlog: {level: warn}"); other != base {
		t.Error("a comment or a secret makes a difference")
	}
	if other := name("log: {level: error}\nupstream: {password: one}\n"); other == base {
		t.Error("a value makes no difference")
	}
	secret := filepath.Join(t.TempDir(), "pw")
	put(t, secret, "one", 0o600)
	file := name("log: {level: warn}\nupstream: {password_file: " + secret + "}\n")
	put(t, secret, "two", 0o600)
	if other := name("log: {level: warn}\nupstream: {password_file: " + secret + "}\n"); file == base || other != file {
		t.Error("the path of a secret makes no difference, or the secret makes one")
	}
}

func TestRenderKeepsSecretFile(t *testing.T) {
	o := write(t, "upstream: {password_file: pw}")
	put(t, filepath.Join(o.WorkDir, "pw"), "x", 0o600)
	c := load(t, o)
	if diff := cmp.Diff(c, again(t, c), settings()); diff != "" {
		t.Error(diff)
	}
}

func TestRender(t *testing.T) {
	o := write(t, `
log: {level: warn}
limits:
  connections: 5
upstream:
  password: x
auth:
  sources: [{file: {path: /t.jsonl}}]
`)
	o.DataDir = "/data"
	o.Environ = []string{"MQTT_AUTH_PROXY_SHUTDOWN_DRAIN=90s", "MQTT_AUTH_PROXY_TOKEN_FROM=password,username"}
	text, err := load(t, o).Render()
	if err != nil {
		t.Fatal(err)
	}
	want := `data: /data # flag --data
listeners:
- address: 127.0.0.1:1883 # default
  name: 127.0.0.1:1883 # default
  reuse_port: false # default
- address: :8883 # default
  name: :8883 # default
  tls:
    auto: true # default
    certificate: '' # default
    key: '' # default
    client_ca: '' # default
    client_crl: '' # default
    client_auth: none # default
    min_version: '1.2' # default
    certificates: []
    ticket_secret_file: '' # default
    curves: [] # default
    compatibility: false # default
  reuse_port: false # default
connect:
  timeout: 10s # default
  max_packet: 64KiB # default
  protocols: ['3.1', 3.1.1, '5'] # default
limits:
  connections: 5 # proxy.yaml:4
  per_address: 0 # default
  pending: 0 # default
  handshakes: 0 # default
  sessions_per_subject: 0 # default
  connect_rate: 0 # default
  connect_burst: 0 # default
  connect_rate_per_address: 0 # default
  connect_burst_per_address: 0 # default
  memory: auto # default
  over_limit: kick_oldest # default
  session:
    max_packet: '0' # default
    publish_rate: 0 # default
    publish_burst: 0 # default
    byte_rate: '0' # default
    subscriptions: 0 # default
    max_qos: '2' # default
    retain: true # default
  write_timeout: 1m # default
token:
  from: [password, username] # environment
auth:
  sources:
  - file:
      path: /t.jsonl # proxy.yaml:8
  cache:
    size: 100000 # default
    ttl: 1m # default
    negative_size: 20000 # default
    negative_ttl: 10s # default
    stale_if_error: 5m # default
    refresh_ahead: 0.8 # default
  guard:
    rate: 10 # default
    burst: 20 # default
    exempt: [] # default
    min_length: 1 # default
    max_length: 16384 # default
    prefix: '' # default
    charset: '' # default
    checksum: false # default
  recheck: 0s # default
upstream:
  servers: [bundled] # default
  balance: client_id # default
  slow_start: 30s # default
  username: ${subject} # default
  password: '***' # proxy.yaml:6
  client_id: ${subject}:${client_id} # default
  connect_timeout: 5s # default
  health:
    interval: 10s # default
    timeout: 2s # default
    failures: 3 # default
    mqtt: false # default
    username: '' # default
    password: '' # default
    cut_sessions: false # default
  proxy_protocol: off # default
  tls:
    ca: '' # default
    certificate: '' # default
    key: '' # default
    server_name: '' # default
topics:
  preset: '' # default
  map: []
  unmapped: pass # default
  forbidden: '' # default
  acl: []
  acl_no_match: deny # default
admin:
  address: 127.0.0.1:9883 # default
  token_file: /data/admin-token # default
  read_token_file: /data/admin-read-token # default
  metrics_token_file: /data/admin-metrics-token # default
  hosts: [] # default
  refusals: 10000 # default
  push_secret_file: '' # default
log:
  level: warn # proxy.yaml:2
  format: '' # default
  sessions: false # default
  lines_per_second: 10 # default
shutdown:
  delay: 0s # default
  drain: 1m30s # environment
  spread: 10s # default
telemetry:
  path: /data/telemetry.db # default
  retention: 720h # default
  durability: sync # default
  min_free: 64MiB # default
  max_keys: 10000 # default
  max_bytes: 8GiB # default
  reader_queue: 256MiB # default
  strict_json: false # default
  cast_text: true # default
replicas:
  bus: none # default
  secret_file: '' # default
  topic: mqtt-auth-proxy/bus # default
  name: '' # default
  username: '' # default
  password_file: '' # default
  dsn_file: '' # default
hooks:
  url: '' # default
  secret_file: '' # default
  events: [connected, disconnected, refused] # default
  tls:
    ca: '' # default
    certificate: '' # default
    key: '' # default
    server_name: '' # default
sandbox: auto # default
`
	if diff := cmp.Diff(want, string(text)); diff != "" {
		t.Error(diff)
	}
}

// A Config that was not loaded has no origins to show.
func TestRenderWithoutOrigins(t *testing.T) {
	c := Config{Data: "/data", Upstream: Upstream{Password: sentinel}}
	text, err := c.Render()
	if err != nil || strings.Contains(string(text), "#") || strings.Contains(string(text), sentinel) || !strings.HasPrefix(string(text), "data: /data\nlisteners: []\n") {
		t.Errorf("Render = %s, %v", text, err)
	}
}

// TestRenderChanged: only what differs from the defaults is shown, with its place.
func TestRenderChanged(t *testing.T) {
	o := write(t, `
log: {level: info}
limits:
  connections: 5
  session: {publish_rate: 0}
upstream:
  servers: [bundled]
  password: x
connect: {protocols: ["3.1", "3.1.1", "5"]}
listeners:
- address: 127.0.0.1:2883
- {address: ":8883", tls: {auto: true, client_auth: none}}
auth:
  sources: [{file: {path: /t.jsonl}}]
`)
	o.Environ = []string{"MQTT_AUTH_PROXY_SHUTDOWN_DRAIN=90s", "MQTT_AUTH_PROXY_TOKEN_FROM=password,username"}
	text, err := load(t, o).RenderChanged()
	if err != nil {
		t.Fatal(err)
	}
	want := `listeners:
- address: 127.0.0.1:2883 # proxy.yaml:11
- address: :8883 # proxy.yaml:12
  tls:
    auto: true # proxy.yaml:12
limits:
  connections: 5 # proxy.yaml:4
token:
  from: [password, username] # environment
auth:
  sources:
  - file:
      path: /t.jsonl # proxy.yaml:14
upstream:
  password: '***' # proxy.yaml:8
shutdown:
  drain: 1m30s # environment
`
	if diff := cmp.Diff(want, string(text)); diff != "" {
		t.Error(diff)
	}
	if text, err := load(t, write(t, "log: {level: info}")).RenderChanged(); len(text) > 0 || err != nil {
		t.Errorf("without a change: %q, %v", text, err)
	}
}
