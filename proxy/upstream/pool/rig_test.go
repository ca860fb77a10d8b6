package pool

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/authz"
	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/packets"
	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/proxy"
	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/proxy/upstream"
)

// mode is how a fake server behaves.
type mode int

const (
	healthy       mode = iota
	refuses            // connections
	swallows           // never completes a connection
	silent             // accepts connections and answers nothing
	hangsUp            // accepts connections and closes them
	refusesProbes      // closes a connection if its CONNECT is a probe's
	accepts            // answers CONNECT with success; a healthy server refuses it
)

// network is a set of fake servers. Greeting one is an exchange of packets over a pipe.
type network struct {
	t *testing.T

	mu      sync.Mutex
	modes   map[string]mode
	probeID string         // the client id of probes
	dials   map[string]int // by server
	connect map[string]int // CONNECTs by server
	downs   []string       // calls of Trace.Changed
	lost    []string
	tried   map[Outcome]int
	probes  map[string]int
}

func newNetwork(t *testing.T) *network {
	return &network{t: t, modes: map[string]mode{}, dials: map[string]int{}, connect: map[string]int{}, tried: map[Outcome]int{}, probes: map[string]int{}}
}

func (n *network) set(server string, m mode) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.modes[server] = m
}

func (n *network) setAll(m mode, servers ...string) {
	for _, s := range servers {
		n.set(s, m)
	}
}

func (n *network) count(m map[string]int, server string) int {
	n.mu.Lock()
	defer n.mu.Unlock()
	return m[server]
}

// mustServer returns tcp://a:1883 for a.
func mustServer(t testing.TB, name string) upstream.Server {
	t.Helper()
	s, err := upstream.ParseServer("tcp://" + name)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func nameOf(s upstream.Server) string { return shortName(s.String()) }

// shortName returns a for tcp://a:1883.
func shortName(server string) string { return server[len("tcp://") : len(server)-len(":1883")] }

func (n *network) dial(ctx context.Context, s upstream.Server) (net.Conn, error) {
	name := nameOf(s)
	n.mu.Lock()
	n.dials[name]++
	m := n.modes[name]
	n.mu.Unlock()
	switch m {
	case refuses:
		return nil, syscall.ECONNREFUSED
	case swallows:
		<-ctx.Done()
		return nil, ctx.Err()
	}
	near, far := net.Pipe()
	go n.serve(name, m, far)
	return near, nil
}

func (n *network) serve(name string, m mode, conn net.Conn) {
	defer conn.Close()
	if m == hangsUp {
		return
	}
	for {
		raw, err := packets.ReadPacket(conn, 1<<10)
		if err != nil {
			return
		}
		if packets.Type(raw[0]>>4) != packets.CONNECT {
			continue
		}
		n.mu.Lock()
		n.connect[name]++
		probe := bytes.Contains(raw, []byte(n.probeID)) && n.probeID != ""
		n.mu.Unlock()
		if m == refusesProbes && probe {
			return
		}
		if m == accepts {
			if _, err := conn.Write((&packets.Connack{}).Append(nil, 4)); err != nil {
				return
			}
		}
		if m == healthy || m == refusesProbes {
			if _, err := conn.Write((&packets.Connack{Code: packets.RefusedNotAuthorized}).Append(nil, 4)); err != nil {
				return
			}
		}
	}
}

// greet does what a session does with a connection.
func greet(ctx context.Context, nc net.Conn) (bool, error) {
	defer context.AfterFunc(ctx, func() { _ = nc.SetDeadline(time.Unix(1, 0)) })()
	c := packets.Connect{Level: 4, CleanStart: true, ClientID: "d"}
	if _, err := nc.Write(c.Append(nil)); err != nil {
		return false, err
	}
	if _, err := packets.ReadPacket(nc, 100); err != nil {
		return false, err
	}
	return true, nil
}

func (n *network) options(balance Balance, names ...string) Options {
	o := Options{Balance: balance, Dial: n.dial, Trace: Trace{
		Tried: func(_ upstream.Server, o Outcome, _ time.Duration) {
			n.mu.Lock()
			defer n.mu.Unlock()
			n.tried[o]++
		},
		Probed: func(s upstream.Server, _ error) {
			n.mu.Lock()
			defer n.mu.Unlock()
			n.probes[nameOf(s)]++
		},
		Changed: func(s upstream.Server, up bool, reason error) {
			if up != (reason == nil) {
				n.t.Errorf("%v is up: %v, because of %v", s, up, reason)
			}
			n.mu.Lock()
			defer n.mu.Unlock()
			n.downs = append(n.downs, fmt.Sprintf("%s %v", nameOf(s), up))
		},
		Lost: func(s upstream.Server) {
			n.mu.Lock()
			defer n.mu.Unlock()
			n.lost = append(n.lost, nameOf(s))
		},
	}}
	for _, name := range names {
		o.Servers = append(o.Servers, Server{Server: mustServer(n.t, name)})
	}
	return o
}

// run keeps a pool running until the test ends.
func run(t *testing.T, p *Pool) {
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		p.Run(ctx)
	}()
	t.Cleanup(func() { cancel(); <-done })
}

// request returns the request of a client with a client id and a subject.
func request(id, subject string) *proxy.ConnectRequest {
	return &proxy.ConnectRequest{Client: &proxy.Client{Grant: &authz.Grant{Subject: subject}}, Out: &packets.Connect{ClientID: id}}
}

// connect connects a session and returns its server and link, or the error, and how long that
// took.
func connect(p *Pool, id string) (server string, link proxy.Link, took time.Duration, err error) {
	start := time.Now()
	link, err = p.Connect(context.Background(), request(id, id), greet)
	if err == nil {
		server = shortName(link.Server)
	}
	return server, link, time.Since(start), err
}

// end ends a session normally.
func end(l proxy.Link) {
	_ = l.Conn.Close()
	l.Release()
}

// visit connects a session and ends it. It returns "" after an error.
func visit(p *Pool, id string) string {
	server, link, _, err := connect(p, id)
	if err == nil {
		end(link)
	}
	return server
}

func (p *Pool) find(t *testing.T, name string) Status {
	t.Helper()
	for _, s := range p.Status() {
		if nameOf(s.Server) == name {
			return s
		}
	}
	t.Fatalf("no server %s", name)
	return Status{}
}

func wantIdle(t *testing.T, p *Pool) {
	t.Helper()
	for _, s := range p.Status() {
		if s.Sessions != 0 {
			t.Errorf("%v still has %d sessions", s.Server, s.Sessions)
		}
	}
}

func bubble(t *testing.T, f func(t *testing.T, n *network)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) { f(t, newNetwork(t)) })
}

var errTest = errors.New("test fault")
