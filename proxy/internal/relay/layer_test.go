package relay

import (
	"crypto/tls"
	"net"
	"testing"
)

// frameConn is a layer with frames: a length of one byte, and so many bytes in an encoded form. A
// read that gets only lengths continues.
type frameConn struct {
	net.Conn
	left int
}

func (c *frameConn) Read(b []byte) (int, error) {
	for {
		n, err := c.Conn.Read(b)
		m := 0
		for _, v := range b[:n] {
			if c.left == 0 {
				c.left = int(v)
				continue
			}
			b[m] = ^v
			m++
			c.left--
		}
		if m > 0 {
			return m, nil
		}
		if err != nil || len(b) == 0 {
			return 0, err
		}
	}
}

// Write writes b in frames, with an empty one before and behind each.
func (c *frameConn) Write(b []byte) (int, error) {
	var out []byte
	for rest := b; len(rest) > 0; {
		part := rest[:min(len(rest), 255)]
		out = append(out, 0, byte(len(part)))
		for _, v := range part {
			out = append(out, ^v)
		}
		out = append(out, 0)
		rest = rest[len(part):]
	}
	if _, err := c.Conn.Write(out); err != nil {
		return 0, err
	}
	return len(b), nil
}

func (c *frameConn) CloseWrite() error {
	if w, ok := c.Conn.(closeWriter); ok {
		return w.CloseWrite()
	}
	return nil
}

// layerPair is frames over TCP, or over TLS.
func layerPair(t testing.TB, server, secured bool) (peer net.Conn, ours Stack) {
	if secured {
		peer, ours = tlsPair(t, server, tls.VersionTLS13)
	} else {
		peer, ours = stacked(tcpPair(t))
	}
	ours.Conn = &frameConn{Conn: ours.Conn}
	return &frameConn{Conn: peer}, ours
}
