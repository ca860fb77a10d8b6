package proxy

import (
	"context"
	"fmt"
	"net"
)

// Upstream connects clients to brokers. See [DialFunc] for a single broker, and package
// pool for several.
type Upstream interface {
	// Connect opens a connection to a broker and lets greet have the client's
	// CONNECT answered on it. As long as greet reports that a broker has not
	// answered, Connect may close that connection and try another broker, until
	// the end of ctx. It returns the link that was greeted, or the last error.
	//
	// It is called from the goroutine of the connection concerned, many at the
	// same time, and must not change r.
	Connect(ctx context.Context, r *ConnectRequest, greet Greet) (Link, error)
}

// Greet sends a CONNECT on nc and waits for the broker's answer, until the end of
// ctx. It reports whether the broker answered at all, whatever it said. An error
// after an answer is not the broker's fault, and no other broker is to be tried
// after it. nc is of no use after an error.
type Greet func(ctx context.Context, nc net.Conn) (answered bool, err error)

// Link is a connection to a broker that has answered the CONNECT.
type Link struct {
	Conn net.Conn
	// Server names the broker, for [Client.Server]; empty if it has no name.
	Server string
	// Release, if not nil, is called once when the session has ended and Conn is
	// closed.
	Release func()
}

// DialFunc is the [Upstream] of a single broker: it opens a connection to it for a
// client.
type DialFunc func(ctx context.Context, c *Client) (net.Conn, error)

// Connect implements [Upstream].
func (dial DialFunc) Connect(ctx context.Context, r *ConnectRequest, greet Greet) (Link, error) {
	nc, err := dial(ctx, r.Client)
	if err != nil {
		return Link{}, fmt.Errorf("dial: %w", err)
	}
	if _, err := greet(ctx, nc); err != nil {
		nc.Close()
		return Link{}, err
	}
	return Link{Conn: nc}, nil
}
