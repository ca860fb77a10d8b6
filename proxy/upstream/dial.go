package upstream

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"syscall"
	"time"

	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/proxy/internal/relay"
	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/proxy/proxyproto"
)

// keepAlive is for connections to brokers. It finds a broker that is gone while the session is
// idle. Go's default of 15 s would send thousands of probes per second when many sessions are
// idle, and a timer for each connection would cost memory.
const (
	keepAliveIdle     = 60 * time.Second
	keepAliveInterval = 15 * time.Second
	keepAliveCount    = 4
	// userTimeout is how long sent data may remain unacknowledged. Keep-alive gives up after
	// the same time: with any other value the kernel would ignore keepAliveCount.
	userTimeout = keepAliveIdle + keepAliveCount*keepAliveInterval
)

// Dialer opens connections to brokers. The zero value is ready to use.
type Dialer struct {
	// TLS secures the connections to tls:// servers. Nil means the system's
	// authorities, no client certificate and no resumption.
	TLS *TLS
	// ProxyProtocol is the version, 1 or 2, of the PROXY protocol header that every connection
	// begins with, before TLS; 0 for none. Dial takes the header from its context (see
	// [proxyproto.FromContext]). If there is none, the header says that the proxy connects for
	// itself.
	ProxyProtocol int

	// connect replaces the net.Dialer in tests.
	connect func(ctx context.Context, network, address string) (net.Conn, error)
}

// Dial returns a connection to the server. It is a *net.TCPConn, a *net.UnixConn, or a
// *tls.Conn over a relay.Socket with its handshake done. It has no deadline, and the end of ctx
// no longer affects it. Names are looked up at every dial, so that a broker may move. The
// addresses of a name are tried in turn, IPv4 and IPv6 addresses in parallel (RFC 6555).
//
// The end of ctx is the only limit: it covers the lookup, the connection and the TLS handshake
// together. The error then matches context.DeadlineExceeded or context.Canceled with errors.Is.
//
// In TLS 1.3 the client's side of the handshake ends before the server has checked the client's
// certificate. If the broker refuses it, the first read fails.
func (d *Dialer) Dial(ctx context.Context, server Server) (net.Conn, error) {
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

// sendHeader sends the PROXY protocol header if one is configured. The header fits into the
// buffer of a new socket, so the write does not block.
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
		return nil, d.explainHandshake(err, config.ServerName)
	}
	return secured, nil
}

// explainHandshake adds to err the name that was expected and what the operator can do.
func (d *Dialer) explainHandshake(err error, name string) error {
	if _, ok := errors.AsType[x509.HostnameError](err); ok {
		return fmt.Errorf("the certificate is not for %q; set the server name if the broker is known by another: %w", name, err)
	}
	if _, ok := errors.AsType[x509.UnknownAuthorityError](err); ok {
		return fmt.Errorf("the certificate for %q is from an unknown authority; set the CA file that it comes from: %w", name, err)
	}
	if _, ok := errors.AsType[*tls.CertificateVerificationError](err); ok {
		return fmt.Errorf("the certificate for %q is not valid: %w", name, err)
	}
	// A broker's plain-text port closes or resets the connection when it receives a
	// ClientHello.
	_, plain := errors.AsType[tls.RecordHeaderError](err)
	silent := plain || errors.Is(err, io.EOF) || errors.Is(err, syscall.ECONNRESET)
	if silent && d.ProxyProtocol != 0 {
		return fmt.Errorf("the server ended the handshake without TLS; is this its tcp:// port, or does it expect no PROXY protocol header? %w", err)
	}
	if silent {
		return fmt.Errorf("the server ended the handshake without TLS; is this its tcp:// port? %w", err)
	}
	return fmt.Errorf("tls handshake: %w", err)
}
