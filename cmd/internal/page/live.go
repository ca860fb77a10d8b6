package page

import (
	"bytes"
	"context"
	"fmt"
	"net/http"
	"sync"
	"time"

	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/cmd/internal/admin"
	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/cmd/internal/task"
)

const (
	// maxStreams is how many browsers can be kept up to date at once.
	maxStreams = 64
	// sendTimeout is how long a browser may take to receive an event. After that its stream ends.
	sendTimeout = 10 * time.Second
	// checkEvery is how often a stream finds out whether its requester is still signed in.
	checkEvery = 15 * time.Second
	// maxQuery is the length of the longest query of a view that can be kept up to date, in bytes.
	maxQuery = 2048
)

// hub keeps browsers up to date. The browsers that look at the same view with the same query
// share a topic, whose goroutine renders the view once for all of them. It exists only while there
// is such a browser.
type hub struct {
	panicked func(*task.Panic)

	mu      sync.Mutex
	topics  map[string]*topic
	streams int
	closed  bool
	running sync.WaitGroup
}

// topic is one view that browsers look at.
type topic struct {
	stop    context.CancelFunc
	streams map[chan []byte]struct{}
	last    []byte // what was rendered last
}

// render renders the part of a view that changes.
type render func(context.Context) ([]byte, error)

// join returns a channel that gets the result of render whenever that has changed. A newer result
// replaces one that the receiver has not taken. The channel is closed with the hub. The receiver
// calls leave in the end. If there are too many streams already, join returns false.
func (h *hub) join(key string, every time.Duration, r render) (events <-chan []byte, leave func(), ok bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.closed || h.streams >= maxStreams {
		return nil, nil, false
	}
	h.streams++
	t := h.topics[key]
	if t == nil {
		t = h.begin(key, every, r)
	}
	c := make(chan []byte, 1)
	t.streams[c] = struct{}{}
	if t.last != nil {
		c <- t.last
	}
	return c, func() { h.leave(key, t, c) }, true
}

// begin starts a topic. h.mu is held.
func (h *hub) begin(key string, every time.Duration, r render) *topic {
	ctx, stop := context.WithCancel(context.Background())
	t := &topic{stop: stop, streams: make(map[chan []byte]struct{})}
	if h.topics == nil {
		h.topics = make(map[string]*topic)
	}
	h.topics[key] = t
	h.running.Go(func() {
		task.Run(ctx, h.panicked, func(ctx context.Context) { h.produce(ctx, t, every, r) })
	})
	return t
}

// leave takes a stream from a topic, which ends with its last stream.
func (h *hub) leave(key string, t *topic, c chan []byte) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if _, ok := t.streams[c]; !ok {
		return
	}
	delete(t.streams, c)
	h.streams--
	if len(t.streams) == 0 {
		t.stop()
		delete(h.topics, key)
	}
}

// produce renders again and again until ctx is done.
func (h *hub) produce(ctx context.Context, t *topic, every time.Duration, r render) {
	ticker := time.NewTicker(every)
	defer ticker.Stop()
	for {
		if content, err := r(ctx); err == nil && ctx.Err() == nil {
			h.publish(t, content)
		}
		select {
		case <-ticker.C:
		case <-ctx.Done():
			return
		}
	}
}

// publish passes content to the streams of a topic if it has changed. It never waits.
func (h *hub) publish(t *topic, content []byte) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if t.last != nil && bytes.Equal(t.last, content) {
		return
	}
	t.last = content
	for c := range t.streams {
		select {
		case <-c: // an older one, which the browser has not taken
		default:
		}
		c <- content // never waits: only publish sends, and there is room
	}
}

// close ends all streams and waits for the goroutines of all topics.
func (h *hub) close() {
	h.mu.Lock()
	h.closed = true
	for key, t := range h.topics {
		t.stop()
		for c := range t.streams {
			close(c)
		}
		h.streams -= len(t.streams)
		clear(t.streams)
		delete(h.topics, key)
	}
	h.mu.Unlock()
	h.running.Wait()
}

// stream answers with the part of a view that changes, as server-sent events.
func (p *Page) stream(v view) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		q := newRequest(r)
		query := q.query.Encode()
		if len(query) > maxQuery {
			http.Error(w, "the query is too long", http.StatusRequestURITooLong)
			return
		}
		key := fmt.Sprintf("%s?%s %v", r.URL.Path, query, q.operate)
		events, leave, ok := p.live.join(key, v.live, func(ctx context.Context) ([]byte, error) {
			return p.renderLive(v, &request{Context: ctx, query: q.query, operate: q.operate, live: true, now: time.Now()})
		})
		if !ok {
			w.Header().Set("Retry-After", "30")
			http.Error(w, "too many browsers are kept up to date already", http.StatusServiceUnavailable)
			return
		}
		defer leave()
		send(w, r, events)
	})
}

// renderLive returns the block "live" of a view.
func (p *Page) renderLive(v view, q *request) ([]byte, error) {
	data, err := v.data(q)
	if err != nil {
		return nil, err
	}
	var b bytes.Buffer
	err = p.templates[v.template].ExecuteTemplate(&b, "live", shown{Operate: q.operate, Now: q.now, Data: data})
	return b.Bytes(), err
}

// send sends events until the browser goes, its requester is no longer signed in, or the page
// ends. The limits of the server for the time of a request do not apply to it, but each event has
// to be received in time.
func send(w http.ResponseWriter, r *http.Request, events <-chan []byte) {
	out := http.NewResponseController(w)
	_ = out.SetReadDeadline(time.Time{}) // not supported is fine: then there is no limit
	w.Header().Set("Content-Type", "text/event-stream")
	check := time.NewTicker(checkEvery)
	defer check.Stop()
	message := []byte(": begin\n\n")
	for {
		_ = out.SetWriteDeadline(time.Now().Add(sendTimeout))
		if _, err := w.Write(message); err != nil || out.Flush() != nil {
			return
		}
		select {
		case content, ok := <-events:
			if !ok {
				return
			}
			message = event(content)
		case <-check.C:
			if !admin.RequesterOf(r.Context()).Current() {
				return
			}
			message = []byte(": still here\n\n")
		case <-r.Context().Done():
			return
		}
	}
}

// event returns content as a server-sent event: each of its lines needs a prefix.
func event(content []byte) []byte {
	content = bytes.ReplaceAll(content, []byte("\r"), nil)
	out := make([]byte, 0, len(content)+len(content)/16+16)
	for line := range bytes.Lines(content) {
		out = append(append(append(out, "data: "...), bytes.TrimSuffix(line, []byte("\n"))...), '\n')
	}
	return append(out, '\n')
}
