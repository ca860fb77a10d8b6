package proxy

import (
	"context"
	"fmt"
	"io"
	"net"
	"runtime"
	"sync"
	"testing"
	"time"

	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/authz"
	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/authz/topicmap"
	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/packets"
	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/proxy/internal/relay"
)

// maxFootprint is what a session may cost besides the pair that the relay keeps for
// it, in bytes, its grant not included: sources share those.
const maxFootprint = 512

// maxFiltered is what a session may cost more if its packets are read, in bytes, and maxPaced what
// it may cost more than that if there is a rate among its limits.
const maxFiltered, maxPaced = 1 << 10, 512

// footprint is a kind of sessions whose memory is measured, and how much that may be.
type footprint struct {
	policy Policy
	most   int
}

func footprints(t testing.TB) map[string]footprint {
	topics := mapOf(t, topicmap.Rule{Device: "v1/devices/me/telemetry", Broker: "v1/devices/${subject}/telemetry"})
	acl := aclOf(t, authz.DenyRest, "v1/devices/me/#")
	limits := limitsOf(t, `{"max_packet":1000,"subscriptions":10,"max_qos":1,"retain":false}`)
	rates := limits
	rates.PublishRate, rates.ByteRate = 5, 1000
	return map[string]footprint{
		"raw":           {Policy{}, maxFootprint},
		"map":           {Policy{Topics: topics}, maxFootprint + maxFiltered},
		"map and rules": {Policy{Topics: topics, ACL: acl}, maxFootprint + maxFiltered},
		"limits":        {Policy{SessionLimits: limits}, maxFootprint + maxFiltered},
		"rates":         {Policy{SessionLimits: rates}, maxFootprint + maxFiltered + maxPaced},
	}
}

// TestSessionFootprint counts bytes, not time: it cannot fail because a machine is busy. Buckets of
// maps make the result change by about 60 bytes with the number of sessions.
func TestSessionFootprint(t *testing.T) {
	for name, kind := range footprints(t) {
		n := 0
		for range 3 { // other tests' garbage may be counted
			if n = sessionFootprint(t, 2000, kind.policy); n <= kind.most {
				break
			}
		}
		if n > kind.most {
			t.Errorf("%s: a session takes %d bytes besides the relay's pair, want at most %d", name, n, kind.most)
		}
	}
}

// BenchmarkSessionFootprint reports what TestSessionFootprint bounds.
func BenchmarkSessionFootprint(b *testing.B) {
	for name, kind := range footprints(b) {
		b.Run(name, func(b *testing.B) {
			for range b.N {
				b.ReportMetric(float64(sessionFootprint(b, 10_000, kind.policy)), "B/session")
			}
			b.ReportMetric(0, "ns/op")
		})
	}
}

// sessionFootprint returns how much more memory so many sessions take than the same
// connections take in a relay alone. Each has subscribed, has sent a message and got one.
func sessionFootprint(t testing.TB, number int, policy Policy) int {
	relayFootprint(number) // the runtime keeps what goroutines need for the next ones
	alone := relayFootprint(number)
	subscribed, now := make(chan struct{}), make(chan struct{})
	close(now)
	const topic = "v1/devices/me/telemetry"
	subscribe := packets.Subscribe{Type: packets.SUBSCRIBE, PacketID: 1}
	subscribe.Add(topic, 1)
	message := packets.Publish{Topic: []byte(topic), Payload: []byte("{}")}
	traffic := message.Append(subscribe.Append(nil, 4), 4)
	srv, grants := &Server{}, make(map[string]*authz.Grant)
	for i := range number {
		subject := fmt.Sprintf("device-%06d", i)
		grants["token-of-"+subject] = &authz.Grant{TokenID: "id-" + subject, Subject: subject}
	}
	policy.Authorizer = authorizerFunc(func(_ context.Context, r authz.Request) (*authz.Grant, error) {
		return grants[r.Token.Reveal()], nil
	})
	policy.Upstream = DialFunc(func(_ context.Context, client *Client) (net.Conn, error) {
		c := newStillConn((&packets.Connack{}).Append(nil, 4))
		answer := packets.Suback{Type: packets.SUBACK, PacketID: 1, Codes: []packets.ReasonCode{1}}
		message := packets.Publish{Topic: []byte("v1/devices/" + client.Grant.Subject + "/telemetry"), Payload: []byte("{}")}
		c.then, c.start = message.Append(answer.Append(nil, 4), 4), subscribed
		return c, nil
	})
	if err := srv.SetPolicy(&policy); err != nil {
		t.Fatal(err)
	}
	sessions := heapOf(func() {
		for i := range number {
			subject := fmt.Sprintf("device-%06d", i)
			connect := with(4, subject, "token-of-"+subject)
			c := newStillConn(connect.Append(nil))
			c.then, c.start = traffic, now
			srv.ServeConn(context.Background(), c)
		}
		for _, s := range srv.registry.all() {
			for up, _ := s.moved(); up == 0; up, _ = s.moved() {
				runtime.Gosched()
			}
		}
		close(subscribed)
		for _, s := range srv.registry.all() {
			for _, down := s.moved(); down == 0; _, down = s.moved() {
				runtime.Gosched()
			}
		}
	})
	if n := srv.Stats().Sessions; n != number {
		t.Fatalf("%d sessions, want %d", n, number)
	}
	srv.Close()
	waitForGoroutines()
	return (sessions - alone) / number
}

// relayFootprint returns how much memory so many pairs take in a relay.
func relayFootprint(number int) int {
	pump := &relay.Pump{}
	pairs := make([]*relay.Session, 0, number)
	n := heapOf(func() {
		for range number {
			pairs = append(pairs, pump.Start(relay.Pair{Client: relay.NewStack(newStillConn(nil)), Upstream: relay.NewStack(newStillConn(nil))}))
		}
	})
	for _, p := range pairs {
		p.Cut(relay.CloseNotice{})
	}
	pump.Wait()
	waitForGoroutines()
	return n
}

// waitForGoroutines waits for goroutines that are about to end, so that their memory can be used
// again.
func waitForGoroutines() {
	for limit := time.Now().Add(5 * time.Second); runtime.NumGoroutine() > 100 && time.Now().Before(limit); {
		runtime.Gosched()
	}
}

// heapOf returns by how much fill makes the heap grow.
func heapOf(fill func()) int {
	before := liveHeap()
	fill()
	return liveHeap() - before
}

// liveHeap returns the size of the heap without garbage. What finalizers and pools
// hold on to takes more than one collection to go.
func liveHeap() int {
	for range 3 {
		runtime.GC()
	}
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int(m.HeapAlloc)
}

// stillConn is a connection whose peer sends some bytes, then some others once start is closed, and
// then nothing more.
type stillConn struct {
	said  []byte
	then  []byte
	start <-chan struct{}
	mu    sync.Mutex
	woken bool
	wake  chan struct{}
}

func newStillConn(says []byte) *stillConn {
	return &stillConn{said: says, wake: make(chan struct{})}
}

func (c *stillConn) Read(b []byte) (int, error) {
	if len(c.said) == 0 && c.then != nil {
		<-c.start
		c.said, c.then = c.then, nil
	}
	if len(c.said) > 0 {
		n := copy(b, c.said)
		if c.said = c.said[n:]; len(c.said) == 0 {
			c.said = nil
		}
		return n, nil
	}
	<-c.wake
	return 0, io.EOF
}

func (c *stillConn) Write(b []byte) (int, error) { return len(b), nil }

func (c *stillConn) Close() error { return c.SetReadDeadline(time.Unix(1, 0)) }

// SetReadDeadline ends reading if the deadline is over; others are ignored.
func (c *stillConn) SetReadDeadline(t time.Time) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !t.IsZero() && t.Before(time.Now()) && !c.woken {
		c.woken = true
		close(c.wake)
	}
	return nil
}

func (c *stillConn) SetDeadline(t time.Time) error    { return c.SetReadDeadline(t) }
func (c *stillConn) SetWriteDeadline(time.Time) error { return nil }
func (c *stillConn) LocalAddr() net.Addr              { return c.RemoteAddr() }

// RemoteAddr is the same for all: whose address it is costs nothing of its own.
func (c *stillConn) RemoteAddr() net.Addr { return &net.TCPAddr{IP: net.IPv4(192, 0, 2, 1), Port: 1} }
