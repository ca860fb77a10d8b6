package proxy

import (
	"context"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/hex"
	"errors"
	"io"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/authz"
	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/authz/certtest"
	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/packets"
	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/packets/packetstest"
)

// scriptedListener returns what Accept is to return, in order, and then waits
// for Close.
type scriptedListener struct {
	script []any // error or net.Conn
	closed chan struct{}
	once   sync.Once
}

func (l *scriptedListener) Accept() (net.Conn, error) {
	if len(l.script) > 0 {
		next := l.script[0]
		l.script = l.script[1:]
		if err, ok := next.(error); ok {
			return nil, err
		}
		return next.(net.Conn), nil
	}
	<-l.closed
	return nil, net.ErrClosed
}

func (l *scriptedListener) Close() error { l.once.Do(func() { close(l.closed) }); return nil }
func (l *scriptedListener) Addr() net.Addr {
	return &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: 1883}
}

// TestAcceptErrorsDoNotEndTheListener: it backs off from 5 ms to 1 s and goes
// on.
func TestAcceptErrorsDoNotEndTheListener(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t)
		var pauses []time.Duration
		b.srv.Trace.AcceptFailed = func(_ string, _ error, retry time.Duration) { pauses = append(pauses, retry) }
		if err := b.srv.SetPolicy(&b.policy); err != nil {
			t.Fatal(err)
		}
		device, accepted := net.Pipe()
		ln := &scriptedListener{closed: make(chan struct{})}
		for range 10 {
			ln.script = append(ln.script, &net.OpError{Op: "accept", Err: syscall.EMFILE})
		}
		ln.script = append(ln.script, accepted)
		served := make(chan error, 1)
		go func() { served <- b.srv.Serve(ln) }()
		c := packetstest.New(t, device, 4)
		p := with(4, "d", goodToken)
		c.Send(p.Append(nil))
		if ack, err := c.ReadConnack(); err != nil || ack.Code != 0 {
			t.Fatal(ack, err)
		}
		if len(pauses) != 10 || pauses[0] != 5*time.Millisecond || pauses[9] != time.Second {
			t.Errorf("pauses %v", pauses)
		}
		device.Close()
		b.srv.Close()
		if err := <-served; err != ErrServerClosed {
			t.Errorf("Serve returned %v", err)
		}
		if err := b.srv.Serve(&scriptedListener{closed: make(chan struct{})}); err != ErrServerClosed {
			t.Errorf("Serve after Close returned %v", err)
		}
	})
}

func TestLimitOnConnections(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t)
		b.policy.Limits.Connections = 2
		var dropped atomic.Int32
		b.srv.Trace.Dropped = func(string) { dropped.Add(1) }
		first := b.mustLogin(with(5, "a", goodToken))
		b.mustLogin(with(5, "b", goodToken))
		_, ack, err := b.login(with(5, "c", goodToken))
		if err != nil || ack.Code != packets.ServerBusy || b.lastRefusal().Reason != Busy {
			t.Errorf("CONNACK %v, error %v", ack.Code, err)
		}
		time.Sleep(2 * second)
		// Those that may only be refused are limited as well.
		for range maxRefusing {
			b.connect()
		}
		synctest.Wait()
		b.connect().ExpectEnd()
		synctest.Wait()
		if n := dropped.Load(); n != 1 {
			t.Errorf("%d connections were dropped, want 1", n)
		}
		time.Sleep(second) // the silent ones reach their deadline
		synctest.Wait()
		if n := b.srv.Stats().Connections; n != 2 || b.lastRefusal().Reason != Busy {
			t.Errorf("%d connections after a second, the last was refused as %v", n, b.lastRefusal().Reason)
		}
		first.Close()
		b.lastEnd()
		b.mustLogin(with(5, "d", goodToken))
	})
}

func TestLimitPerAddress(t *testing.T) {
	b := newAdmissionBench(&Policy{Limits: Limits{PerAddress: 2}})
	enter := func(addr string) (*conn, bool) {
		c, ok := b.enter(addr)
		return c, ok && c.arrival.excess == nil
	}
	one, ok1 := enter("192.0.2.1")
	_, ok2 := enter("192.0.2.1")
	three, ok3 := enter("192.0.2.1")
	_, other := enter("192.0.2.2")
	if !ok1 || !ok2 || ok3 || !other {
		t.Errorf("admitted %v %v %v, other address %v", ok1, ok2, ok3, other)
	}
	b.release(three) // was not counted for the address
	if _, ok := enter("192.0.2.1"); ok {
		t.Error("a refused connection gave a place back")
	}
	b.release(one)
	if _, ok := enter("192.0.2.1"); !ok {
		t.Error("the place of a closed connection is not given back")
	}
	enter("2001:db8::1")
	enter("2001:db8::2")
	if _, ok := enter("2001:db8::3"); ok {
		t.Error("one /64 counts as several addresses")
	}
	if _, ok := enter("2001:db8:0:1::1"); !ok {
		t.Error("another /64 is not another address")
	}
}

func TestShutdownDisconnectsEverySession(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t)
		c := b.mustLogin(with(5, "d", goodToken))
		silent := b.connect()
		synctest.Wait()
		done := make(chan error, 1)
		start := time.Now()
		go func() { done <- b.srv.Shutdown(context.Background()) }()
		c.ExpectEnd(0xe0, 0x01, 0x8b)
		silent.ExpectEnd()
		if err := <-done; err != nil || time.Since(start) > 2*second {
			t.Errorf("Shutdown returned %v after %v", err, time.Since(start))
		}
		late := b.connect()
		late.ExpectEnd()
	})
}

func TestConnectDuringShutdownIsRefused(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t)
		c := b.connect()
		synctest.Wait()
		go b.srv.Shutdown(context.Background())
		time.Sleep(500 * time.Millisecond)
		p := with(4, "d", goodToken)
		go c.Write(p.Append(nil))
		if ack, err := c.ReadConnack(); err != nil || ack.Code != packets.RefusedServerUnavailable {
			t.Errorf("CONNACK %v, error %v", ack.Code, err)
		}
		if r := b.lastRefusal(); r.Reason != Draining {
			t.Errorf("reason %v", r.Reason)
		}
		time.Sleep(2 * second)
	})
}

// TestShutdownEndsWithItsContext: what does not end by itself is cut.
func TestShutdownEndsWithItsContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t)
		b.policy.Authorizer = authorizerFunc(func(ctx context.Context, _ authz.Request) (*authz.Grant, error) {
			<-ctx.Done()
			return nil, ctx.Err()
		})
		b.policy.ConnectTimeout = time.Hour
		c := b.connect()
		p := with(4, "d", goodToken)
		c.Send(p.Append(nil))
		synctest.Wait()
		ctx, cancel := context.WithTimeout(context.Background(), 5*second)
		defer cancel()
		start := time.Now()
		err := b.srv.Shutdown(ctx)
		if !errors.Is(err, context.DeadlineExceeded) || time.Since(start) > 7*second {
			t.Errorf("Shutdown returned %v after %v", err, time.Since(start))
		}
	})
}

// TestCloseDuringShutdownIsImmediate: Close does not wait for the last packets of a shutdown.
func TestCloseDuringShutdownIsImmediate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t)
		b.mustLogin(with(4, "d", goodToken)) // which neither reads nor closes
		synctest.Wait()
		done := make(chan error, 1)
		ctx, cut := context.WithCancel(context.Background())
		go func() { done <- b.srv.Shutdown(ctx) }()
		time.Sleep(100 * time.Millisecond)
		start := time.Now()
		cut()
		if err := <-done; !errors.Is(err, context.Canceled) || time.Since(start) != 0 {
			t.Errorf("Shutdown returned %v %v after it was called off", err, time.Since(start))
		}
	})
}

func TestServeNeedsAPolicy(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var s Server
	if err := s.Serve(ln); err == nil || errors.Is(err, ErrServerClosed) || !strings.Contains(err.Error(), "SetPolicy") {
		t.Errorf("Serve returned %v, want an error that names SetPolicy", err)
	}
	if _, err := net.Dial("tcp", ln.Addr().String()); err == nil {
		t.Error("the listener is still open")
	}
}

func TestPolicyMustBeComplete(t *testing.T) {
	var s Server
	if err := s.SetPolicy(&Policy{}); err == nil {
		t.Error("a policy without authorizer is accepted")
	}
	if err := s.SetPolicy(&Policy{Authorizer: knowsGood}); err == nil {
		t.Error("a policy without upstream is accepted")
	}
}

// testCertificate makes a self-signed certificate for localhost.
func testCertificate() (tls.Certificate, *x509.CertPool) {
	c := certtest.SelfSigned(&x509.Certificate{
		DNSNames:    []string{"localhost"},
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	})
	return c.TLS(), c.Pool()
}

// serveTLS runs a server with a TLS listener on a real socket.
func serveTLS(t *testing.T, configure func(*Server, *Policy)) (addr string, pool *x509.CertPool) {
	t.Helper()
	cert, pool := testCertificate()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	broker := &fakeBroker{}
	policy := &Policy{Authorizer: knowsGood, Upstream: DialFunc(broker.dial)}
	srv := &Server{}
	if configure != nil {
		configure(srv, policy)
	}
	if err := srv.SetPolicy(policy); err != nil {
		t.Fatal(err)
	}
	served := make(chan error, 1)
	go func() {
		served <- srv.Serve(&Listener{Listener: ln, Name: "mqtts", TLS: &tls.Config{Certificates: []tls.Certificate{cert}}})
	}()
	t.Cleanup(func() {
		srv.Close()
		if err := <-served; err != ErrServerClosed {
			t.Errorf("Serve returned %v", err)
		}
	})
	return ln.Addr().String(), pool
}

func TestTLSListener(t *testing.T) {
	for _, version := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
		t.Run(tls.VersionName(version), func(t *testing.T) {
			opened := make(chan *Client, 1)
			addr, pool := serveTLS(t, func(s *Server, _ *Policy) { s.Trace.Opened = func(c *Client) { opened <- c } })
			conn, err := tls.Dial("tcp", addr, &tls.Config{RootCAs: pool, ServerName: "localhost", MinVersion: version, MaxVersion: version})
			if err != nil {
				t.Fatal(err)
			}
			defer conn.Close()
			c := packetstest.New(t, conn, 4)
			p := with(4, "d", goodToken)
			c.Send(append(p.Append(nil), publish...))
			if ack, err := c.ReadConnack(); err != nil || ack.Code != 0 {
				t.Fatal(ack, err)
			}
			back := make([]byte, len(publish))
			if _, err := io.ReadFull(conn, back); err != nil || string(back) != string(publish) {
				t.Errorf("got % x, %v", back, err)
			}
			if got := <-opened; got.TLS != version || got.Listener != "mqtts" || !got.Addr.IsValid() {
				t.Errorf("client %+v", got)
			}
		})
	}
}

// TestSilentClientsDoNotBlockHandshakes: only a client whose ClientHello is there
// takes a slot, and not for long.
func TestSilentClientsDoNotBlockHandshakes(t *testing.T) {
	addr, pool := serveTLS(t, func(_ *Server, p *Policy) { p.Limits.Handshakes = 1 })
	for range 20 {
		silent, err := net.Dial("tcp", addr)
		if err != nil {
			t.Fatal(err)
		}
		defer silent.Close()
		if _, err := silent.Write([]byte{0x16, 0x03, 0x01}); err != nil {
			t.Fatal(err)
		}
	}
	var wg sync.WaitGroup
	for range 20 {
		wg.Go(func() {
			conn, err := tls.Dial("tcp", addr, &tls.Config{RootCAs: pool, ServerName: "localhost"})
			if err != nil {
				t.Error(err)
				return
			}
			conn.Close()
		})
	}
	wg.Wait()
}

func TestHandshakeSlotIsGivenBackByAStalledClient(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		slots := handshakeSlots(1)
		stalled := &handshakeSlot{slots: slots, ctx: t.Context(), deadline: time.Now().Add(time.Minute)}
		if err := stalled.acquire(); err != nil {
			t.Fatal(err)
		}
		start := time.Now()
		next := &handshakeSlot{slots: slots, ctx: t.Context(), deadline: time.Now().Add(time.Minute)}
		if err := next.acquire(); err != nil || time.Since(start) != slotHold {
			t.Errorf("entered with %v after %v, want %v", err, time.Since(start), slotHold)
		}
		stalled.release()
		if len(slots) != 1 {
			t.Error("a slot was given back twice")
		}
		next.release()
		if len(slots) != 0 {
			t.Error("the slot was not given back")
		}
	})
}

func TestPlainClientOnTheTLSPort(t *testing.T) {
	refused := make(chan Refusal, 1)
	addr, _ := serveTLS(t, func(s *Server, _ *Policy) { s.Trace.Refused = func(r Refusal) { refused <- r } })
	conn, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	p := with(4, "d", goodToken)
	if _, err := conn.Write(p.Append(nil)); err != nil {
		t.Fatal(err)
	}
	if r := <-refused; r.Reason != TLSFailed {
		t.Errorf("refusal %+v", r)
	}
}

// TestCertificateAsToken: a device without a token of its own is known by its
// verified certificate.
func TestCertificateAsToken(t *testing.T) {
	cert, pool := testCertificate()
	digest := sha256.Sum256(cert.Certificate[0])
	fingerprint := "certificate:" + hex.EncodeToString(digest[:])
	username, err := ParseTokenLocation("username")
	if err != nil {
		t.Fatal(err)
	}
	location, err := ParseTokenLocation("certificate")
	if err != nil {
		t.Fatal(err)
	}
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var broker fakeBroker
	srv := &Server{}
	t.Cleanup(func() { srv.Close() })
	err = srv.SetPolicy(&Policy{
		Token:    []TokenLocation{location, username},
		Upstream: DialFunc(broker.dial),
		Authorizer: authorizerFunc(func(_ context.Context, r authz.Request) (*authz.Grant, error) {
			if r.Token.Reveal() != fingerprint {
				return nil, authz.ErrUnknown
			}
			return &authz.Grant{Subject: "certified"}, nil
		}),
	})
	if err != nil {
		t.Fatal(err)
	}
	go srv.Serve(&Listener{Listener: ln, TLS: &tls.Config{
		Certificates: []tls.Certificate{cert}, ClientCAs: pool, ClientAuth: tls.VerifyClientCertIfGiven,
	}})
	for _, tt := range []struct {
		name     string
		shown    []tls.Certificate
		username string
		want     packets.ReasonCode
	}{
		{"with the certificate", []tls.Certificate{cert}, "", packets.Success},
		{"without one", nil, "", packets.RefusedIdentifier},
		{"with its fingerprint alone", nil, fingerprint, packets.RefusedNotAuthorized},
	} {
		conn, err := tls.Dial("tcp", ln.Addr().String(), &tls.Config{RootCAs: pool, ServerName: "localhost", Certificates: tt.shown})
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		c := packetstest.New(t, conn, 4)
		p := with(4, "d", tt.username)
		c.Send(p.Append(nil))
		if ack, err := c.ReadConnack(); err != nil || ack.Code != tt.want {
			t.Errorf("%s: CONNACK %v, %v; want %v", tt.name, ack.Code, err, tt.want)
		}
	}
}
