package tokenhttp

import (
	"bufio"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/authz"
	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/authz/authztest"
	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/authz/internal/breaker"
	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/authz/internal/strictjson"
)

func TestConformance(t *testing.T) {
	const unknown, off = "nobody-knows-this-token", "disabled-token-of-pump-8"
	authztest.Run(t, authztest.Suite{
		New:     conformanceFixture,
		Good:    pump(),
		Unknown: authz.Request{Token: authz.NewToken(unknown)},
		Denied: map[authz.Reason]authz.Request{
			authz.Disabled: {Token: authz.NewToken(off)},
			authz.Expired:  {Token: authz.NewToken("expired-token-of-pump-9")},
		},
	})
}

// conformanceFixture is a native service.
func conformanceFixture(tb testing.TB) authztest.Fixture {
	var broken, stalled atomic.Bool
	var arrived sync.Once
	reached, release := make(chan struct{}), make(chan struct{})
	server := serve(tb, func(w http.ResponseWriter, r *http.Request) {
		text, _ := io.ReadAll(r.Body)
		o, err := strictjson.Parse(text)
		m, _ := lookup(o, "token")
		switch {
		case stalled.Load():
			arrived.Do(func() { close(reached) })
			<-release
		case broken.Load():
			w.WriteHeader(http.StatusBadGateway)
		case err != nil:
			w.WriteHeader(http.StatusBadRequest)
		case m == nil:
			okJSON(`{"result":"ignore"}`).ServeHTTP(w, r)
		case m.Value == secretToken:
			okJSON(`{"result":"allow","token_id":"pump-7-a","subject":"pump-7"}`).ServeHTTP(w, r)
		case m.Value == "disabled-token-of-pump-8":
			okJSON(`{"result":"deny","reason_code":"banned"}`).ServeHTTP(w, r)
		case m.Value == "expired-token-of-pump-9":
			okJSON(`{"result":"allow","expire_at":1700000000}`).ServeHTTP(w, r)
		default: // repeating the request is the worst possible answer
			okJSON(fmt.Sprintf(`{"result":"ignore","reason":%q}`, "unknown")).ServeHTTP(w, r)
		}
	})
	tb.Cleanup(func() { close(release) })
	return authztest.Fixture{
		Authorizer: sourceOf(tb, Options{URL: server.URL}),
		Break:      func() { broken.Store(true) },
		Stall:      func() <-chan struct{} { stalled.Store(true); return reached },
	}
}

// TestConformanceInURL runs the suite with templates in the URL, where the rules for values are
// strictest.
func TestConformanceInURL(t *testing.T) {
	for name, o := range map[string]Options{
		"path":   {Preset: "status", URL: "/v1/${token}/attributes"},
		"query":  {Preset: "status", URL: "/v1?token=${token}"},
		"header": {Preset: "status", Headers: map[string]string{"Authorization": "Bearer ${token}"}},
		"form":   {Preset: "introspection", DenyStatus: []int{401}, AllowStatus: []int{200}},
	} {
		t.Run(name, func(t *testing.T) {
			authztest.Run(t, authztest.Suite{
				New: func(tb testing.TB) authztest.Fixture {
					server := serve(tb, func(w http.ResponseWriter, r *http.Request) {
						shown := r.FormValue("token") + strings.TrimPrefix(r.Header.Get("Authorization"), "Bearer ")
						if rest, ok := strings.CutPrefix(r.URL.Path, "/v1/"); ok {
							shown = strings.TrimSuffix(rest, "/attributes")
						}
						if shown != secretToken {
							w.WriteHeader(http.StatusUnauthorized)
						}
					})
					o := o
					o.URL = server.URL + o.URL
					return authztest.Fixture{Authorizer: sourceOf(tb, o)}
				},
				Good:    pump(),
				Unknown: authz.Request{Token: authz.NewToken("nobody-knows-this-token")},
			})
		})
	}
}

// raw starts a server that calls f for each connection.
func raw(t *testing.T, f func(n int, c net.Conn)) string {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	wg.Go(func() {
		for n := 0; ; n++ {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			wg.Go(func() {
				defer func() { _ = c.Close() }()
				f(n, c)
			})
		}
	})
	t.Cleanup(func() { _ = ln.Close(); wg.Wait() })
	return "http://" + ln.Addr().String()
}

// request reads one request whose body fits into the buffer.
func readRequest(c net.Conn) *bufio.Reader {
	b := bufio.NewReader(c)
	if q, err := http.ReadRequest(b); err == nil {
		_, _ = io.Copy(io.Discard, q.Body)
	}
	return b
}

// TestBrokenServices: every fault of a service on the wire is unavailable, in time, and the
// error contains nothing that the service repeats.
func TestBrokenServices(t *testing.T) {
	const head = "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n"
	for name, f := range map[string]func(n int, c net.Conn){
		"closes at once":       func(_ int, c net.Conn) {},
		"closes after reading": func(_ int, c net.Conn) { readRequest(c) },
		"resets":               func(_ int, c net.Conn) { readRequest(c); _ = c.(*net.TCPConn).SetLinger(0) },
		"never answers":        func(_ int, c net.Conn) { _, _ = io.Copy(io.Discard, c) },
		"truncates": func(_ int, c net.Conn) {
			readRequest(c)
			_, _ = io.WriteString(c, head+"Content-Length: 99\r\n\r\n{\"result\":\"allow\"}")
		},
		"truncates a chunk": func(_ int, c net.Conn) {
			readRequest(c)
			_, _ = io.WriteString(c, head+"Transfer-Encoding: chunked\r\n\r\n12\r\n{\"result\":\"allow\"}\r\n")
		},
		"stops in the body": func(_ int, c net.Conn) {
			b := readRequest(c)
			_, _ = io.WriteString(c, head+"Content-Length: 99\r\n\r\n{")
			_, _ = b.ReadByte()
		},
		"echoes":             func(_ int, c net.Conn) { _, _ = io.Copy(c, c) },
		"echoes in a status": func(_ int, c net.Conn) { readRequest(c); _, _ = io.WriteString(c, "HTTP/1.1 "+secretToken+"\r\n\r\n") },
		"echoes in a reason": func(_ int, c net.Conn) {
			readRequest(c)
			_, _ = io.WriteString(c, "HTTP/1.1 500 "+secretToken+"\r\n\r\n")
		},
		"echoes in a header": func(_ int, c net.Conn) {
			readRequest(c)
			_, _ = io.WriteString(c, "HTTP/1.1 200 OK\r\n"+secretToken+"\r\n\r\n")
		},
		"a huge header": func(_ int, c net.Conn) {
			readRequest(c)
			_, _ = io.WriteString(c, head+"X: "+strings.Repeat("x", maxAnswerHeader)+"\r\n\r\n")
		},
		"two lengths": func(_ int, c net.Conn) {
			readRequest(c)
			_, _ = io.WriteString(c, head+"Content-Length: 18\r\nContent-Length: 19\r\n\r\n{\"result\":\"allow\"}")
		},
		"drips": drip,
	} {
		t.Run(name, func(t *testing.T) {
			s := sourceOf(t, Options{URL: raw(t, f) + "/" + "${token}", Timeout: 300 * time.Millisecond})
			g, err := s.Authorize(t.Context(), pump())
			if got := outcomeOf(g, err); got != "error" {
				t.Errorf("the outcome is %s: %v", got, err)
			}
			if err != nil && strings.Contains(fmt.Sprintf("%+v %#v", err, err), secretToken) {
				t.Error("the error repeats the token")
			}
		})
	}
}

// drip sends a valid answer, too slowly.
func drip(_ int, c net.Conn) {
	readRequest(c)
	for _, b := range []byte("HTTP/1.1 204 No Content\r\n\r\n") {
		if _, err := c.Write([]byte{b}); err != nil {
			return
		}
		timer := time.NewTimer(50 * time.Millisecond)
		<-timer.C
	}
}

func TestLargeAnswers(t *testing.T) {
	fits := `{"result":"allow","x":"` + strings.Repeat("x", 200<<10) + `"}`
	if g, err := asked(t, okJSON(fits), Options{}, pump()); err != nil || g == nil {
		t.Errorf("an answer of 200 KiB: %v", err)
	}
	_, err := asked(t, okJSON(`{"result":"allow","x":"`+strings.Repeat("x", maxBody)+`"}`), Options{}, pump())
	if err == nil || !strings.Contains(err.Error(), "256 KiB") {
		t.Errorf("an answer that is too large: %v", err)
	}
	_, err = asked(t, okJSON(`{"result":"allow"}`+strings.Repeat(" ", maxBody)), Options{}, pump())
	if err == nil {
		t.Error("an answer that is padded beyond the limit is taken")
	}
}

// TestCompressedAnswers: no coding is requested, and a compressed answer is not decompressed.
func TestCompressedAnswers(t *testing.T) {
	server := serve(t, func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Accept-Encoding") != "" {
			t.Error("a coding was asked for")
		}
		w.Header().Set("Content-Type", "application/json")
		w.Header().Set("Content-Encoding", "gzip")
		z := gzip.NewWriter(w)
		_, _ = z.Write([]byte(`{"result":"allow","x":"`))
		_, _ = io.CopyN(z, zeros{}, 64<<20)
		_ = z.Close()
	})
	g, err := sourceOf(t, Options{URL: server.URL}).Authorize(t.Context(), pump())
	if outcomeOf(g, err) != "error" || !strings.Contains(err.Error(), "compressed") {
		t.Errorf("a compressed answer: %v", err)
	}
}

type zeros struct{}

func (zeros) Read(b []byte) (int, error) { clear(b); return len(b), nil }

func TestRedirectsAreNotFollowed(t *testing.T) {
	var followed atomic.Bool
	server := serve(t, func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/there" {
			followed.Store(true)
		}
		http.Redirect(w, r, "/there", http.StatusTemporaryRedirect)
	})
	g, err := sourceOf(t, Options{URL: server.URL}).Authorize(t.Context(), pump())
	if outcomeOf(g, err) != "error" || followed.Load() {
		t.Errorf("the outcome is %v, followed: %v", err, followed.Load())
	}
}

// TestServiceRestarts: idle connections from before a restart cause no error, even with POST.
func TestServiceRestarts(t *testing.T) {
	listen := func(address string) (*httptest.Server, string) {
		ln, err := net.Listen("tcp", address)
		if err != nil {
			t.Fatal(err)
		}
		server := httptest.NewUnstartedServer(okJSON(`{"result":"allow"}`))
		_ = server.Listener.Close()
		server.Listener = ln
		server.Start()
		return server, ln.Addr().String()
	}
	server, address := listen("127.0.0.1:0")
	s := sourceOf(t, Options{URL: "http://" + address})
	for round := range 5 {
		var wg sync.WaitGroup
		for range 8 { // several connections that go stale
			wg.Go(func() {
				if _, err := s.Authorize(t.Context(), pump()); err != nil {
					t.Errorf("round %d: %v", round, err)
				}
			})
		}
		wg.Wait()
		server.CloseClientConnections()
		server.Close()
		server, _ = listen(address)
	}
	server.Close()
}

// TestKeptConnectionIsClosed: a POST on an idle connection that the service closes instead of
// answering is sent again on a new one, before any retry of ours.
func TestKeptConnectionIsClosed(t *testing.T) {
	url := raw(t, func(_ int, c net.Conn) {
		readRequest(c)
		_, _ = io.WriteString(c, "HTTP/1.1 204 No Content\r\n\r\n")
		readRequest(c)
	})
	s := sourceOf(t, Options{URL: url})
	for range 3 {
		if _, err := s.Authorize(t.Context(), pump()); err != nil {
			t.Error(err)
		}
	}
	if n := s.Stats().Retries; n != 0 {
		t.Errorf("%d retries, want net/http to do it", n)
	}
}

// TestRetriesOnce: a connection that is reset before the answer is tried once
// more, not twice.
func TestRetriesOnce(t *testing.T) {
	for resets, want := range map[int]string{1: "allow", 2: "error"} {
		var conns atomic.Int32
		url := raw(t, func(n int, c net.Conn) {
			conns.Add(1)
			readRequest(c)
			if n >= resets {
				_, _ = io.WriteString(c, "HTTP/1.1 204 No Content\r\n\r\n")
			}
		})
		s := sourceOf(t, Options{URL: url})
		g, err := s.Authorize(t.Context(), pump())
		if got := outcomeOf(g, err); got != want || conns.Load() != 2 || s.Stats().Retries != 1 {
			t.Errorf("after %d resets: %s (%v) with %d connections", resets, got, err, conns.Load())
		}
	}
}

func TestUnreachable(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	_ = ln.Close()
	g, err := sourceOf(t, Options{URL: "http://" + ln.Addr().String()}).Authorize(t.Context(), pump())
	if outcomeOf(g, err) != "error" || !strings.Contains(err.Error(), "connection refused") {
		t.Errorf("a closed port: %v", err)
	}
}

// TestCanceledCaller: the context's error is returned and the breaker does not count it.
func TestCanceledCaller(t *testing.T) {
	arrived := make(chan struct{}, 20)
	url := raw(t, func(_ int, c net.Conn) { readRequest(c); arrived <- struct{}{}; _, _ = io.Copy(io.Discard, c) })
	s := sourceOf(t, Options{URL: url})
	for i := range 2 * breaker.Threshold {
		r := authz.Request{Token: authz.NewToken(fmt.Sprint("device ", i)), Addr: from(i)}
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		done := make(chan error, 1)
		go func() {
			_, err := s.Authorize(ctx, r)
			done <- err
		}()
		select {
		case <-arrived:
			cancel()
		case err := <-done:
			t.Fatalf("the service is not asked: %v", err)
		}
		if err := <-done; !errors.Is(err, context.Canceled) || !errors.Is(err, authz.ErrUnavailable) {
			t.Fatalf("a caller that leaves gets %v", err)
		}
	}
	if b := s.Stats().Breaker; b != "closed" {
		t.Errorf("the breaker is %s", b)
	}
}

// TestProxyOnRequest: the environment's proxy is used only if that is configured.
func TestProxyOnRequest(t *testing.T) {
	if newTransport(nil, false).Proxy != nil || newTransport(nil, true).Proxy == nil {
		t.Error("the option does not decide about the proxy")
	}
}
