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

	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/packets"
)

// watcher counts the messages that reach a broker.
type watcher struct {
	mu   sync.Mutex
	seen map[string]bool
}

func watch(t testing.TB, m *mosquitto) *watcher {
	t.Helper()
	c := identity(4, "watcher", m.username)
	c.HasPassword, c.Password = true, m.password
	d := connect(t, dial(t, m.addr), c)
	d.subscribe(t, "fleet", 1)
	w := &watcher{seen: map[string]bool{}}
	go func() {
		for {
			p, err := d.next(time.Hour)
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

// missing returns how many of the messages have not come.
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

func severalBrokers(m *mosquitto, others []string, more string) string {
	servers := "'tcp://" + m.addr + "'"
	for _, o := range others {
		servers += ", 'tcp://" + o + "'"
	}
	return fmt.Sprintf("upstream: {servers: [%s], username: %s, password: %s, %s}\n", servers, m.username, m.password, more)
}

// publisher is a device that never stops: it connects again as soon as it is cut
// off, and sends again what was not acknowledged.
type publisher struct {
	id     string
	acked  []string // on the connection that lived last
	lives  int
	back   time.Time // when it was let in last
	refuse int       // CONNACKs other than success
}

func (p *publisher) run(address, token string, stop <-chan struct{}) error {
	for n := 0; ; {
		conn, err := net.DialTimeout("tcp", address, patience)
		if err != nil {
			return err
		}
		d, ack, err := try(conn, identity(4, p.id, token))
		if err != nil || ack.Code != packets.Success {
			conn.Close()
			p.refuse++
			time.Sleep(100 * time.Millisecond)
			continue
		}
		p.lives, p.back, p.acked = p.lives+1, time.Now(), nil
		for {
			payload := fmt.Sprintf("%s/%d", p.id, n)
			if err := d.publish("fleet", payload); err != nil {
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

// runPublishers runs 500 publishers through the proxy while disrupt happens, and returns
// them when all of them are well again for a second.
func runPublishers(t *testing.T, p *proxy, token string, disrupt func()) (all []*publisher, since time.Time) {
	t.Helper()
	const size = 500
	stop := make(chan struct{})
	var running sync.WaitGroup
	for i := range size {
		d := &publisher{id: fmt.Sprint("pump-", i)}
		all = append(all, d)
		running.Go(func() {
			if err := d.run(p.plain, token, stop); err != nil {
				t.Error(err)
			}
		})
	}
	live := fmt.Sprintf("mqtt_auth_proxy_sessions %d", size)
	eventually(t, "every device online", func() bool { return p.counts(live) })
	since = time.Now()
	disrupt()
	time.Sleep(5 * time.Second)
	if !p.counts(live) {
		t.Error("not all devices are back after 5 s")
	}
	time.Sleep(time.Second)
	close(stop)
	running.Wait()
	return all, since
}

// TestBrokerKilled: the devices of a broker that dies see their connection close,
// are let in by the other one when they come back, at once, and are never refused.
// What the other one has acknowledged has reached its subscribers.
func TestBrokerKilled(t *testing.T) {
	a := startMosquitto(t)
	b := a.sibling()
	p := newProxy(t, severalBrokers(a, []string{b.addr}, "health: {interval: 500ms}"))
	p.keep(a.password)
	token := p.token("fleet")
	p.start()
	at := watch(t, b)
	all, since := runPublishers(t, p, token, a.kill)
	checkPublishers(t, all, since, at)
	if !p.counts(fmt.Sprintf("mqtt_auth_proxy_upstream_up{server=\"tcp://%s\"} 0", a.addr)) {
		t.Error("no metric tells of the dead broker")
	}
	if status, _ := fetch(t, "http://"+p.admin+"/readyz", ""); status != 200 {
		t.Errorf("/readyz has status %d with one broker left", status)
	}
	p.awaitLog("dead broker", func(l logged) bool {
		return l.String("message") == "broker is down" && l.String("server") == "tcp://"+a.addr
	})
}

// checkPublishers wants the devices of one broker moved to the other, and nothing lost
// that the other has acknowledged.
func checkPublishers(t *testing.T, all []*publisher, since time.Time, at *watcher) {
	t.Helper()
	moved, slowest := 0, time.Duration(0)
	for _, d := range all {
		if d.lives > 1 {
			moved++
			slowest = max(slowest, d.back.Sub(since))
		}
		if d.refuse > 0 {
			t.Errorf("%s was refused %d times", d.id, d.refuse) // not even once "come back later"
		}
		eventually(t, "every acknowledged message of "+d.id, func() bool { return at.missing(d.acked) == 0 })
	}
	// A broker that is slow in the first rush has lost some of its half before.
	if moved < len(all)/10 || moved > len(all)*9/10 {
		t.Errorf("%d of %d devices moved, want about half", moved, len(all))
	}
	t.Logf("%d devices moved, the slowest was back after %v", moved, slowest)
}

// TestBrokerFrozen: a broker that takes packets and says nothing, as behind a cut
// cable. Its devices are disconnected (5.0: 0x8B) as soon as the probes have failed,
// and find the other broker.
func TestBrokerFrozen(t *testing.T) {
	a := startMosquitto(t)
	b := a.sibling()
	p := newProxy(t, severalBrokers(a, []string{b.addr},
		"health: {interval: 300ms, timeout: 500ms, failures: 3, mqtt: true, cut_sessions: true}"))
	p.keep(a.password)
	token := p.token("fleet")
	p.start()
	at := watch(t, b)
	all, since := runPublishers(t, p, token, func() { a.signal(syscall.SIGSTOP) })
	checkPublishers(t, all, since, at)
	p.awaitLog("end of its sessions", func(l logged) bool {
		return l.String("cause") == "upstream_lost" && l.String("server") == "tcp://"+a.addr
	})
}

// TestBrokerThatNeverAnswers: devices notice a delay at first, of their share of
// connect_timeout, and then nothing at all.
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
	s := startSink(t)
	p := newProxy(t, fmt.Sprintf("upstream: {servers: ['tcp://%s', 'tcp://%s'], username: proxy, connect_timeout: 2s, balance: round_robin}\n", silent.Addr(), s.Addr()))
	late, tokens := p.token("late"), make([]string, 8)
	for i := range tokens {
		tokens[i] = p.token(fmt.Sprint("device-", i))
	}
	p.start()
	down := fmt.Sprintf("mqtt_auth_proxy_upstream_up{server=\"tcp://%s\"} 0", silent.Addr())
	for i := 0; !p.counts(down); i++ {
		if i == len(tokens) {
			t.Fatal("the silent broker is not down after 8 devices")
		}
		connect(t, dial(t, p.plain), identity(5, fmt.Sprint("device-", i), tokens[i]))
	}
	begin := time.Now()
	for i := range 10 {
		connect(t, dial(t, p.plain), identity(4, fmt.Sprint("late-", i), late))
	}
	if took := time.Since(begin); took > 2*time.Second {
		t.Errorf("ten devices took %v although the silent broker is known", took)
	}
}
