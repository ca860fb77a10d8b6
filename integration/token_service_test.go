//go:build integration

package integration

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

	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/packets"
)

// question is what the proxy asks a token service.
type question struct {
	V                                 int
	Token, Username, ClientID, Reason string
}

// reply is an answer of a token service. The zero value is 204: allowed.
type reply struct {
	status int
	header map[string]string
	body   string
}

// says is an answer in JSON.
func says(format string, args ...any) reply {
	return reply{status: 200, header: map[string]string{"Content-Type": "application/json"}, body: fmt.Sprintf(format, args...)}
}

// allows lets a device in under its token's name.
func allows(q question) reply {
	return says(`{"result":"allow","subject":"device of %s","cache_ttl":600}`, strings.TrimSuffix(q.Token, secretTail))
}

// secretTail makes tokens that are named after what they are for differ from the
// name, which may be printed.
const secretTail = "/not-to-be-printed"

// tokenService is a token service whose answers a story chooses, and which can be
// stopped and started again under the same address.
type tokenService struct {
	t       testing.TB
	address string
	// handler may take the place of answer, for other contracts than the native.
	handler http.HandlerFunc
	idle    time.Duration // after which it closes a connection

	mu     sync.Mutex
	ln     net.Listener
	server *http.Server
	answer func(question) reply
	delay  time.Duration
	asked  []question
}

func startTokenService(t testing.TB, answer func(question) reply) *tokenService {
	t.Helper()
	s := newTokenService(t, answer)
	s.start()
	return s
}

// newTokenService is a token service that is not started.
func newTokenService(t testing.TB, answer func(question) reply) *tokenService {
	t.Helper()
	return &tokenService{t: t, address: freeAddress(t), answer: answer}
}

func (s *tokenService) start() {
	s.t.Helper()
	ln, err := net.Listen("tcp", s.address)
	if err != nil {
		s.t.Fatal(err)
	}
	server := &http.Server{Handler: s, ReadHeaderTimeout: patience, IdleTimeout: s.idle}
	s.mu.Lock()
	s.server, s.ln = server, ln
	s.mu.Unlock()
	go func() { _ = server.Serve(ln) }()
	s.t.Cleanup(s.stop)
}

// stop ends the service and every connection to it.
func (s *tokenService) stop() {
	s.mu.Lock()
	server, ln := s.server, s.ln
	s.mu.Unlock()
	_ = ln.Close() // which server may not know yet
	_ = server.Close()
}

// change sets what the service answers from now on.
func (s *tokenService) change(answer func(question) reply) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.answer = answer
}

// questions returns what was asked since the last call.
func (s *tokenService) questions() []question {
	s.mu.Lock()
	defer s.mu.Unlock()
	asked := s.asked
	s.asked = nil
	return asked
}

func (s *tokenService) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if s.handler != nil {
		s.handler(w, r)
		return
	}
	var q question
	body, err := io.ReadAll(r.Body)
	if err != nil || json.Unmarshal(body, &q) != nil {
		http.Error(w, "not a question", http.StatusBadRequest)
		return
	}
	s.mu.Lock()
	s.asked = append(s.asked, q)
	answer, delay := s.answer, s.delay
	s.mu.Unlock()
	time.Sleep(delay)
	a := answer(q)
	for name, value := range a.header {
		w.Header().Set(name, value)
	}
	if a.status == 0 {
		a.status = http.StatusNoContent
	}
	w.WriteHeader(a.status)
	_, _ = io.WriteString(w, a.body)
}

// auth is the section of the proxy's config that leads to the service. more are
// further lines of the section auth.
func (s *tokenService) auth(more ...string) string {
	lines := append([]string{fmt.Sprintf("sources: [{http: {url: 'http://%s/mqtt', timeout: 1s}}]", s.address)}, more...)
	return "auth:\n  " + strings.Join(lines, "\n  ") + "\n"
}

// enter presents a token with a name, in a version of MQTT, and returns the code
// that the device gets.
func enter(t testing.TB, p *proxy, level byte, name string) (*device, packets.ReasonCode) {
	t.Helper()
	p.keep(secretTail)
	d, ack := present(t, dial(t, p.plain), identity(level, strings.ReplaceAll(name, " ", "-"), name+secretTail))
	return d, ack.Code
}

// faults are the answers of a service that is not well, by name.
func faults() map[string]reply {
	return map[string]reply{
		"redirect":       {status: 302, header: map[string]string{"Location": "/allow"}},
		"not found":      {status: 404},
		"unauthorized":   {status: 401},
		"internal error": {status: 500, body: "Traceback"},
		"bad gateway":    {status: 502},
		"not JSON":       {status: 200, header: map[string]string{"Content-Type": "application/json"}, body: "yes"},
		"HTML":           {status: 200, header: map[string]string{"Content-Type": "text/html"}, body: "<html>allow</html>"},
		"empty 200":      {status: 200},
		"no result":      says(`{}`),
		"other result":   says(`{"result":"Deny"}`),
		"two results":    says(`{"result":"allow","result":"deny"}`),
		"milliseconds":   says(`{"result":"allow","expire_at":%d}`, time.Now().Add(time.Hour).UnixMilli()),
		"cut off":        {status: 200, header: map[string]string{"Content-Type": "application/json", "Content-Length": "100"}, body: `{"result":"deny"}`},
		"unknown limits": says(`{"result":"allow","limits":{"publish_rate":1}}`),
	}
}

// TestTokenServiceOutcomes: what a service says is what mosquitto_pub tells, and
// whatever is no answer is never "wrong password".
func TestTokenServiceOutcomes(t *testing.T) {
	t.Parallel()
	broken := faults()
	service := startTokenService(t, func(q question) reply {
		switch name := strings.TrimSuffix(q.Token, secretTail); name {
		case "denied":
			return says(`{"result":"deny","reason":"no"}`)
		case "denied by status":
			return reply{status: 403}
		case "unknown":
			return says(`{"result":"deny","reason_code":"bad_credentials"}`)
		case "ignored":
			return says(`{"result":"ignore"}`)
		case "banned":
			return says(`{"result":"deny","reason_code":"banned"}`)
		case "expired":
			return says(`{"result":"allow","expire_at":%d}`, time.Now().Unix()-1)
		case "busy":
			return says(`{"result":"deny","reason_code":"busy"}`)
		case "slow":
			time.Sleep(3 * time.Second)
			return reply{}
		case "allowed by status":
			return reply{}
		default:
			if a, ok := broken[name]; ok {
				return a
			}
			return allows(q)
		}
	})
	p := newProxy(t, service.auth("cache: {ttl: 0s, negative_ttl: 0s, stale_if_error: 0s}", "guard: {exempt: [127.0.0.0/8]}"))
	p.keep(secretTail)
	p.start()
	tests := map[string][2]int{
		"allowed": {0, 0}, "allowed by status": {0, 0},
		"denied": {5, 0x87}, "denied by status": {5, 0x87}, "unknown": {5, 0x86}, "ignored": {5, 0x86},
		"banned": {5, 0x87}, "expired": {5, 0x87}, "busy": {3, 0x89}, "slow": {3, 0x88},
	}
	for name := range broken {
		tests[name] = [2]int{3, 0x88}
	}
	for name, want := range tests {
		for i, version := range []string{"mqttv311", "mqttv5"} {
			r := mosquittoPub(t, append(p.clientArgs(name+secretTail), "-V", version, "-i", version, "-q", "1", "-t", "v1/devices/me/telemetry", "-m", `{"a":1}`)...)
			if r.status != want[i] {
				t.Errorf("%s, %s: status %d, want %d\n%s", name, version, r.status, want[i], r.all())
			}
			// Five faults in a row would keep the proxy from asking.
			if _, code := enter(t, p, 5, "good in between"); code != packets.Success {
				t.Errorf("a good token after %s: %v", name, code)
			}
		}
	}
}

// TestTokenServiceSaysLater: 429 with Retry-After silences the proxy for so long, and
// no longer, for the device that it answers. A device whose answer is remembered notices
// nothing, nor does a new one.
func TestTokenServiceSaysLater(t *testing.T) {
	t.Parallel()
	service := startTokenService(t, allows)
	p := newProxy(t, service.auth())
	p.start()
	if _, code := enter(t, p, 5, "known"); code != packets.Success {
		t.Fatalf("refused with %v", code)
	}
	service.change(func(question) reply { return reply{status: 429, header: map[string]string{"Retry-After": "5"}} })
	begun := time.Now()
	if _, code := enter(t, p, 4, "first"); code != packets.RefusedServerUnavailable {
		t.Errorf("3.1.1: %v, want %v", code, packets.RefusedServerUnavailable)
	}
	if r := mosquittoPub(t, append(p.clientArgs("second"+secretTail), "-i", "second", "-V", "mqttv5", "-t", "a", "-m", "b")...); r.status != 0x89 {
		t.Errorf("mosquitto_pub 5.0: status %d, want %d", r.status, 0x89)
	}
	service.change(allows)
	service.questions()
	for _, name := range []string{"known", "new"} {
		if _, code := enter(t, p, 5, name); code != packets.Success {
			t.Errorf("the device %q is refused with %v", name, code)
		}
	}
	eventually(t, "the way in once the time is up", func() bool {
		_, code := enter(t, p, 4, "first")
		return code == packets.Success
	})
	if took := time.Since(begun); took < 5*time.Second {
		t.Errorf("asked again after %v, the service wanted 5s", took)
	}
}

// TestTokenServiceClosesIdleConnections: a service may end its keep-alives
// whenever it likes.
func TestTokenServiceClosesIdleConnections(t *testing.T) {
	t.Parallel()
	service := newTokenService(t, allows)
	service.idle = 5 * time.Millisecond
	service.start()
	p := newProxy(t, service.auth())
	p.start()
	for i := range 200 {
		if _, code := enter(t, p, 5, fmt.Sprint("device ", i)); code != packets.Success {
			t.Fatalf("device %d is refused with %v", i, code)
		}
		time.Sleep(time.Duration(i%4+3) * time.Millisecond) // around the time at which the service closes
	}
}

// TestTokenServiceOutage: while the service is down, known devices come and go,
// also after their answer's time, and new ones are told to come back. When it is
// back they can.
func TestTokenServiceOutage(t *testing.T) {
	t.Parallel()
	service := startTokenService(t, func(q question) reply { return says(`{"result":"allow","cache_ttl":1}`) })
	p := newProxy(t, service.auth())
	p.start()
	live, code := enter(t, p, 5, "live")
	known, codeOfKnown := enter(t, p, 5, "known")
	if code != packets.Success || codeOfKnown != packets.Success {
		t.Fatalf("refused with %v, %v", code, codeOfKnown)
	}
	known.conn.Close()
	service.stop()
	time.Sleep(1100 * time.Millisecond) // the answer's time
	for level, want := range map[byte]packets.ReasonCode{4: packets.RefusedServerUnavailable, 5: packets.ServerUnavailable} {
		if _, code := enter(t, p, level, fmt.Sprint("new ", level)); code != want {
			t.Errorf("level %d: a new token gets %v, want %v", level, code, want)
		}
	}
	for i := range 10 {
		if _, code := enter(t, p, 4, fmt.Sprint("new ", i)); code != packets.RefusedServerUnavailable {
			t.Errorf("a new token gets %v, want %v", code, packets.RefusedServerUnavailable)
		}
		if _, code := enter(t, p, 5, "known"); code != packets.Success {
			t.Errorf("the known token gets %v", code)
		}
	}
	if err := live.publish("a", "b"); err != nil {
		t.Errorf("the live session: %v", err)
	}
	service.start()
	back := time.Now()
	eventually(t, "the new device's way in", func() bool {
		_, code := enter(t, p, 5, "new 1")
		return code == packets.Success
	})
	t.Logf("a new device is in %v after the service is back", time.Since(back).Round(time.Millisecond))
}
