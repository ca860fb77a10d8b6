package tokenhttp

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/authz"
	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/authz/internal/breaker"
)

// pipes is a listener whose connections are pipes, which synctest recognizes as idle.
type pipes struct{ conns chan net.Conn }

func (p *pipes) Accept() (net.Conn, error) {
	c, ok := <-p.conns
	if !ok {
		return nil, net.ErrClosed
	}
	return c, nil
}
func (p *pipes) Close() error   { close(p.conns); return nil }
func (p *pipes) Addr() net.Addr { return &net.UnixAddr{} }

// piped returns a Source whose service is handler, without a network.
func piped(t *testing.T, handler http.HandlerFunc, o Options) *Source {
	t.Helper()
	ln := &pipes{conns: make(chan net.Conn)}
	server := &http.Server{Handler: handler}
	ended := make(chan struct{})
	go func() { defer close(ended); _ = server.Serve(ln) }()
	o.URL = "http://service.test/"
	s, err := New(o)
	if err != nil {
		t.Fatal(err)
	}
	s.transport.DialContext = func(context.Context, string, string) (net.Conn, error) {
		near, far := net.Pipe()
		ln.conns <- far
		return near, nil
	}
	t.Cleanup(func() {
		_ = s.Close()
		_ = server.Close()
		<-ended
	})
	return s
}

// clinic is a service whose answer to each token a test sets, and a Source that asks it, in a
// bubble.
type clinic struct {
	*testing.T
	source *Source

	mu      sync.Mutex
	answers map[string]reply // by token; "" for all others
	takes   time.Duration
	asked   []string
}

func open(t *testing.T, f func(c *clinic)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		c := &clinic{T: t, answers: map[string]reply{}}
		c.source = piped(t, c.ServeHTTP, Options{})
		c.set("", reply{status: 204})
		f(c)
	})
}

func (c *clinic) set(token string, a reply) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.answers[token] = a
}

func (c *clinic) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	var q struct{ Token string }
	_ = json.NewDecoder(r.Body).Decode(&q)
	c.mu.Lock()
	c.asked = append(c.asked, q.Token)
	a, ok := c.answers[q.Token]
	if !ok {
		a = c.answers[""]
	}
	takes := c.takes
	c.mu.Unlock()
	time.Sleep(takes)
	a.ServeHTTP(w, r)
}

// from returns the address with that number.
func from(n int) netip.AddrPort {
	return netip.AddrPortFrom(netip.AddrFrom4([4]byte{192, 0, 2, byte(n)}), 1)
}

// ask asks about a token from the address with that number.
func (c *clinic) ask(token string, n int, known bool) string {
	g, err := c.source.Authorize(c.Context(), authz.Request{Token: authz.NewToken(token), Addr: from(n), Known: known})
	if errors.Is(err, authz.ErrUnanswerable) {
		return "error of its own"
	}
	return outcomeOf(g, err)
}

// want asks and compares the outcome.
func (c *clinic) want(want, token string, n int, known bool) {
	c.Helper()
	if got := c.ask(token, n, known); got != want {
		c.Fatalf("%s from address %d: %s, want %s (breaker %s)", token, n, got, want, c.source.Stats().Breaker)
	}
}

// questions returns how often the service was asked since the last call.
func (c *clinic) questions() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	n := len(c.asked)
	c.asked = nil
	return n
}

var (
	down    = reply{status: 500}
	faulty  = okJSON(`{"result":"allow","acl":[{"permission":"allow","action":"all","topics":["a/#/b"]}]}`)
	hurried = reply{status: 429, header: http.Header{"Retry-After": {"30"}}}
)

// outage makes breaker.Threshold devices at several addresses meet faults.
func (c *clinic) outage() {
	c.Helper()
	c.set("", down)
	for i := range breaker.Threshold {
		c.want("error", fmt.Sprint("device ", i), i, false)
	}
	if b := c.source.Stats().Breaker; b != "open" {
		c.Fatalf("after faults of %d devices the breaker is %s", breaker.Threshold, b)
	}
	c.questions()
}
