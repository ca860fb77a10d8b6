package proxy

import (
	"context"
	"errors"
	"fmt"
	"net"
	"time"

	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/packets"
	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/proxy/internal/inspect"
	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/proxy/proxyproto"
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
	// Release, if not nil, is called once, when Conn has been closed. It must not wait.
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

const (
	// maxAnswer is the size in bytes of the largest CONNACK or AUTH that is passed on.
	// Without properties a CONNACK has at most 5.
	maxAnswer = 64 << 10
	// maxRounds bounds the AUTH packets between CONNECT and CONNACK (MQTT 5.0 section
	// 4.12).
	maxRounds = 16
)

// link is the stage of a connection that follows its login: the connection to the broker, and the
// answer to the CONNECT.
type link struct {
	conn     net.Conn       // nil until the broker has answered
	assignID bool           // the CONNACK must have the id that was made up for a 5.0 client
	takes    inspect.Limits // what the broker takes, as its CONNACK says
	resumed  bool           // the broker may have kept a session of the client

	refusal     []byte // the broker's CONNACK if it refuses, as the client will get it
	refusalCode packets.ReasonCode
}

// connectUpstream has the CONNECT answered by a broker and passes the answer on.
func (c *conn) connectUpstream(r *ConnectRequest) error {
	ctx, cancel := context.WithTimeout(proxyproto.NewContext(c.ctx, c.arrival.proxyHeader), c.policy.upstreamTimeout())
	defer cancel()
	var raw []byte
	link, err := c.policy.Upstream.Connect(ctx, r, func(ctx context.Context, nc net.Conn) (answered bool, err error) {
		raw, answered, err = c.greet(ctx, nc, r.Out)
		return answered, err
	})
	if err != nil {
		return c.upstreamError(ctx, err)
	}
	c.attach(link)
	return c.passAnswer(raw, r.Out)
}

// greet sends the CONNECT and returns the CONNACK as it came. If there is none, it sends a
// DISCONNECT: if the connection ended without one, a broker that was only slow would publish the
// will.
func (c *conn) greet(ctx context.Context, nc net.Conn, out *packets.Connect) (raw []byte, answered bool, err error) {
	raw, answered, err = c.exchange(ctx, nc, out)
	if err != nil && nc.SetDeadline(time.Now().Add(disconnectTimeout)) == nil {
		_, _ = nc.Write((&packets.Disconnect{}).Append(nil, c.login.level))
	}
	return raw, answered, err
}

// disconnectTimeout is how long a broker that did not answer has to accept a DISCONNECT.
const disconnectTimeout = 50 * time.Millisecond

// exchange sends the CONNECT and reads the answer, until ctx ends.
func (c *conn) exchange(ctx context.Context, nc net.Conn, out *packets.Connect) (raw []byte, answered bool, err error) {
	defer interruptible(ctx, nc)()
	if _, err := nc.Write(out.Append(nil)); err != nil {
		return nil, false, fmt.Errorf("send CONNECT: %w", err)
	}
	raw, answered, err = c.readAnswer(nc)
	if err != nil {
		return nil, answered, fmt.Errorf("read CONNACK: %w", err)
	}
	return raw, true, nil
}

// attach takes over the link that an Upstream has made.
func (c *conn) attach(l Link) {
	c.link.conn, c.login.session.release = l.Conn, l.Release
	if l.Server != "" {
		c.login.client = c.login.session.change(func(client *Client) { client.Server = l.Server })
	}
}

// interruptible ends all reads and writes of nc when ctx ends, until the returned function
// is called.
func interruptible(ctx context.Context, nc net.Conn) (release func()) {
	done := make(chan struct{})
	stop := context.AfterFunc(ctx, func() {
		defer close(done)
		_ = nc.SetDeadline(time.Unix(1, 0))
	})
	return func() {
		if !stop() {
			<-done
		}
	}
}

// upstreamError returns the refusal for an error on the way to the broker. If the session
// was cut meanwhile, that is its reason.
func (c *conn) upstreamError(ctx context.Context, err error) error {
	var refused *RefusedError
	switch cause := context.Cause(ctx); {
	case cause == nil, errors.Is(cause, context.DeadlineExceeded):
	default:
		return refuse(cutInfo(cause).refused, fmt.Errorf("%w while connecting", cause))
	}
	if errors.As(err, &refused) {
		return err
	}
	if isTimeout(err) {
		err = fmt.Errorf("%w: no answer within %v", err, c.policy.upstreamTimeout())
	}
	return refuse(UpstreamUnavailable, err)
}

// readAnswer returns the broker's CONNACK as it came. It passes AUTH packets before the CONNACK to
// the client, and the client's answers back, unless they are between client and proxy. An AUTH is
// an answer of the broker too: from then on no other broker can take its place.
func (c *conn) readAnswer(nc net.Conn) (raw []byte, answered bool, err error) {
	for range maxRounds {
		raw, err := packets.ReadPacket(nc, maxAnswer)
		if err != nil {
			return nil, answered, err
		}
		switch t := packets.Type(raw[0] >> 4); {
		case t == packets.CONNACK:
			return raw, true, nil
		case t != packets.AUTH || c.login.level != 5 || c.ownsAuth():
			return nil, answered, fmt.Errorf("the broker answered CONNECT with %v", t)
		}
		answered = true
		if err := c.authRound(nc, raw); err != nil {
			return nil, true, err
		}
	}
	return nil, true, errors.New("too many AUTH packets")
}

// authRound passes one AUTH of the broker to the client, and the client's answer back.
func (c *conn) authRound(nc net.Conn, raw []byte) error {
	if err := c.write(raw, c.policy.connectTimeout()); err != nil {
		return refuse(ConnectionLost, err)
	}
	answer, err := packets.ReadPacket(c.arrival.transport.Conn, c.policy.maxConnect())
	if err != nil {
		return c.connectError(err)
	}
	if t := packets.Type(answer[0] >> 4); t != packets.AUTH {
		return refuse(ConnectionLost, fmt.Errorf("the client answered AUTH with %v", t))
	}
	_, err = nc.Write(answer)
	return err
}

// write sends b to the client, which has to accept it within the given time.
func (c *conn) write(b []byte, within time.Duration) error {
	if err := c.arrival.raw.SetDeadline(time.Now().Add(within)); err != nil {
		return err
	}
	_, err := c.arrival.transport.Conn.Write(b)
	return err
}
