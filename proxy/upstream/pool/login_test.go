package pool

import (
	"context"
	"net"
	"testing"
	"time"

	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/packets"
	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/proxy/upstream"
)

// TestRefusesIsCertain: a login is refused only if a server says so and none accepts it.
func TestRefusesIsCertain(t *testing.T) {
	for name, tt := range map[string]struct {
		a, b mode
		want string
	}{
		"both refuse":                {healthy, healthy, "tcp://a:1883: the broker answered Not authorized (5); tcp://b:1883: the broker answered Not authorized (5)"},
		"one refuses, one accepts":   {healthy, accepts, ""},
		"one refuses, one is away":   {healthy, refuses, "tcp://a:1883: the broker answered Not authorized (5)"},
		"one refuses, one is silent": {silent, healthy, "tcp://b:1883: the broker answered Not authorized (5)"},
		"one accepts, one is away":   {refuses, accepts, ""},
		"none answers":               {swallows, hangsUp, ""},
	} {
		bubble(t, func(t *testing.T, n *network) {
			p := New(n.options(ClientID, "a", "b"))
			n.set("a", tt.a)
			n.set("b", tt.b)
			got := ""
			if err := p.Refuses(t.Context(), Login{"proxy", "secret"}); err != nil {
				got = err.Error()
			}
			if got != tt.want {
				t.Errorf("%s: %q, want %q", name, got, tt.want)
			}
			for _, s := range p.Status() {
				if s.State != Unknown || s.Failures != 0 {
					t.Errorf("%s: the state of %v has changed", name, s.Server)
				}
			}
		})
	}
}

// TestTrySaysWhyAServerCannotBeUsed: without a login a connection is enough.
func TestTrySaysWhyAServerCannotBeUsed(t *testing.T) {
	for name, tt := range map[string]struct {
		mode  mode
		login *Login
		good  bool
	}{
		"accepts the login":              {accepts, &Login{"proxy", "secret"}, true},
		"refuses the login":              {healthy, &Login{"proxy", "secret"}, false},
		"would refuse the login":         {healthy, nil, true},
		"is silent":                      {silent, &Login{}, false},
		"hangs up":                       {hangsUp, &Login{}, false},
		"refuses connections":            {refuses, nil, false},
		"never completes a connection":   {swallows, nil, false},
		"is silent, and was only dialed": {silent, nil, true},
	} {
		bubble(t, func(t *testing.T, n *network) {
			p := New(n.options(ClientID, "a"))
			n.set("a", tt.mode)
			ctx, cancel := context.WithTimeout(t.Context(), time.Second)
			defer cancel()
			if err := p.Try(ctx, mustServer(t, "a"), tt.login); (err == nil) != tt.good {
				t.Errorf("a server that %s: %v", name, err)
			}
			if s := p.Status()[0]; s.State != Unknown || s.Failures != 0 {
				t.Errorf("%s: the state of the server has changed", name)
			}
		})
	}
}

// TestRefusesSendsTheLogin: the login has no will, and a session of its own.
func TestRefusesSendsTheLogin(t *testing.T) {
	near, far := net.Pipe()
	p := New(Options{Servers: []Server{{Server: mustServer(t, "a")}}, Dial: func(context.Context, upstream.Server) (net.Conn, error) { return near, nil }})
	got := make(chan *packets.Connect, 1)
	go func() {
		defer far.Close()
		c, err := packets.ReadConnect(far, 1<<10)
		if err != nil {
			t.Error(err)
		}
		got <- c
		_, _ = far.Write((&packets.Connack{Code: packets.RefusedIdentifier}).Append(nil, 4))
		_, _ = packets.ReadPacket(far, 100)
	}()
	if err := p.Refuses(t.Context(), Login{"proxy", "secret"}); err != nil {
		t.Errorf("an answer about the client id counts as one about the login: %v", err)
	}
	c := <-got
	if c == nil || c.Username != "proxy" || c.Password != "secret" || c.HasWill || !c.CleanStart || c.ClientID != p.probeID {
		t.Errorf("sent %+v", c)
	}
}
