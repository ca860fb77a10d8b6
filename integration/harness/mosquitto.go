package harness

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

// Mosquitto is a Mosquitto that only accepts the user name and the password of the proxy.
type Mosquitto struct {
	*Process
	t                  testing.TB
	Config             string
	Addr               string // host:port
	Username, Password string
}

// StartMosquitto runs a Mosquitto until the test ends.
func StartMosquitto(t *testing.T) *Mosquitto {
	t.Helper()
	dir := t.TempDir()
	m := &Mosquitto{t: t, Config: filepath.Join(dir, "mosquitto.conf"), Addr: FreeAddress(t), Username: "proxy", Password: rand.Text()}
	passwords := filepath.Join(dir, "passwords")
	if r := Run(t, Need(t, "mosquitto_passwd"), "-b", "-c", passwords, m.Username, m.Password); r.Status != 0 {
		t.Fatalf("mosquitto_passwd: %s", r.Output())
	}
	host, port, _ := net.SplitHostPort(m.Addr)
	// A Mosquitto of root changes to another user, who may not read the test's files.
	text := fmt.Sprintf("listener %s %s\nallow_anonymous false\npassword_file %s\nuser root\npersistence false\nmax_queued_messages 0\nlog_dest stderr\nlog_type all\n",
		port, host, passwords)
	if err := os.WriteFile(m.Config, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	m.Start()
	return m
}

// EachBroker runs a story with the bundled broker, for which upstream is empty, and with
// a Mosquitto, to which the section upstream leads.
func EachBroker(t *testing.T, story func(t *testing.T, upstream string)) {
	t.Run("bundled", func(t *testing.T) {
		t.Parallel()
		story(t, "")
	})
	t.Run("mosquitto", func(t *testing.T) {
		t.Parallel()
		story(t, StartMosquitto(t).Upstream())
	})
}

// RunMosquitto runs a Mosquitto with a configuration file that makes it listen at addr.
func RunMosquitto(t testing.TB, config, addr string) *Mosquitto {
	t.Helper()
	m := &Mosquitto{t: t, Config: config, Addr: addr}
	m.Start()
	return m
}

// Sibling runs another Mosquitto with the same user name and password.
func (m *Mosquitto) Sibling() *Mosquitto {
	m.t.Helper()
	text, err := os.ReadFile(m.Config)
	if err != nil {
		m.t.Fatal(err)
	}
	s := &Mosquitto{t: m.t, Config: filepath.Join(m.t.TempDir(), "mosquitto.conf"), Addr: FreeAddress(m.t), Username: m.Username, Password: m.Password}
	moved := strings.Replace(string(text), "listener "+Port(m.Addr)+" ", "listener "+Port(s.Addr)+" ", 1)
	if err := os.WriteFile(s.Config, []byte(moved), 0o600); err != nil {
		m.t.Fatal(err)
	}
	s.Start()
	return s
}

// Start runs the broker. It may be called again after Kill.
func (m *Mosquitto) Start() {
	m.t.Helper()
	m.Process = Launch(m.t, nil, Need(m.t, "mosquitto"), "-c", m.Config)
	m.Await(m.t, m.Stderr, "running broker", func(text string) bool { return strings.Contains(text, " running") })
}

// Upstream returns the section upstream of a config that leads to the broker.
func (m *Mosquitto) Upstream() string {
	return fmt.Sprintf("upstream: {servers: ['tcp://%s'], username: %s, password: %s}\n", m.Addr, m.Username, m.Password)
}

// ClientArgs returns the arguments with which mosquitto_pub and mosquitto_sub connect to
// the broker directly.
func (m *Mosquitto) ClientArgs() []string {
	host, port, _ := net.SplitHostPort(m.Addr)
	return []string{"-h", host, "-p", port, "-u", m.Username, "-P", m.Password}
}

// MosquittoPub runs mosquitto_pub.
func MosquittoPub(t testing.TB, args ...string) Result {
	t.Helper()
	return Run(t, append([]string{Need(t, "mosquitto_pub")}, args...)...)
}

// Publish runs mosquitto_pub, which must succeed.
func Publish(t testing.TB, args ...string) {
	t.Helper()
	if r := MosquittoPub(t, args...); r.Status != 0 {
		t.Fatalf("mosquitto_pub %s: status %d\n%s", args, r.Status, r.Output())
	}
}

// Subscriber is a mosquitto_sub that runs in the background.
type Subscriber struct {
	*Process
	t testing.TB
}

// Message is one message as mosquitto_sub prints it.
type Message struct {
	Topic, QoS, Retain string
	Payload            string // hexadecimal
}

var messageLine = regexp.MustCompile(`(?m)^MESSAGE (\S+) (\d) (\d) (\S*)\n`)

// RunSubscriber starts mosquitto_sub.
func RunSubscriber(t testing.TB, args ...string) *Subscriber {
	t.Helper()
	// Without a terminal mosquitto_sub buffers its output.
	args = append([]string{Need(t, "stdbuf"), "-oL", Need(t, "mosquitto_sub"), "-d", "-F", "MESSAGE %t %q %r %x"}, args...)
	return &Subscriber{Process: Launch(t, nil, args...), t: t}
}

// Subscribe starts mosquitto_sub and returns when its subscription is acknowledged.
func Subscribe(t testing.TB, args ...string) *Subscriber {
	t.Helper()
	s := RunSubscriber(t, args...)
	s.Await(t, s.Stdout, "subscription", func(text string) bool { return strings.Contains(text, "Subscribed (mid: ") })
	return s
}

// Messages waits until at least n messages have arrived, and returns all that have.
func (s *Subscriber) Messages(n int) []Message {
	s.t.Helper()
	var found [][]string
	s.Await(s.t, s.Stdout, fmt.Sprintf("%d messages", n), func(text string) bool {
		found = messageLine.FindAllStringSubmatch(text, -1)
		return len(found) >= n
	})
	all := make([]Message, len(found))
	for i, f := range found {
		all[i] = Message{Topic: f[1], QoS: f[2], Retain: f[3], Payload: f[4]}
	}
	return all
}
