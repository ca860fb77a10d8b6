package upstream

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"syscall"
	"time"

	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/proxy/internal/relay"
	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/proxy/proxyproto"
)

// DefaultTimeout is the limit of [Dialer.Dial] if none is set.
const DefaultTimeout = 5 * time.Second

// Keep-alive of a broker's connection. It finds a broker that is gone while the
// session is idle: Go's own 15 s would be thousands of probes a second with many
// idle sessions, and a timer a connection would cost memory.
const (
	keepAliveIdle     = 60 * time.Second
	keepAliveInterval = 15 * time.Second
	keepAliveCount    = 4
	// userTimeout is how long sent data may stay without acknowledgement. It is
	// the time after which keep-alive gives up too; with any other value the
	// kernel would ignore keepAliveCount.
	userTimeout = keepAliveIdle + keepAliveCount*keepAliveInterval
)

// Dialer opens connections to a broker that has one or several addresses.
type Dialer struct {
	// Servers are tried in this order until one answers. Names are looked up at
	// every dial, so that a broker may move.
	Servers []Server
	// Timeout is the limit for looking up, connecting and the TLS handshake, for
	// all servers together. Each gets an equal share of what is left when its turn
	// comes, so that one that swallows packets does not use it up for the others.
	// Zero and less means [DefaultTimeout].
	Timeout time.Duration
	// TLS secures the connections to tls:// servers. Nil means the system's
	// authorities, no client certificate and no resumption.
	TLS *TLS
	// ProxyProtocol is the version, 1 or 2, of the PROXY protocol header that every
	// connection begins with, before TLS; 0 for none. It says what
	// [proxyproto.FromContext] finds in the context of Dial; without anything there,
	// that the connection is the proxy's own.
	ProxyProtocol int

	// connect replaces the net.Dialer in tests.
	connect func(ctx context.Context, network, address string) (net.Conn, error)
}

// Dial returns a connection to the first server that answers. It is a
// *net.TCPConn, a *net.UnixConn, or a *tls.Conn over a relay.Socket with its
// handshake done. It has no deadline, and the end of ctx no longer affects it.
//
// The error names each server that was tried. errors.Is(err,
// context.DeadlineExceeded) holds if one of them ran out of time,
// errors.Is(err, context.Canceled) if ctx was cancelled.
//
// With TLS 1.3 a client's handshake ends before the server has looked at the
// client's certificate: a broker that refuses it says so at the first read.
func (d *Dialer) Dial(ctx context.Context) (net.Conn, error) {
	if len(d.Servers) == 0 {
		return nil, errors.New("no upstream server is configured")
	}
	ctx, cancel := context.WithTimeout(ctx, d.timeout())
	defer cancel()
	var failed failures
	for i, server := range d.Servers {
		conn, err := d.try(ctx, server, len(d.Servers)-i)
		if err == nil {
			return conn, nil
		}
		failed = append(failed, fmt.Errorf("%s: %w", server, err))
		if ctx.Err() != nil {
			break
		}
	}
	return nil, failed
}

func (d *Dialer) timeout() time.Duration {
	if d.Timeout > 0 {
		return d.Timeout
	}
	return DefaultTimeout
}

// try connects to one server within its share of the time that ctx has left.
// Waiting is the number of servers whose turn has not ended, this one included;
// which servers, and in what order, is for Dial alone to know.
func (d *Dialer) try(ctx context.Context, server Server, waiting int) (net.Conn, error) {
	if waiting > 1 {
		deadline, _ := ctx.Deadline()
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, time.Until(deadline)/time.Duration(waiting))
		defer cancel()
	}
	if server == (Server{}) {
		return nil, errors.New("empty server address")
	}
	conn, err := d.dialContext(ctx, server.network(), server.address)
	if err != nil {
		return nil, err
	}
	if err := d.sendHeader(ctx, conn); err != nil {
		_ = conn.Close()
		return nil, err
	}
	if !server.Secure() {
		return conn, nil
	}
	secured, err := d.handshake(ctx, conn, server.name())
	if err != nil {
		_ = conn.Close()
		return nil, err
	}
	return secured, nil
}

func (d *Dialer) dialContext(ctx context.Context, network, address string) (net.Conn, error) {
	if d.connect != nil {
		return d.connect(ctx, network, address)
	}
	var dialer net.Dialer
	keepAlive(&dialer)
	return dialer.DialContext(ctx, network, address)
}

// sendHeader begins the connection with a PROXY protocol header, if there is to be
// one. It fits into the buffer of a new socket, so the write does not wait.
func (d *Dialer) sendHeader(ctx context.Context, conn net.Conn) error {
	if d.ProxyProtocol == 0 {
		return nil
	}
	raw, err := proxyproto.FromContext(ctx).Append(nil, d.ProxyProtocol)
	if err != nil {
		return err
	}
	if deadline, ok := ctx.Deadline(); ok {
		if err := conn.SetWriteDeadline(deadline); err != nil {
			return err
		}
	}
	if _, err := conn.Write(raw); err != nil {
		return fmt.Errorf("PROXY protocol header: %w", err)
	}
	return conn.SetWriteDeadline(time.Time{})
}

func (d *Dialer) handshake(ctx context.Context, conn net.Conn, host string) (net.Conn, error) {
	config := d.TLS.config(host)
	secured := tls.Client(relay.NewSocket(conn), config)
	if err := secured.HandshakeContext(ctx); err != nil {
		return nil, explainHandshake(err, config.ServerName)
	}
	return secured, nil
}

// explainHandshake adds which name was expected and what can be done.
func explainHandshake(err error, name string) error {
	if _, ok := errors.AsType[x509.HostnameError](err); ok {
		return fmt.Errorf("the certificate is not for %q; set the server name if the broker is known by another: %w", name, err)
	}
	if _, ok := errors.AsType[x509.UnknownAuthorityError](err); ok {
		return fmt.Errorf("the certificate for %q is from an unknown authority; set the CA file that it comes from: %w", name, err)
	}
	if _, ok := errors.AsType[*tls.CertificateVerificationError](err); ok {
		return fmt.Errorf("the certificate for %q is not valid: %w", name, err)
	}
	// A broker's plain port hangs up on a ClientHello, or resets it half read.
	_, plain := errors.AsType[tls.RecordHeaderError](err)
	if plain || errors.Is(err, io.EOF) || errors.Is(err, syscall.ECONNRESET) {
		return fmt.Errorf("the server ended the handshake without TLS; is this its tcp:// port? %w", err)
	}
	return fmt.Errorf("tls handshake: %w", err)
}

// failures are the errors of all the servers that were tried, one each.
type failures []error

// Error joins them in one line. Names in a foreign certificate get into errors,
// hence the control characters are taken out.
func (f failures) Error() string {
	var b strings.Builder
	for i, err := range f {
		if i > 0 {
			b.WriteString("; ")
		}
		b.WriteString(err.Error())
	}
	return strings.Map(func(r rune) rune {
		if isControl(r) {
			return '?'
		}
		return r
	}, b.String())
}

// Unwrap lets errors.Is and errors.As see each of them.
func (f failures) Unwrap() []error { return f }
