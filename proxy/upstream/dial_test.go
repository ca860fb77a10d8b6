package upstream

import (
	"context"
	"errors"
	"io"
	"net"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"
)

// server returns the address of ln.
func server(t testing.TB, scheme string, ln net.Listener) Server {
	t.Helper()
	s, err := ParseServer(scheme + "://" + ln.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// serve listens on network and address and calls handle for each connection on a goroutine of
// its own. The end of the test waits for these goroutines.
func serve(t testing.TB, network, address string, handle func(net.Conn)) net.Listener {
	t.Helper()
	ln, err := net.Listen(network, address)
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			conn, err := ln.Accept()
			if err != nil {
				return
			}
			handle(conn)
			_ = conn.Close()
		}
	}()
	t.Cleanup(func() {
		_ = ln.Close()
		<-done
	})
	return ln
}

// toServer is a Dialer for one server.
type toServer struct {
	*Dialer
	server Server
}

func (d toServer) Dial(ctx context.Context) (net.Conn, error) { return d.Dialer.Dial(ctx, d.server) }

func echo(conn net.Conn) { _, _ = io.Copy(conn, conn) }

// checkEcho sends a few bytes and checks that they come back.
func checkEcho(t *testing.T, conn net.Conn) {
	t.Helper()
	if _, err := conn.Write([]byte("ping")); err != nil {
		t.Fatal(err)
	}
	got := make([]byte, 4)
	if _, err := io.ReadFull(conn, got); err != nil || string(got) != "ping" {
		t.Fatalf("got %q, %v", got, err)
	}
}

func TestDialTCP(t *testing.T) {
	d := toServer{new(Dialer), server(t, "tcp", serve(t, "tcp", "127.0.0.1:0", echo))}
	ctx, cancel := context.WithCancel(t.Context())
	conn, err := d.Dial(ctx)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close() }()
	if _, ok := conn.(*net.TCPConn); !ok {
		t.Errorf("got a %T", conn)
	}
	cancel() // ctx no longer affects the connection
	checkEcho(t, conn)
}

func TestDialUnix(t *testing.T) {
	path := filepath.Join(t.TempDir(), "broker.sock")
	d := toServer{new(Dialer), server(t, "unix", serve(t, "unix", path, echo))}
	conn, err := d.Dial(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close() }()
	if _, ok := conn.(*net.UnixConn); !ok {
		t.Errorf("got a %T", conn)
	}
	checkEcho(t, conn)
}

func TestDialWithoutServer(t *testing.T) {
	if conn, err := new(Dialer).Dial(t.Context(), Server{}); err == nil {
		t.Errorf("connected to %v", conn.RemoteAddr())
	}
}

// swallow is a network that never answers.
func swallow(ctx context.Context, _, _ string) (net.Conn, error) {
	<-ctx.Done()
	return nil, ctx.Err()
}

func mustParseServer(t testing.TB, text string) Server {
	t.Helper()
	s, err := ParseServer(text)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func TestDialHonoursContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		start := time.Now()
		attempts := 0
		d := toServer{new(Dialer), mustParseServer(t, "tcp://a")}
		d.connect = func(ctx context.Context, network, address string) (net.Conn, error) {
			attempts++
			return swallow(ctx, network, address)
		}
		ctx, cancel := context.WithCancel(t.Context())
		time.AfterFunc(time.Second, cancel)
		if _, err := d.Dial(ctx); !errors.Is(err, context.Canceled) {
			t.Errorf("got %v", err)
		}
		if took := time.Since(start); took != time.Second || attempts != 1 {
			t.Errorf("took %v and %d attempts", took, attempts)
		}

		start = time.Now()
		ctx, cancel = context.WithTimeout(t.Context(), 3*time.Second)
		defer cancel()
		if _, err := d.Dial(ctx); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("got %v", err)
		}
		if took := time.Since(start); took != 3*time.Second {
			t.Errorf("took %v", took)
		}
	})
}

func TestDialLooksNamesUpEachTime(t *testing.T) {
	var asked []string
	d := toServer{new(Dialer), mustParseServer(t, "tls://broker.example")}
	d.connect = func(_ context.Context, network, address string) (net.Conn, error) {
		asked = append(asked, network+" "+address)
		return nil, syscall.ECONNREFUSED
	}
	for range 2 {
		_, _ = d.Dial(t.Context())
	}
	if len(asked) != 2 || asked[0] != "tcp broker.example:8883" || asked[1] != asked[0] {
		t.Errorf("asked the network for %q", asked)
	}
}

// closeCounter counts the calls of Close.
type closeCounter struct {
	net.Conn
	closed *int
}

func (c *closeCounter) Close() error {
	*c.closed++
	return c.Conn.Close()
}

// A broker that accepts the connection and does not answer the ClientHello must not block the
// dial beyond its deadline, and its connection must be closed.
func TestDialSilentHandshake(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		closed := 0
		d := toServer{new(Dialer), mustParseServer(t, "tls://a")}
		d.connect = func(context.Context, string, string) (net.Conn, error) {
			near, far := net.Pipe()
			t.Cleanup(func() { _ = far.Close() })
			return &closeCounter{near, &closed}, nil
		}
		start := time.Now()
		ctx, cancel := context.WithTimeout(t.Context(), 4*time.Second)
		defer cancel()
		_, err := d.Dial(ctx)
		if took := time.Since(start); !errors.Is(err, context.DeadlineExceeded) || !strings.Contains(err.Error(), "tls handshake") || took != 4*time.Second || closed == 0 {
			t.Errorf("got %v after %v, closed %d times", err, took, closed)
		}

		closed = 0
		ctx, cancel = context.WithCancel(t.Context())
		time.AfterFunc(time.Second, cancel)
		if _, err := d.Dial(ctx); !errors.Is(err, context.Canceled) || closed == 0 {
			t.Errorf("got %v, closed %d times", err, closed)
		}
	})
}

// The real dialer returns its own errors for the end of a context.
func TestDialEndedContext(t *testing.T) {
	d := toServer{new(Dialer), server(t, "tcp", serve(t, "tcp", "127.0.0.1:0", echo))}
	cancelled, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := d.Dial(cancelled); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: got %v", err)
	}
	late, cancel := context.WithDeadline(t.Context(), time.Unix(1, 0))
	defer cancel()
	if _, err := d.Dial(late); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("late: got %v", err)
	}
}

// A listener without Accept accepts connections in the kernel, but its TLS handshakes are never
// answered.
func TestDialUnacceptedHandshake(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = ln.Close() }()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	if _, err := new(Dialer).Dial(ctx, server(t, "tls", ln)); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("got %v", err)
	}
}
