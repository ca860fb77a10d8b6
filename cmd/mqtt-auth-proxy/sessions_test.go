package main

import (
	"bytes"
	"crypto/x509"
	"encoding/json"
	"io"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"go.uber.org/zap"

	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/authz/certtest"
	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/authz/tokenfile"
	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/cmd/internal/config"
	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/cmd/internal/observe"
	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/cmd/internal/service"
	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/packets/packetstest"
)

// TestSessionsCommandListsAndKicks runs the command against a service with one session.
func TestSessionsCommandListsAndKicks(t *testing.T) {
	addrs, data, token := serveOne(t)
	nc := packetstest.Connect(t, packetstest.Dial(t, addrs["127.0.0.1:0"]), packetstest.Identity(5, "test", token))
	run := func(args ...string) (string, error) {
		var out bytes.Buffer
		p := &program{stdout: &out, stderr: io.Discard, environ: []string{"MQTT_AUTH_PROXY_ADMIN_ADDRESS=" + addrs["admin"]}}
		root := p.rootCommand()
		root.SetArgs(append(args, "--data", data))
		err := root.ExecuteContext(t.Context())
		return out.String(), err
	}
	if out, err := run("sessions", "list", "--subject", "pump"); err != nil || !regexp.MustCompile(`1 +pump +test +127\.0\.0\.1:\d+ .*Z +\d+ +\d+ +0 +0 +\S+\n`).MatchString(out) {
		t.Errorf("list: %v\n%s", err, out)
	}
	if out, err := run("sessions", "list", "--client-id", "unknown", "--json"); err != nil || !strings.Contains(out, `"total": 0`) {
		t.Errorf("list: %v\n%s", err, out)
	}
	if _, err := run("sessions", "kick"); err == nil {
		t.Error("kick without a name is accepted")
	}
	if _, err := run("sessions", "kick", "999"); err == nil || !strings.Contains(err.Error(), "no live session") {
		t.Errorf("kick of nothing: %v", err)
	}
	if out, err := run("sessions", "kick", "--subject", "pump"); err != nil || out != "ended: 1\n" {
		t.Errorf("kick: %v\n%s", err, out)
	}
	nc.ExpectEnd(0xe0, 1, 0x98) // DISCONNECT: administrative action
	if err := os.Remove(filepath.Join(data, "admin-token")); err != nil {
		t.Fatal(err)
	}
	if out, err := run("sessions", "list"); err != nil {
		t.Errorf("list with the token of the role read: %v\n%s", err, out)
	}
	if _, err := run("sessions", "kick", "1"); err == nil || !strings.Contains(err.Error(), "admin-token") {
		t.Errorf("kick without the token of the role operate: %v", err)
	}
}

// TestCommandsTrustTheAdminSidesOwnCertificate: and no other, to which they send no token.
func TestCommandsTrustTheAdminSidesOwnCertificate(t *testing.T) {
	addrs, data, _ := serveOne(t, "tls: {auto: true}")
	run := func() error {
		p := &program{stdout: io.Discard, stderr: io.Discard, environ: []string{"MQTT_AUTH_PROXY_ADMIN_ADDRESS=" + addrs["admin"]}}
		root := p.rootCommand()
		root.SetArgs([]string{"sessions", "list", "--config", filepath.Join(data, "proxy.yaml")})
		return root.ExecuteContext(t.Context())
	}
	if err := run(); err != nil {
		t.Error(err)
	}
	path := filepath.Join(data, "tls", "server.pem")
	other := certtest.SelfSigned(&x509.Certificate{DNSNames: []string{"localhost"}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}})
	if err := os.WriteFile(path, other.PEM(), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := run(); err == nil || !strings.Contains(err.Error(), path) {
		t.Errorf("another certificate: %v", err)
	}
}

// serveOne runs a service with one token until the test ends, with further keys of the section
// admin. It returns where each listener is, by name.
func serveOne(t *testing.T, admin ...string) (addrs map[string]string, data, token string) {
	t.Helper()
	data = t.TempDir()
	made, err := tokenfile.Create(filepath.Join(data, "tokens.jsonl"), tokenfile.CreateOptions{Name: "pump"})
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(data, "proxy.yaml")
	text := "data: " + data + "\nlisteners: [{address: \"127.0.0.1:0\"}]\nadmin: {" + strings.Join(append(admin, "address: \"127.0.0.1:0\""), ", ") + "}\nsandbox: off\n"
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	options := config.Options{Path: path}
	plan, err := service.Load(options, "test")
	if err != nil {
		t.Fatal(err)
	}
	lines, log := io.Pipe()
	listening := make(chan [2]string, 2)
	go readListening(lines, listening)
	level := zap.NewAtomicLevel()
	logger, err := observe.NewLog(log, level, "json")
	if err != nil {
		t.Fatal(err)
	}
	s, err := service.New(t.Context(), plan, service.Process{Log: logger, Level: level, Config: options, Version: "test"})
	if err != nil {
		t.Fatal(err)
	}
	signals, ended := make(chan os.Signal, 1), make(chan error, 1)
	go func() { ended <- s.Run(signals, io.Discard) }()
	t.Cleanup(func() {
		signals <- os.Interrupt
		if err := <-ended; err != nil {
			t.Error(err)
		}
		s.Close()
		log.Close()
	})
	addrs = map[string]string{}
	for range 2 {
		l := <-listening
		addrs[l[0]] = l[1]
	}
	return addrs, data, made.Token.Reveal()
}

// readListening reads a log to its end and reports the name and the address of each
// listener in it.
func readListening(log io.Reader, listening chan<- [2]string) {
	for dec := json.NewDecoder(log); ; {
		var line struct{ Message, Listener, Addr string }
		if dec.Decode(&line) != nil {
			return
		}
		if line.Message == "listening" {
			listening <- [2]string{line.Listener, line.Addr}
		}
	}
}
