package proxy

import (
	"context"
	"errors"
	"net"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"

	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/authz"
	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/packets"
	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/packets/packetstest"
	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/proxy/proxyproto"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// authorizerFunc is an Authorizer made of a function.
type authorizerFunc func(ctx context.Context, r authz.Request) (*authz.Grant, error)

func (f authorizerFunc) Authorize(ctx context.Context, r authz.Request) (*authz.Grant, error) {
	return f(ctx, r)
}

// goodToken is the token of the device "alpha"; any text with the prefix "good-"
// is a token of the device named by the rest.
const goodToken = "good-alpha"

var knowsGood = authorizerFunc(func(_ context.Context, r authz.Request) (*authz.Grant, error) {
	if subject, ok := strings.CutPrefix(r.Token.Reveal(), "good-"); ok {
		return &authz.Grant{TokenID: "id-" + subject, Subject: subject}, nil
	}
	return nil, authz.ErrUnknown
})

// bench is a Server between clients and a broker that are both made of pipes.
type bench struct {
	t      *testing.T
	srv    *Server
	policy Policy
	broker *fakeBroker

	mu      sync.Mutex
	refused []Refusal
	opened  []*Client
	closed  []End
}

// newBench returns a bench whose policy may be changed before the first connect.
// It must be called inside a synctest bubble and ends with it.
func newBench(t *testing.T) *bench {
	b := &bench{t: t, broker: &fakeBroker{answer: packets.Connack{}}}
	b.policy = Policy{Authorizer: knowsGood, Upstream: DialFunc(b.broker.dial)}
	b.srv = &Server{Trace: Trace{
		Refused: func(r Refusal) { b.mu.Lock(); defer b.mu.Unlock(); b.refused = append(b.refused, r) },
		Opened:  func(c *Client) { b.mu.Lock(); defer b.mu.Unlock(); b.opened = append(b.opened, c) },
		Closed:  func(_ *Client, e End) { b.mu.Lock(); defer b.mu.Unlock(); b.closed = append(b.closed, e) },
		Panicked: func(v any, stack []byte) {
			t.Errorf("panic: %v\n%s", v, stack)
		},
	}}
	t.Cleanup(func() { b.srv.Close() })
	return b
}

// lastRefusal waits until all is quiet and returns how the last connection was
// refused.
func (b *bench) lastRefusal() Refusal {
	b.t.Helper()
	synctest.Wait()
	b.mu.Lock()
	defer b.mu.Unlock()
	if len(b.refused) == 0 {
		b.t.Fatal("no connection was refused")
	}
	return b.refused[len(b.refused)-1]
}

// lastEnd waits until all is quiet and returns how the last session ended.
func (b *bench) lastEnd() End {
	b.t.Helper()
	synctest.Wait()
	b.mu.Lock()
	defer b.mu.Unlock()
	if len(b.closed) == 0 {
		b.t.Fatal("no session has ended")
	}
	return b.closed[len(b.closed)-1]
}

// connect opens a connection without sending anything.
func (b *bench) connect() *packetstest.Client {
	b.t.Helper()
	if b.srv.policy.Load() == nil {
		if err := b.srv.SetPolicy(&b.policy); err != nil {
			b.t.Fatal(err)
		}
	}
	ours, theirs := net.Pipe()
	go b.srv.ServeConn(context.Background(), theirs)
	return packetstest.New(b.t, ours, 4)
}

// login opens a connection, sends a CONNECT and returns the answer.
func (b *bench) login(p packets.Connect) (*packetstest.Client, packets.Connack, error) {
	b.t.Helper()
	c := b.connect()
	c.Level = p.Level
	go c.Write(p.Append(nil)) // which fails if not all of it is wanted
	ack, err := c.ReadConnack()
	return c, ack, err
}

// mustLogin is login for a client that is let in. It returns when the connection is a
// session: the client has its CONNACK before.
func (b *bench) mustLogin(p packets.Connect) *packetstest.Client {
	b.t.Helper()
	c, ack, err := b.login(p)
	if err != nil || ack.Code != packets.Success {
		b.t.Fatalf("CONNACK %v, error %v; want success", ack.Code, err)
	}
	synctest.Wait()
	return c
}

// sendUntilTimeout sends a text byte by byte, so slowly that the connection must be
// refused before the end of it, at the deadline of the CONNECT.
func (b *bench) sendUntilTimeout(c *packetstest.Client, text string, pause time.Duration) {
	b.t.Helper()
	start, done := time.Now(), make(chan struct{})
	go func() {
		defer close(done)
		for i := range len(text) {
			time.Sleep(pause)
			if _, err := c.Write([]byte(text[i : i+1])); err != nil {
				return
			}
		}
	}()
	c.ExpectEnd()
	took := time.Since(start)
	<-done
	if r := b.lastRefusal(); r.Reason != ConnectTimeout || took != 10*second {
		b.t.Errorf("refused as %v after %v", r.Reason, took)
	}
}

// with returns a CONNECT of the given level with client id and user name.
func with(level byte, clientID, username string) packets.Connect {
	return packets.Connect{Level: level, CleanStart: true, KeepAlive: 60, ClientID: clientID, Username: username, HasUsername: username != ""}
}

// fakeBroker answers every CONNECT and then sends back whatever it gets.
type fakeBroker struct {
	answer packets.Connack
	raw    []byte                // instead of answer
	silent bool                  // never answers
	err    error                 // of the dial
	delay  func(context.Context) // before the dial returns

	mu       sync.Mutex
	origin   *proxyproto.Header // of the last dial
	connects []*packets.Connect
	got      []byte
	ends     int
}

func (f *fakeBroker) dial(ctx context.Context, _ *Client) (net.Conn, error) {
	if f.delay != nil {
		f.delay(ctx)
	}
	if f.err != nil {
		return nil, f.err
	}
	f.mu.Lock()
	f.origin = proxyproto.FromContext(ctx)
	f.mu.Unlock()
	ours, theirs := net.Pipe()
	go f.serve(ours)
	return theirs, nil
}

func (f *fakeBroker) serve(nc net.Conn) {
	defer nc.Close()
	connect, err := packets.ReadConnect(nc, 1<<20)
	if err != nil {
		return
	}
	f.mu.Lock()
	f.connects = append(f.connects, connect)
	f.mu.Unlock()
	switch {
	case f.silent:
	case f.raw != nil:
		go nc.Write(f.raw)
	default:
		nc.Write(f.answer.Append(nil, connect.Level))
	}
	buf := make([]byte, 4096)
	for {
		n, err := nc.Read(buf)
		f.mu.Lock()
		f.got = append(f.got, buf[:n]...)
		f.mu.Unlock()
		if err != nil {
			break
		}
		if _, err := nc.Write(buf[:n]); err != nil {
			break
		}
	}
	f.mu.Lock()
	f.ends++
	f.mu.Unlock()
}

// lastConnect waits until all is quiet and returns the last CONNECT the broker
// got, nil if none.
func (f *fakeBroker) lastConnect() *packets.Connect {
	synctest.Wait()
	f.mu.Lock()
	defer f.mu.Unlock()
	if len(f.connects) == 0 {
		return nil
	}
	return f.connects[len(f.connects)-1]
}

// received waits until all is quiet and returns what the broker got after the
// CONNECT.
func (f *fakeBroker) received() []byte {
	synctest.Wait()
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.got
}

var errTest = errors.New("test fault")

// ping is a whole packet, and so is publish.
var (
	ping    = []byte{0xc0, 0x00}
	publish = []byte("\x30\x09\x00\x01tpayload")
)

const second = time.Second
