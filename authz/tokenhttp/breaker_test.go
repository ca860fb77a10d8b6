package tokenhttp

import (
	"context"
	"errors"
	"net"
	"net/http"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

// pipes is a listener whose connections are pipes, which synctest knows to be
// idle.
type pipes struct{ conns chan net.Conn }

func (p *pipes) Accept() (net.Conn, error) {
	c, ok := <-p.conns
	if !ok {
		return nil, net.ErrClosed
	}
	return c, nil
}
func (p *pipes) Close() error   { close(p.conns); return nil }
func (p *pipes) Addr() net.Addr { return &net.UnixAddr{} }

// piped returns a Source whose service is handler, without a network.
func piped(t *testing.T, handler http.HandlerFunc, o Options) *Source {
	t.Helper()
	ln := &pipes{conns: make(chan net.Conn)}
	server := &http.Server{Handler: handler}
	ended := make(chan struct{})
	go func() { defer close(ended); _ = server.Serve(ln) }()
	o.URL = "http://service.test/"
	s, err := New(o)
	if err != nil {
		t.Fatal(err)
	}
	s.transport.DialContext = func(context.Context, string, string) (net.Conn, error) {
		near, far := net.Pipe()
		ln.conns <- far
		return near, nil
	}
	t.Cleanup(func() {
		_ = s.Close()
		_ = server.Close()
		<-ended
	})
	return s
}

func TestBreaker(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var status, calls atomic.Int32
		s := piped(t, func(w http.ResponseWriter, _ *http.Request) {
			calls.Add(1)
			w.WriteHeader(int(status.Load()))
		}, Options{})
		ask := func(n int, want string) {
			t.Helper()
			for range n {
				if got := outcomeOf(s.Authorize(t.Context(), pump())); got != want {
					t.Fatalf("the outcome is %s, want %s (breaker %s)", got, want, s.Stats().Breaker)
				}
			}
		}
		status.Store(403)
		ask(50, "deny not_authorized")
		status.Store(400) // one device's doing, not the service's
		ask(50, "error")
		status.Store(500)
		ask(breakerRow, "error")
		before := calls.Load()
		status.Store(204)
		ask(10, "busy")
		if calls.Load() != before {
			t.Error("the service is asked while the breaker is open")
		}
		time.Sleep(breakerOpen + time.Millisecond)
		ask(breakerProbes, "allow")
		ask(20, "allow")
		time.Sleep(2 * breakerWindow) // the successes are forgotten
		for range breakerLeast / 2 {  // never two faults in a row
			status.Store(204)
			ask(1, "allow")
			status.Store(500)
			ask(1, "error")
		}
		if b := s.Stats().Breaker; b != "open" {
			t.Errorf("with half of the calls failing the breaker is %s", b)
		}
	})
}

func TestRetryAfter(t *testing.T) {
	for header, want := range map[string]time.Duration{
		"7": 7 * time.Second, "3600": time.Minute, "": 0, "soon": 0, "-5": 0,
		"Sat, 01 Jan 2000 00:00:20 GMT": 20 * time.Second,
		"Fri, 31 Dec 1999 23:59:59 GMT": 0,
		"99999999999999999999999999999": time.Minute,
	} {
		synctest.Test(t, func(t *testing.T) { // begins at 2000-01-01 00:00 UTC
			var calls atomic.Int32
			s := piped(t, func(w http.ResponseWriter, _ *http.Request) {
				w.Header().Set("Retry-After", header)
				if calls.Add(1) > 1 {
					w.WriteHeader(http.StatusNoContent)
					return
				}
				w.WriteHeader(http.StatusServiceUnavailable)
			}, Options{})
			if got := outcomeOf(s.Authorize(t.Context(), pump())); got != "error" {
				t.Fatalf("503 is %s", got)
			}
			if want > 0 {
				time.Sleep(want - time.Millisecond)
				if got := outcomeOf(s.Authorize(t.Context(), pump())); got != "busy" || calls.Load() != 1 {
					t.Errorf("Retry-After %s: %s before its time, %d calls", header, got, calls.Load())
				}
				time.Sleep(time.Millisecond)
			}
			if got := outcomeOf(s.Authorize(t.Context(), pump())); got != "allow" {
				t.Errorf("Retry-After %s: %s after its time", header, got)
			}
		})
	}
}

// TestTimeout holds the whole call, retries and body included, to its budget.
func TestTimeout(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := piped(t, func(w http.ResponseWriter, r *http.Request) {
			w.WriteHeader(http.StatusOK)
			w.(http.Flusher).Flush()
			<-r.Context().Done()
		}, Options{})
		start := time.Now()
		_, err := s.Authorize(t.Context(), pump())
		if took := time.Since(start); err == nil || took != 3*time.Second {
			t.Errorf("an answer without an end took %v: %v", took, err)
		}
		if errors.Is(err, context.DeadlineExceeded) {
			t.Error("the Source's own limit looks like the caller's")
		}
	})
}
