package admin

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"testing"
)

// fakeConn is a connection from an address.
type fakeConn struct {
	net.Conn
	from   string
	closed bool
}

func (c *fakeConn) RemoteAddr() net.Addr {
	return &net.TCPAddr{IP: net.ParseIP(c.from), Port: 1}
}
func (c *fakeConn) Close() error { c.closed = true; return nil }

// TestFloodOfConnectionsClosesItsOwn: connections beyond the bound close the oldest of the address
// that has most without a token.
func TestFloodOfConnectionsClosesItsOwn(t *testing.T) {
	open := &connections{most: 8}
	connect := func(from string, states ...http.ConnState) *fakeConn {
		c := &fakeConn{from: from}
		open.changed(c, http.StateNew)
		for _, state := range states {
			open.changed(c, state)
		}
		return c
	}
	trusted := connect("192.0.2.1")
	open.inContext(t.Context(), trusted).Value(connectionKey{}).(func())()
	probe := connect("198.51.100.1", http.StateActive, http.StateIdle)
	for _, network := range []string{"192.0.2.", "2001:db8::"} { // each is one address
		var flood []*fakeConn
		for i := range 50 {
			from := network + "1"
			if network == "2001:db8::" {
				from = fmt.Sprintf("%s%x", network, i+1)
			}
			flood = append(flood, connect(from, http.StateActive))
		}
		for i, c := range flood[:50-6] {
			if !c.closed {
				t.Errorf("connection %d from %s is still open", i, network)
			}
		}
		if flood[49].closed {
			t.Errorf("the last connection from %s is closed", network)
		}
		for _, c := range flood {
			open.changed(c, http.StateClosed)
		}
	}
	if trusted.closed || probe.closed || len(open.open) != 2 {
		t.Errorf("after floods: a client with a token closed: %v, one elsewhere: %v, %d open", trusted.closed, probe.closed, len(open.open))
	}
}

// TestConnectionsAreBounded: with as many connections of one address as there may be, operators go
// on, and can connect.
func TestConnectionsAreBounded(t *testing.T) {
	s := httptest.NewUnstartedServer(nil)
	s.Config = NewServer(Options{Access: operator(testToken), Ready: func() error { return nil }, Connections: 8})
	s.Start()
	defer s.Close()
	connect := func() (net.Conn, func() int) {
		c, err := net.Dial("tcp", s.Listener.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { c.Close() })
		answers := bufio.NewReader(c)
		return c, func() int {
			fmt.Fprintf(c, "GET /v1/nothing HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer %s\r\n\r\n", testToken)
			resp, err := http.ReadResponse(answers, nil)
			if err != nil {
				return 0
			}
			defer resp.Body.Close()
			_, _ = io.Copy(io.Discard, resp.Body)
			return resp.StatusCode
		}
	}
	_, operate := connect()
	if got := operate(); got != http.StatusNotFound {
		t.Fatalf("an operator gets %d", got)
	}
	var flood []net.Conn
	for range 50 {
		c, _ := connect()
		flood = append(flood, c)
	}
	for i, c := range flood[:50-7] {
		if _, err := c.Read(make([]byte, 1)); err == nil {
			t.Errorf("connection %d of the flood is still open", i)
		}
	}
	if got := operate(); got != http.StatusNotFound {
		t.Errorf("an operator gets %d after the flood", got)
	}
	if _, again := connect(); again() != http.StatusNotFound {
		t.Error("an operator cannot connect after the flood")
	}
}
