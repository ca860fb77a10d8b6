package proxy

import (
	"context"
	"fmt"
	"net"
)

// Upstream connects clients to brokers. See [DialFunc] for a single broker, and package
// pool for several.
type Upstream interface {
	// Connect opens a connection to a broker and calls greet with it, which has the
	// client's CONNECT answered. If greet reports that the broker has not answered,
	// Connect may close that connection and try another broker, until ctx ends. It
	// returns the connection that was greeted without an error, or the last error.
	//
	// Connect is called from the goroutine of the client's connection, so many calls run
	// at the same time. It must not change r.
	Connect(ctx context.Context, r *ConnectRequest, greet Greet) (Link, error)
}

// Greet sends a CONNECT on nc and waits for the broker's answer until ctx ends. It reports
// whether the broker answered at all, with success or not. An error after an answer is not
// the broker's fault, and no other broker may be tried after it. After any error the caller
// must close nc.
type Greet func(ctx context.Context, nc net.Conn) (answered bool, err error)

// Link is a connection to a broker that has answered the CONNECT.
type Link struct {
	Conn net.Conn
	// Server is the name of the broker, for [Client.Server]. It may be empty.
	Server string
	// Release, if not nil, is called once, when Conn has been closed.
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
