//go:build integration

package integration

import (
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/integration/harness"
	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/packets"
	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/packets/packetstest"
)

// watcher collects the messages that reach a broker.
type watcher struct {
	mu   sync.Mutex
	seen map[string]bool
}

func watch(t testing.TB, m *harness.Mosquitto) *watcher {
	t.Helper()
	c := packetstest.Identity(4, "watcher", m.Username)
	c.HasPassword, c.Password = true, m.Password
	d := packetstest.Connect(t, packetstest.Dial(t, m.Addr), c)
	d.MustSubscribe("fleet", 1)
	w := &watcher{seen: map[string]bool{}}
	go func() {
		for {
			p, err := d.Next(time.Hour)
			if err != nil {
				return
			}
			w.mu.Lock()
			w.seen[string(p.Payload)] = true
			w.mu.Unlock()
		}
	}()
	return w
}

// missing returns how many of the messages have not arrived.
func (w *watcher) missing(all []string) (n int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, payload := range all {
		if !w.seen[payload] {
			n++
		}
	}
	return n
}

func severalBrokers(m *harness.Mosquitto, others []string, more string) string {
	servers := "'tcp://" + m.Addr + "'"
	for _, o := range others {
		servers += ", 'tcp://" + o + "'"
	}
	return fmt.Sprintf("upstream: {servers: [%s], username: %s, password: %s, %s}\n", servers, m.Username, m.Password, more)
}

// publisher is a device that connects again as soon as it is disconnected, and sends
// again what was not acknowledged.
type publisher struct {
	id     string
	acked  []string // on the last connection
	lives  int
	back   time.Time // when it was accepted last
	refuse int       // CONNACKs other than success
}

func (p *publisher) run(address, token string, stop <-chan struct{}) error {
	for n := 0; ; {
		conn, err := net.DialTimeout("tcp", address, harness.Patience)
		if err != nil {
			return err
		}
		d, ack, err := packetstest.Try(conn, packetstest.Identity(4, p.id, token))
		if err != nil || ack.Code != packets.Success {
			conn.Close()
			p.refuse++
			time.Sleep(100 * time.Millisecond)
			continue
		}
		p.lives, p.back, p.acked = p.lives+1, time.Now(), nil
		for {
			payload := fmt.Sprintf("%s/%d", p.id, n)
			if err := d.Publish("fleet", payload); err != nil {
				break
			}
			p.acked = append(p.acked, payload)
			n++
			select {
			case <-stop:
				conn.Close()
				return nil
			case <-time.After(200 * time.Millisecond):
			}
		}
		conn.Close()
	}
}

// runPublishers runs 500 publishers through the proxy and calls disrupt, which disrupts the broker
// at the address broken. It returns the publishers when all of them have been served by the other
// broker for a second.
func runPublishers(t *testing.T, p *harness.Proxy, token, broken string, disrupt func()) (all []*publisher, since time.Time) {
	t.Helper()
	const size = 500
	stop := make(chan struct{})
	var running sync.WaitGroup
	for i := range size {
		d := &publisher{id: fmt.Sprint("pump-", i)}
		all = append(all, d)
		running.Go(func() {
			if err := d.run(p.Plain, token, stop); err != nil {
				t.Error(err)
			}
		})
	}
	live := fmt.Sprintf("mqtt_auth_proxy_sessions %d", size)
	harness.Eventually(t, "every device online", func() bool { return p.HasMetric(live) })
	since = time.Now()
	disrupt()
	harness.Eventually(t, "every device on the other broker", func() bool {
		return p.HasMetric(live) && p.HasMetric(fmt.Sprintf("mqtt_auth_proxy_upstream_sessions{server=\"tcp://%s\"} 0", broken))
	})
	time.Sleep(time.Second)
	close(stop)
	running.Wait()
	return all, since
}

// TestBrokerKilled: the connections of a broker's devices are closed when it is killed. The
// devices are accepted by the other broker at once and are never refused. Messages that
// the other broker has acknowledged have reached its subscribers.
func TestBrokerKilled(t *testing.T) {
	a := harness.StartMosquitto(t)
	b := a.Sibling()
	p := harness.NewProxy(t, severalBrokers(a, []string{b.Addr}, "health: {interval: 500ms}"))
	p.AddSecret(a.Password)
	token := p.Token("fleet")
	p.Start()
	at := watch(t, b)
	all, since := runPublishers(t, p, token, a.Addr, a.Kill)
	checkPublishers(t, all, since, at)
	harness.Eventually(t, "a metric that shows the dead broker", func() bool {
		return p.HasMetric(fmt.Sprintf("mqtt_auth_proxy_upstream_up{server=\"tcp://%s\"} 0", a.Addr))
	})
	if status, _ := harness.Fetch(t, "http://"+p.Admin+"/readyz", ""); status != 200 {
		t.Errorf("/readyz has status %d with one broker left", status)
	}
	p.AwaitLog("dead broker", func(l harness.LogLine) bool {
		return l.String("message") == "broker is down" && l.String("server") == "tcp://"+a.Addr
	})
}

// checkPublishers fails the test unless the devices of one broker have moved to the
// other, and every message that the other acknowledged was delivered.
func checkPublishers(t *testing.T, all []*publisher, since time.Time, at *watcher) {
	t.Helper()
	moved, slowest := 0, time.Duration(0)
	for _, d := range all {
		if d.lives > 1 {
			moved++
			slowest = max(slowest, d.back.Sub(since))
		}
		if d.refuse > 0 {
			t.Errorf("%s was refused %d times", d.id, d.refuse) // not even with "try again later"
		}
		harness.Eventually(t, "every acknowledged message of "+d.id, func() bool { return at.missing(d.acked) == 0 })
	}
	// If a broker was slow at first, some of its half have moved before.
	if moved < len(all)/10 || moved > len(all)*9/10 {
		t.Errorf("%d of %d devices moved, want about half", moved, len(all))
	}
	t.Logf("%d devices moved, the slowest was back after %v", moved, slowest)
}

// TestBrokerFrozen: a broker accepts packets and never answers, as if its cable were cut.
// Its devices are disconnected (5.0: 0x8B) when the probes have failed, and connect to
// the other broker.
func TestBrokerFrozen(t *testing.T) {
	a := harness.StartMosquitto(t)
	b := a.Sibling()
	p := harness.NewProxy(t, severalBrokers(a, []string{b.Addr},
		"health: {interval: 300ms, timeout: 3s, failures: 2, mqtt: true, cut_sessions: true}"))
	p.AddSecret(a.Password)
	token := p.Token("fleet")
	p.Start()
	at := watch(t, b)
	all, since := runPublishers(t, p, token, a.Addr, func() { a.Signal(syscall.SIGSTOP) })
	checkPublishers(t, all, since, at)
	p.AwaitLog("end of its sessions", func(l harness.LogLine) bool {
		return l.String("cause") == "upstream_lost" && l.String("server") == "tcp://"+a.Addr
	})
}

// TestBrokerThatNeverAnswers: the first devices wait for a share of connect_timeout.
// Later ones do not notice.
func TestBrokerThatNeverAnswers(t *testing.T) {
	t.Parallel()
	silent, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { silent.Close() })
	go func() {
		for {
			conn, err := silent.Accept()
			if errors.Is(err, net.ErrClosed) {
				return
			} else if err == nil {
				go func() { _, _ = io.Copy(io.Discard, conn); conn.Close() }()
			}
		}
	}()
	s := harness.StartSink(t)
	p := harness.NewProxy(t, fmt.Sprintf("upstream: {servers: ['tcp://%s', 'tcp://%s'], username: proxy, connect_timeout: 5s, balance: round_robin}\n", silent.Addr(), s.Addr()))
	late, tokens := p.Token("late"), make([]string, 8)
	for i := range tokens {
		tokens[i] = p.Token(fmt.Sprint("device-", i))
	}
	p.Start()
	down := fmt.Sprintf("mqtt_auth_proxy_upstream_up{server=\"tcp://%s\"} 0", silent.Addr())
	for i := 0; !p.HasMetric(down); i++ {
		if i == len(tokens) {
			t.Fatal("the silent broker is not down after 8 devices")
		}
		p.Connect(t, 5, fmt.Sprint("device-", i), tokens[i])
	}
	begin := time.Now()
	for i := range 10 {
		p.Connect(t, 4, fmt.Sprint("late-", i), late)
	}
	if took := time.Since(begin); took > harness.Slack {
		t.Errorf("ten devices took %v although the silent broker is known", took)
	}
}
