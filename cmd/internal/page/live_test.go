package page

import (
	"bufio"
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/cmd/internal/task"
)

// counting returns a hub and a function to render that counts how often it is called. The content
// is new in each call.
func counting(t *testing.T) (h *hub, r render, calls func() int) {
	var n atomic.Int64
	return &hub{panicked: func(p *task.Panic) { t.Error(p) }},
		func(context.Context) ([]byte, error) { return fmt.Append(nil, n.Add(1)), nil },
		func() int { return int(n.Load()) }
}

func TestViewIsRenderedOnceForAllBrowsers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h, r, calls := counting(t)
		var all []<-chan []byte
		for range 10 {
			events, leave, ok := h.join("view", time.Second, r)
			if !ok {
				t.Fatal("no room")
			}
			defer leave()
			all = append(all, events)
		}
		time.Sleep(10*time.Second + time.Millisecond)
		synctest.Wait()
		if calls() != 11 {
			t.Errorf("rendered %d times, want at the start and 10 times", calls())
		}
		for _, events := range all {
			if got := string(<-events); got != "11" {
				t.Errorf("a browser that took nothing gets %s, want the newest alone", got)
			}
		}
		h.close()
	})
}

func TestNothingIsRenderedWithoutABrowser(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h, r, calls := counting(t)
		_, leave, _ := h.join("view", time.Second, r)
		synctest.Wait()
		leave()
		leave() // has no effect
		time.Sleep(time.Minute)
		if calls() != 1 || h.streams != 0 || len(h.topics) != 0 {
			t.Errorf("rendered %d times, %d streams, %d topics", calls(), h.streams, len(h.topics))
		}
		h.close()
	})
}

func TestOnlyChangesAreSent(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h, _, _ := counting(t)
		content := []byte("same")
		events, leave, _ := h.join("view", time.Second, func(context.Context) ([]byte, error) { return content, nil })
		defer leave()
		<-events
		time.Sleep(time.Minute)
		synctest.Wait()
		select {
		case got := <-events:
			t.Errorf("%q is sent again", got)
		default:
		}
		h.close()
		if _, ok := <-events; ok {
			t.Error("the stream goes on after the end")
		}
		if _, _, ok := h.join("view", time.Second, nil); ok {
			t.Error("a stream begins after the end")
		}
	})
}

func TestStreamsAreBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h, r, _ := counting(t)
		for i := range maxStreams {
			if _, _, ok := h.join(fmt.Sprint(i), time.Second, r); !ok {
				t.Fatalf("stream %d has no room", i)
			}
		}
		synctest.Wait()
		if _, _, ok := h.join("further", time.Second, r); ok {
			t.Error("there is room for one more")
		}
		h.close()
	})
}

// TestStreamSendsThePartThatChanges: a stream ends when the page is closed.
func TestStreamSendsThePartThatChanges(t *testing.T) {
	p := newPage(t, newFleet(3))
	server := httptest.NewServer(handler(p))
	defer server.Close()
	r, err := http.NewRequest(http.MethodGet, server.URL+"/live/devices?q=pump-00002", nil)
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("Authorization", "Bearer "+readToken)
	resp, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if got := resp.Header.Get("Content-Type"); got != "text/event-stream" {
		t.Errorf("the type is %q", got)
	}
	lines := bufio.NewScanner(resp.Body)
	text := ""
	for lines.Scan() && (text == "" || lines.Text() != "") {
		if data, ok := strings.CutPrefix(lines.Text(), "data: "); ok {
			text += data
		}
	}
	if !strings.Contains(text, "/device?subject=pump-00002") || strings.Contains(text, "<html") || strings.Contains(text, "/sessions/end") {
		t.Errorf("the stream sends %q", text)
	}
	ctx, stop := context.WithCancel(t.Context())
	stop()
	p.Run(ctx)
	for lines.Scan() {
	}
	if err := lines.Err(); err != nil {
		t.Errorf("the stream ends with %v", err)
	}
}

// TestStreamEndsWithTheSignIn: a requester who is no longer signed in gets nothing more.
func TestStreamEndsWithTheSignIn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		began := time.Now()
		events := make(chan []byte, 1)
		events <- []byte("one")
		w := httptest.NewRecorder()
		send(w, httptest.NewRequest(http.MethodGet, "/live/devices", nil), events)
		if took := time.Since(began); took != checkEvery || !strings.Contains(w.Body.String(), "data: one\n\n") {
			t.Errorf("the stream ended after %v:\n%s", took, w.Body)
		}
	})
}

// slowBrowser takes an event only after a long time.
type slowBrowser struct {
	*httptest.ResponseRecorder
	deadline time.Time
}

func (s *slowBrowser) SetWriteDeadline(t time.Time) error { s.deadline = t; return nil }

func (s *slowBrowser) Write([]byte) (int, error) {
	time.Sleep(time.Until(s.deadline))
	return 0, os.ErrDeadlineExceeded
}

// TestSlowBrowserIsLeftAlone: the others do not wait for it, and its stream ends.
func TestSlowBrowserIsLeftAlone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h, r, _ := counting(t)
		slow, leaveSlow, _ := h.join("view", time.Second, r)
		fast, leave, _ := h.join("view", time.Second, r)
		defer leave()
		began, ended := time.Now(), time.Duration(0)
		go func() {
			send(&slowBrowser{ResponseRecorder: httptest.NewRecorder()}, httptest.NewRequest(http.MethodGet, "/live/devices", nil), slow)
			ended = time.Since(began)
			leaveSlow()
		}()
		for i := range 20 {
			if got := string(<-fast); got != fmt.Sprint(i+1) {
				t.Errorf("event %d is %s", i+1, got)
			}
		}
		synctest.Wait()
		if ended != sendTimeout {
			t.Errorf("the stream of the slow browser ended after %v", ended)
		}
		h.close()
	})
}
