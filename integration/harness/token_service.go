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

// Question is a request of the proxy to a token service.
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

// ReplyJSON returns a reply with a body in JSON.
func ReplyJSON(format string, args ...any) Reply {
	return Reply{Status: 200, Header: map[string]string{"Content-Type": "application/json"}, Body: fmt.Sprintf(format, args...)}
}

// Allow returns a reply that allows a device. The subject contains the name of its token.
func Allow(q Question) Reply {
	return ReplyJSON(`{"result":"allow","subject":"device of %s","cache_ttl":600}`, strings.TrimSuffix(q.Token, SecretTail))
}

// SecretTail ends every token of a token service. The part before it is the name of the
// token, which the program may print.
const SecretTail = "/not-to-be-printed"

// TokenService is a token service whose answers are chosen by the story. It can be
// stopped and started again at the same address.
type TokenService struct {
	t       testing.TB
	Address string
	// Handler replaces answer, for contracts other than the proxy's own.
	Handler http.HandlerFunc
	Idle    time.Duration // closes a connection after so long; 0 never does

	mu     sync.Mutex
	ln     net.Listener
	server *http.Server
	answer func(Question) Reply
	Delay  time.Duration
	asked  []Question
}

// StartTokenService runs a token service until the test ends.
func StartTokenService(t testing.TB, answer func(Question) Reply) *TokenService {
	t.Helper()
	s := NewTokenService(t, answer)
	s.Start()
	return s
}

// NewTokenService returns a token service that is not started.
func NewTokenService(t testing.TB, answer func(Question) Reply) *TokenService {
	t.Helper()
	return &TokenService{t: t, Address: FreeAddress(t), answer: answer}
}

// Start runs the service until Stop or the end of the test.
func (s *TokenService) Start() {
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

// Stop closes the service and all connections to it.
func (s *TokenService) Stop() {
	s.mu.Lock()
	server, ln := s.server, s.ln
	s.mu.Unlock()
	_ = ln.Close() // Serve may not have begun
	_ = server.Close()
}

// Change sets the function that answers questions from now on.
func (s *TokenService) Change(answer func(Question) Reply) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.answer = answer
}

// Questions returns the questions since the last call.
func (s *TokenService) Questions() []Question {
	s.mu.Lock()
	defer s.mu.Unlock()
	asked := s.asked
	s.asked = nil
	return asked
}

func (s *TokenService) ServeHTTP(w http.ResponseWriter, r *http.Request) {
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

// Auth returns the section auth of a config that asks the service. more are further lines
// of that section.
func (s *TokenService) Auth(more ...string) string {
	lines := append([]string{fmt.Sprintf("sources: [{http: {url: 'http://%s/mqtt', timeout: 5s}}]", s.Address)}, more...)
	return "auth:\n  " + strings.Join(lines, "\n  ") + "\n"
}
