package service

import (
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/authz"
	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/authz/topicmap"
	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/cmd/internal/config"
	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/cmd/internal/replicas"
	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/packets"
)

// TestWithdrawalOfAnotherReplica: it ends the session, which may come back unless it is denied, and
// one that was missed does not end a session that began after it.
func TestWithdrawalOfAnotherReplica(t *testing.T) {
	s, _ := startService(t, bundledConfig)
	demo := authz.Revocation{Subject: "demo"}
	live := func() int { return s.server.Stats().Sessions }
	connect := func() packets.ReasonCode {
		_, ack := login(t, s, asDemo(s, 5))
		return ack.Code
	}
	if code := connect(); code != packets.Success {
		t.Fatalf("code %#x", byte(code))
	}
	s.applyWithdrawals([]replicas.Withdrawal{{Revocation: demo, At: time.Now().Add(-replicas.MaxSkew - time.Minute), Missed: true}})
	if live() != 1 {
		t.Error("a session ended that began after the withdrawal")
	}
	s.applyWithdrawals([]replicas.Withdrawal{{Revocation: demo, At: time.Now()}})
	await(t, "the end of the session", func() bool { return live() == 0 })
	if code := connect(); code != packets.Success {
		t.Fatalf("after it: code %#x", byte(code))
	}
	s.kickSubjects([]string{"other", "demo"})
	await(t, "the end of the session", func() bool { return live() == 0 })
	until := time.Now().Add(time.Hour).Truncate(time.Second)
	s.adoptDenials([]replicas.Withdrawal{{Revocation: demo, Until: until}})
	if code := connect(); code != packets.NotAuthorized {
		t.Errorf("with a denial: code %#x", byte(code))
	}
	s.adoptDenials([]replicas.Withdrawal{{Revocation: demo, Until: until.Add(time.Hour)}}) // is known already
	if all := s.denialsInForce(); len(all) != 1 || !all[0].Until.Equal(until) || all[0].Subject != "demo" {
		t.Errorf("denials in force: %v", all)
	}
	s.applyWithdrawals([]replicas.Withdrawal{{Revocation: demo, Until: time.Now().Add(-time.Second)}}) // which lifts it
	if code := connect(); code != packets.Success {
		t.Errorf("after the denial: code %#x", byte(code))
	}
}

// patience bounds every wait of these tests; nothing waits that long unless it fails.
const patience = time.Minute

// await waits until ok reports true, for what happens behind an answer: records, counts and lines of
// the log.
func await(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for limit := time.Now().Add(patience); !ok(); <-time.After(time.Millisecond) {
		if time.Now().After(limit) {
			t.Fatalf("%s did not come", what)
		}
	}
}

// loadReplicas loads a configuration with a bus and these further lines.
func loadReplicas(t *testing.T, secret, more string) (*Plan, error) {
	t.Helper()
	dir := t.TempDir()
	path := filepath.Join(dir, "proxy.yaml")
	for name, text := range map[string]string{
		"dsn": "postgres://proxy:hunter2@127.0.0.1:1/fleet", "bad-dsn": "postgres://proxy:%hunter2@127.0.0.1:1/fleet",
		"proxy.yaml": fmt.Sprintf("{upstream: {servers: ['tcp://127.0.0.1:1']}, auth: {sources: [{file: {path: %q}}]},\n%s}", emptyTokenFile(t), more), "secret": secret,
	} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	p, err := Load(config.Options{Path: path}, "test")
	if err == nil {
		t.Cleanup(p.Close)
		err = p.Probe()
	}
	return p, err
}

func TestBusIsChecked(t *testing.T) {
	good := strings.Repeat("s", 32)
	for _, tt := range []struct{ secret, more, want string }{
		{good, "replicas: {bus: mqtt, secret_file: secret}", ""},
		{good[1:], "replicas: {bus: mqtt, secret_file: secret}", "replicas.secret_file"},
		{good, "replicas: {bus: mqtt, secret_file: missing}", "replicas.secret_file"},
		{good, "replicas: {bus: mqtt, secret_file: secret, topic: a/#}", "replicas.topic"},
		{good, "replicas: {bus: mqtt, secret_file: secret, topic: $SYS/bus}", "replicas.topic"},
		{good, "replicas: {bus: mqtt, secret_file: secret, username: u, password_file: missing}", "replicas.password_file"},
		{good, "replicas: {bus: postgres, secret_file: secret, dsn_file: dsn}", ""},
		{good, "replicas: {bus: postgres, secret_file: secret, dsn_file: missing}", "replicas.dsn_file"},
		{good, "replicas: {bus: postgres, secret_file: secret, dsn_file: bad-dsn}", "replicas.dsn_file"},
		{good, "replicas: {bus: postgres, secret_file: secret, dsn_file: dsn, topic: a/#}", "replicas.topic"},
	} {
		_, err := loadReplicas(t, tt.secret, tt.more)
		if tt.want == "" && err != nil || tt.want != "" && (err == nil || !strings.Contains(err.Error(), "proxy.yaml:2: "+tt.want+": ") || strings.Count(err.Error(), "\n") > 0 || strings.Contains(err.Error(), "hunter2")) {
			t.Errorf("%s: %v, want a fault of %q alone", tt.more, err, tt.want)
		}
	}
}

// TestBusTopicIsClosed: where the proxy reads the packets of a session because of its own config,
// no device publishes to the bus.
func TestBusTopicIsClosed(t *testing.T) {
	const bus = "mqtt-auth-proxy/bus"
	p, err := loadReplicas(t, strings.Repeat("s", 32), `replicas: {bus: mqtt, secret_file: secret},
topics: {map: [{device: "me/#", broker: "devices/${subject}/#"}], acl: [{topics: ["#"]}]}
`)
	if err != nil {
		t.Fatal(err)
	}
	acl, err := p.acl.Bind(authz.ACLValues{})
	if err != nil {
		t.Fatal(err)
	}
	if acl.Publish([]byte(bus), 0, false) || !acl.Publish([]byte(bus+"/x"), 0, false) || !acl.Subscribe("#", 0) {
		t.Error("the topic rules do not close the topic of the bus alone")
	}
	topics, err := p.topics.Bind("pump", nil)
	if err != nil {
		t.Fatal(err)
	}
	if _, v := topics.Up(nil, []byte(bus)); v.Outcome != topicmap.Refused {
		t.Errorf("the map lets a device publish to the bus: %v", v)
	}
}

// TestBusInADatabaseClosesNothing: it has no topic at the brokers and no client id there.
func TestBusInADatabaseClosesNothing(t *testing.T) {
	p, err := loadReplicas(t, strings.Repeat("s", 32), `replicas: {bus: postgres, secret_file: secret, dsn_file: dsn},
topics: {acl: [{topics: ["#"]}]}
`)
	if err != nil {
		t.Fatal(err)
	}
	acl, err := p.acl.Bind(authz.ACLValues{})
	if err != nil {
		t.Fatal(err)
	}
	if !acl.Publish([]byte(p.Replicas.Topic), 0, false) || p.credentials.reserved != "" {
		t.Errorf("the topic is closed, or client ids that begin with %q are", p.credentials.reserved)
	}
}

// TestProxyStartsWithoutTheDatabaseOfTheBus: the proxy starts and is ready, its bundled broker
// serves devices, and the status shows why the bus does not work, without the password.
func TestProxyStartsWithoutTheDatabaseOfTheBus(t *testing.T) {
	secret := filepath.Join(t.TempDir(), "secret")
	if err := os.WriteFile(secret, []byte(strings.Repeat("s", 32)), 0o600); err != nil {
		t.Fatal(err)
	}
	s, log := startService(t, bundledConfig+"replicas: {bus: postgres, name: left, secret_file: '"+secret+"', dsn_file: '"+dsnFile(t)+"'}\n")
	if _, ack := login(t, s, asDemo(s, 5)); ack.Code != packets.Success {
		t.Errorf("a device is refused with %#x", byte(ack.Code))
	}
	s.kickSubject("demo")
	const want = `"replicas":{"bus":"postgres","name":"left","servers":[{"server":"postgres","connected":false,"last_error":"connect to the database: connection refused"}]`
	await(t, "the fault in the status", func() bool {
		_, body := get(t, s, "/v1/status")
		return strings.Contains(body, want)
	})
	if status, body := get(t, s, "/readyz"); status != http.StatusOK {
		t.Errorf("/readyz: %d %s", status, body)
	}
	if _, metrics := get(t, s, "/metrics"); !strings.Contains(metrics, `mqtt_auth_proxy_replicas_connected{server="postgres"} 0`) {
		t.Error("no metric shows that the bus is not connected")
	}
	if strings.Contains(log.String(), "hunter2") {
		t.Errorf("the log has the password:\n%s", log)
	}
}

// TestStatusShowsTheBus: also while no broker answers, which does not make the proxy less ready.
func TestStatusShowsTheBus(t *testing.T) {
	secret := filepath.Join(t.TempDir(), "secret")
	if err := os.WriteFile(secret, []byte(strings.Repeat("s", 32)), 0o600); err != nil {
		t.Fatal(err)
	}
	s, _ := startService(t, `
listeners: [{address: "127.0.0.1:0"}]
admin: {address: "127.0.0.1:0"}
auth: {sources: [{file: {path: `+emptyTokenFile(t)+`}}]}
upstream: {servers: ["tcp://127.0.0.1:1"]}
replicas: {bus: mqtt, name: left, secret_file: `+secret+`}
`)
	status, body := get(t, s, "/v1/status")
	if want := `"replicas":{"bus":"mqtt","name":"left","servers":[{"server":"tcp://127.0.0.1:1","connected":false`; status != http.StatusOK || !strings.Contains(body, want) {
		t.Errorf("status %d, %s, want %s", status, body, want)
	}
}
