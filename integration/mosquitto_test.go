//go:build integration

package integration

import (
	"crypto/rand"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// mosquitto is a broker that lets nobody in but the proxy.
type mosquitto struct {
	*process
	t                  testing.TB
	config             string
	addr               string // host:port
	username, password string
}

func startMosquitto(t *testing.T) *mosquitto {
	t.Helper()
	dir := t.TempDir()
	m := &mosquitto{t: t, config: filepath.Join(dir, "mosquitto.conf"), addr: freeAddress(t), username: "proxy", password: rand.Text()}
	passwords := filepath.Join(dir, "passwords")
	if r := run(t, need(t, "mosquitto_passwd"), "-b", "-c", passwords, m.username, m.password); r.status != 0 {
		t.Fatalf("mosquitto_passwd: %s", r.all())
	}
	host, port, _ := net.SplitHostPort(m.addr)
	// As root it would become another user, who may not read the test's files.
	text := fmt.Sprintf("listener %s %s\nallow_anonymous false\npassword_file %s\nuser root\npersistence false\nmax_queued_messages 0\nlog_dest stderr\nlog_type all\n",
		port, host, passwords)
	if err := os.WriteFile(m.config, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	m.start()
	return m
}

// runMosquitto runs a broker on a configuration file that makes it listen at addr.
func runMosquitto(t testing.TB, config, addr string) *mosquitto {
	t.Helper()
	m := &mosquitto{t: t, config: config, addr: addr}
	m.start()
	return m
}

// sibling runs a second broker with the passwords of m.
func (m *mosquitto) sibling() *mosquitto {
	m.t.Helper()
	text, err := os.ReadFile(m.config)
	if err != nil {
		m.t.Fatal(err)
	}
	s := &mosquitto{t: m.t, config: filepath.Join(m.t.TempDir(), "mosquitto.conf"), addr: freeAddress(m.t), username: m.username, password: m.password}
	moved := strings.Replace(string(text), "listener "+portOf(m.addr)+" ", "listener "+portOf(s.addr)+" ", 1)
	if err := os.WriteFile(s.config, []byte(moved), 0o600); err != nil {
		m.t.Fatal(err)
	}
	s.start()
	return s
}

// start runs the broker, again after it was killed.
func (m *mosquitto) start() {
	m.t.Helper()
	m.process = launch(m.t, nil, need(m.t, "mosquitto"), "-c", m.config)
	m.await(m.t, m.stderr, "running broker", func(text string) bool { return strings.Contains(text, " running") })
}

// upstream is the section of the proxy's config that leads to the broker.
func (m *mosquitto) upstream() string {
	return fmt.Sprintf("upstream: {servers: ['tcp://%s'], username: %s, password: %s}\n", m.addr, m.username, m.password)
}

// clientArgs are the arguments by which mosquitto_pub and mosquitto_sub reach the
// broker without the proxy.
func (m *mosquitto) clientArgs() []string {
	host, port, _ := net.SplitHostPort(m.addr)
	return []string{"-h", host, "-p", port, "-u", m.username, "-P", m.password}
}

// mosquittoPub runs mosquitto_pub to its end.
func mosquittoPub(t testing.TB, args ...string) result {
	t.Helper()
	return run(t, append([]string{need(t, "mosquitto_pub")}, args...)...)
}

// publish runs mosquitto_pub, which must succeed.
func publish(t testing.TB, args ...string) {
	t.Helper()
	if r := mosquittoPub(t, args...); r.status != 0 {
		t.Fatalf("mosquitto_pub %s: status %d\n%s", args, r.status, r.all())
	}
}

// subscriber is a mosquitto_sub.
type subscriber struct {
	*process
	t testing.TB
}

// message is one message as mosquitto_sub prints it.
type message struct {
	topic, qos, retain string
	payload            string // hexadecimal
}

var messageLine = regexp.MustCompile(`(?m)^MESSAGE (\S+) (\d) (\d) (\S*)\n`)

// listen runs mosquitto_sub.
func listen(t testing.TB, args ...string) *subscriber {
	t.Helper()
	// Without a terminal mosquitto_sub keeps what it prints until there is a lot.
	args = append([]string{need(t, "stdbuf"), "-oL", need(t, "mosquitto_sub"), "-d", "-F", "MESSAGE %t %q %r %x"}, args...)
	return &subscriber{process: launch(t, nil, args...), t: t}
}

// subscribe runs mosquitto_sub and returns when its subscription stands.
func subscribe(t testing.TB, args ...string) *subscriber {
	t.Helper()
	s := listen(t, args...)
	s.await(t, s.stdout, "subscription", func(text string) bool { return strings.Contains(text, "Subscribed (mid: ") })
	return s
}

// messages waits until there are n messages and returns all that came.
func (s *subscriber) messages(n int) []message {
	s.t.Helper()
	var found [][]string
	s.await(s.t, s.stdout, fmt.Sprintf("%d messages", n), func(text string) bool {
		found = messageLine.FindAllStringSubmatch(text, -1)
		return len(found) >= n
	})
	all := make([]message, len(found))
	for i, f := range found {
		all[i] = message{topic: f[1], qos: f[2], retain: f[3], payload: f[4]}
	}
	return all
}
