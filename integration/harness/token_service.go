package harness

import (
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"
)

// Question is what the proxy asks a token service.
type Question struct {
	V                                 int
	Token, Username, ClientID, Reason string
}

// Reply is an answer of a token service. The zero value is 204: allowed.
type Reply struct {
	Status int
	Header map[string]string
	Body   string
}

// ReplyJSON is an answer in JSON.
func ReplyJSON(format string, args ...any) Reply {
	return Reply{Status: 200, Header: map[string]string{"Content-Type": "application/json"}, Body: fmt.Sprintf(format, args...)}
}

// Allow lets a device in under its token's name.
func Allow(q Question) Reply {
	return ReplyJSON(`{"result":"allow","subject":"device of %s","cache_ttl":600}`, strings.TrimSuffix(q.Token, SecretTail))
}

// SecretTail makes tokens that are named after what they are for differ from the
// name, which may be printed.
const SecretTail = "/not-to-be-printed"

// tokenService is a token service whose answers a story chooses, and which can be
// stopped and started again under the same address.
type tokenService struct {
	t       testing.TB
	Address string
	// Handler may take the place of answer, for other contracts than the native.
	Handler http.HandlerFunc
	Idle    time.Duration // after which it closes a connection

	mu     sync.Mutex
	ln     net.Listener
	server *http.Server
	answer func(Question) Reply
	Delay  time.Duration
	asked  []Question
}

func StartTokenService(t testing.TB, answer func(Question) Reply) *tokenService {
	t.Helper()
	s := NewTokenService(t, answer)
	s.Start()
	return s
}

// NewTokenService is a token service that is not started.
func NewTokenService(t testing.TB, answer func(Question) Reply) *tokenService {
	t.Helper()
	return &tokenService{t: t, Address: FreeAddress(t), answer: answer}
}

func (s *tokenService) Start() {
	s.t.Helper()
	ln, err := net.Listen("tcp", s.Address)
	if err != nil {
		s.t.Fatal(err)
	}
	server := &http.Server{Handler: s, ReadHeaderTimeout: Patience, IdleTimeout: s.Idle}
	s.mu.Lock()
	s.server, s.ln = server, ln
	s.mu.Unlock()
	go func() { _ = server.Serve(ln) }()
	s.t.Cleanup(s.Stop)
}

// Stop ends the service and every connection to it.
func (s *tokenService) Stop() {
	s.mu.Lock()
	server, ln := s.server, s.ln
	s.mu.Unlock()
	_ = ln.Close() // which server may not know yet
	_ = server.Close()
}

// Change sets what the service answers from now on.
func (s *tokenService) Change(answer func(Question) Reply) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.answer = answer
}

// Questions returns what was asked since the last call.
func (s *tokenService) Questions() []Question {
	s.mu.Lock()
	defer s.mu.Unlock()
	asked := s.asked
	s.asked = nil
	return asked
}

func (s *tokenService) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if s.Handler != nil {
		s.Handler(w, r)
		return
	}
	var q Question
	body, err := io.ReadAll(r.Body)
	if err != nil || json.Unmarshal(body, &q) != nil {
		http.Error(w, "not a question", http.StatusBadRequest)
		return
	}
	s.mu.Lock()
	s.asked = append(s.asked, q)
	answer, delay := s.answer, s.Delay
	s.mu.Unlock()
	time.Sleep(delay)
	a := answer(q)
	for name, value := range a.Header {
		w.Header().Set(name, value)
	}
	if a.Status == 0 {
		a.Status = http.StatusNoContent
	}
	w.WriteHeader(a.Status)
	_, _ = io.WriteString(w, a.Body)
}

// Auth is the section of the proxy's config that leads to the service. more are
// further lines of the section auth.
func (s *tokenService) Auth(more ...string) string {
	lines := append([]string{fmt.Sprintf("sources: [{http: {url: 'http://%s/mqtt', timeout: 1s}}]", s.Address)}, more...)
	return "auth:\n  " + strings.Join(lines, "\n  ") + "\n"
}
