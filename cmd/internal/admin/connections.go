package admin

import (
	"cmp"
	"context"
	"crypto/tls"
	"net"
	"net/http"
	"net/netip"
	"sync"
	"time"
)

// connections are the open connections of the admin side. There is a bound, since those who can
// reach the admin side need no token to open connections, and each takes a file descriptor that a
// device could need. Beyond the bound the one that is missed least is closed, so that a flood from
// one address does not lock operators at others out.
type connections struct {
	most int

	mu   sync.Mutex
	open map[net.Conn]*connection
}

// connection is what is known of one connection. It is guarded by connections.mu.
type connection struct {
	from    netip.Prefix
	trusted bool // it has sent a token, or the cookie of a sign-in
	since   time.Time
}

type connectionKey struct{}

// inContext is for http.Server.ConnContext.
func (s *connections) inContext(ctx context.Context, nc net.Conn) context.Context {
	return context.WithValue(ctx, connectionKey{}, func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		if c := s.open[nc]; c != nil {
			c.trusted = true
		}
	})
}

// trustConnection notes that the client of a request has a role.
func trustConnection(r *http.Request) {
	if trust, ok := r.Context().Value(connectionKey{}).(func()); ok {
		trust()
	}
}

// changed is for http.Server.ConnState.
func (s *connections) changed(nc net.Conn, state http.ConnState) {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch state {
	case http.StateNew:
		if s.open == nil {
			s.open = make(map[net.Conn]*connection)
		}
		s.open[nc] = &connection{from: networkOfConn(nc), since: time.Now()}
		if len(s.open) > s.most {
			s.closeOne()
		}
	case http.StateClosed, http.StateHijacked:
		delete(s.open, nc)
	}
}

// closeOne closes the connection that is missed least: of those without a token, one of the address
// that has most of them, the oldest. s.mu is held.
func (s *connections) closeOne() {
	counts := make(map[netip.Prefix]int)
	for _, c := range s.open {
		if !c.trusted {
			counts[c.from]++
		}
	}
	var worst net.Conn
	for nc, c := range s.open {
		if worst == nil || c.compare(s.open[worst], counts) < 0 {
			worst = nc
		}
	}
	delete(s.open, worst)
	if secured, ok := worst.(*tls.Conn); ok {
		worst = secured.NetConn() // without an alert, which could wait for the client
	}
	_ = worst.Close() // its goroutine finds out
}

// compare is negative if c is missed less than other.
func (c *connection) compare(other *connection, counts map[netip.Prefix]int) int {
	return cmp.Or(
		trust(c)-trust(other),
		cmp.Compare(counts[other.from], counts[c.from]),
		c.since.Compare(other.since),
	)
}

// trust is 1 for a connection that has sent a token.
func trust(c *connection) int {
	if c.trusted {
		return 1
	}
	return 0
}

// networkOfConn returns the network that counts as one address.
func networkOfConn(nc net.Conn) netip.Prefix {
	at, ok := nc.RemoteAddr().(*net.TCPAddr)
	if !ok {
		return netip.Prefix{}
	}
	return networkOfAddr(at.AddrPort().Addr().Unmap().WithZone(""))
}

// networkOfAddr returns an IPv4 address, or the /64 of an IPv6 address, the smallest network that a
// site gets. It is the zero Prefix for an address that is not known.
func networkOfAddr(a netip.Addr) netip.Prefix {
	bits := 32
	if a.Is6() {
		bits = 64
	}
	network, _ := a.Prefix(bits) // an error only for the zero Addr
	return network
}
