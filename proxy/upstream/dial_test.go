package upstream

import (
	"context"
	"crypto/tls"
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

// serve listens on network and address and hands each connection to handle, on a
// goroutine that the end of the test waits for.
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

func echo(conn net.Conn) { _, _ = io.Copy(conn, conn) }

// refusing returns the address of a port that nobody listens on.
func refusing(t testing.TB) Server {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = ln.Close() }()
	return server(t, "tcp", ln)
}

// checkEcho sends a few bytes and wants them back.
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
	d := &Dialer{Servers: []Server{server(t, "tcp", serve(t, "tcp", "127.0.0.1:0", echo))}}
	ctx, cancel := context.WithCancel(t.Context())
	conn, err := d.Dial(ctx)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close() }()
	if _, ok := conn.(*net.TCPConn); !ok {
		t.Errorf("got a %T", conn)
	}
	cancel() // no longer matters
	checkEcho(t, conn)
}

func TestDialUnix(t *testing.T) {
	path := filepath.Join(t.TempDir(), "broker.sock")
	d := &Dialer{Servers: []Server{server(t, "unix", serve(t, "unix", path, echo))}}
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

func TestDialTriesServersInOrder(t *testing.T) {
	refused := refusing(t)
	good := server(t, "tcp", serve(t, "tcp", "127.0.0.1:0", echo))
	missing, err := ParseServer("unix://" + filepath.Join(t.TempDir(), "none.sock"))
	if err != nil {
		t.Fatal(err)
	}

	d := &Dialer{Servers: []Server{missing, refused, good}}
	conn, err := d.Dial(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if got := conn.RemoteAddr().String(); got != good.address {
		t.Errorf("connected to %s", got)
	}
	_ = conn.Close()

	d.Servers = []Server{missing, refused}
	_, err = d.Dial(t.Context())
	if !errors.Is(err, syscall.ECONNREFUSED) || !errors.Is(err, syscall.ENOENT) {
		t.Errorf("the error does not hold both causes: %v", err)
	}
	text := err.Error()
	if m, r := strings.Index(text, missing.String()), strings.Index(text, refused.String()); m != 0 || r < m {
		t.Errorf("the error does not name the servers in order: %v", err)
	}
	if strings.Contains(text, "\n") {
		t.Errorf("the error has several lines: %q", text)
	}
	if errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("refusals count as a timeout: %v", err)
	}
}

func TestDialWithoutServer(t *testing.T) {
	for _, d := range []*Dialer{{}, {Servers: make([]Server, 1)}} {
		if conn, err := d.Dial(t.Context()); err == nil {
			t.Errorf("connected to %v", conn.RemoteAddr())
		}
	}
}

// swallow is a network that never answers.
func swallow(ctx context.Context, _, _ string) (net.Conn, error) {
	<-ctx.Done()
	return nil, ctx.Err()
}

func servers(t *testing.T, texts ...string) (list []Server) {
	t.Helper()
	for _, text := range texts {
		s, err := ParseServer(text)
		if err != nil {
			t.Fatal(err)
		}
		list = append(list, s)
	}
	return list
}

func TestDialSharesTheTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		start := time.Now()
		var turns []time.Duration
		d := &Dialer{Timeout: 6 * time.Second, Servers: servers(t, "tcp://a", "tcp://b", "tcp://c")}
		d.connect = func(ctx context.Context, network, address string) (net.Conn, error) {
			turns = append(turns, time.Since(start))
			if address == "b:1883" {
				time.Sleep(time.Second) // refused early: the last one gets the rest
				return nil, syscall.ECONNREFUSED
			}
			return swallow(ctx, network, address)
		}
		_, err := d.Dial(t.Context())
		if !errors.Is(err, context.DeadlineExceeded) || !errors.Is(err, syscall.ECONNREFUSED) {
			t.Errorf("got %v", err)
		}
		if len(turns) != 3 || turns[0] != 0 || turns[1] != 2*time.Second || turns[2] != 3*time.Second {
			t.Errorf("turns began at %v, want 0, 2 s, 3 s", turns)
		}
		if took := time.Since(start); took != 6*time.Second {
			t.Errorf("took %v", took)
		}
	})
}

func TestDialDefaultTimeout(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		start := time.Now()
		d := &Dialer{Servers: servers(t, "tcp://a", "tcp://b"), connect: swallow}
		if _, err := d.Dial(t.Context()); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("got %v", err)
		}
		if took := time.Since(start); took != DefaultTimeout {
			t.Errorf("took %v", took)
		}
	})
}

func TestDialHonoursContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		start := time.Now()
		attempts := 0
		d := &Dialer{Servers: servers(t, "tcp://a", "tcp://b")}
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
		ctx, cancel = context.WithTimeout(t.Context(), 3*time.Second) // less than the default
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
	d := &Dialer{Servers: servers(t, "tls://broker.example")}
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

// A broker that accepts and then says nothing to the ClientHello must not hold
// the handshake longer than its share, and its connection must be closed.
func TestDialSilentHandshake(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		start := time.Now()
		var closed [2]int
		opened := 0
		d := &Dialer{Timeout: 4 * time.Second, Servers: servers(t, "tls://a", "tls://b")}
		d.connect = func(context.Context, string, string) (net.Conn, error) {
			near, far := net.Pipe()
			t.Cleanup(func() { _ = far.Close() })
			opened++
			return &closeCounter{near, &closed[opened-1]}, nil
		}
		_, err := d.Dial(t.Context())
		if !errors.Is(err, context.DeadlineExceeded) || !strings.Contains(err.Error(), "tls://b:8883: tls handshake") {
			t.Errorf("got %v", err)
		}
		if took := time.Since(start); took != 4*time.Second {
			t.Errorf("took %v", took)
		}
		if opened != 2 || closed[0] == 0 || closed[1] == 0 {
			t.Errorf("%d connections opened, closed %v", opened, closed)
		}

		opened, closed = 0, [2]int{}
		ctx, cancel := context.WithCancel(t.Context())
		time.AfterFunc(time.Second, cancel)
		if _, err := d.Dial(ctx); !errors.Is(err, context.Canceled) {
			t.Errorf("got %v", err)
		}
		if opened != 1 || closed[0] == 0 {
			t.Errorf("%d connections opened, closed %v", opened, closed)
		}
	})
}

// The real dialer has errors of its own for the end of a context.
func TestDialEndedContext(t *testing.T) {
	d := &Dialer{Servers: []Server{server(t, "tcp", serve(t, "tcp", "127.0.0.1:0", echo))}}
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

// A listener that nobody accepts from is a black hole for TLS: the kernel
// connects and nobody answers.
func TestDialUnacceptedHandshake(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = ln.Close() }()
	d := &Dialer{Servers: []Server{server(t, "tls", ln)}, Timeout: 20 * time.Millisecond}
	if _, err := d.Dial(t.Context()); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("got %v", err)
	}
}

func TestDialErrorIsOneLine(t *testing.T) {
	err := error(failures{errors.New("a\nb\x1b[31m\u0085"), tls.RecordHeaderError{Msg: "c"}})
	if got := err.Error(); got != "a?b?[31m?; tls: c" {
		t.Errorf("got %q", got)
	}
	if _, ok := errors.AsType[tls.RecordHeaderError](err); !ok {
		t.Error("the parts cannot be found")
	}
}
