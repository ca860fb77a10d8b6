package hooks

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strconv"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/authz"
	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/proxy"
)

const testSecret = "a-secret-of-the-receiver-in-tests"

// receiver takes events as a service of the operator does.
type receiver struct {
	t  *testing.T
	mu sync.Mutex
	// answers are the next ones; then it answers 204. An answer 0 is none at all.
	answers    []int
	after      string // Retry-After
	at         []time.Duration
	events     []Event
	deliveries []string
	bodies     []string
	start      time.Time
}

// RoundTrip checks the signature and answers.
func (r *receiver) RoundTrip(req *http.Request) (*http.Response, error) {
	body, _ := io.ReadAll(req.Body)
	r.mu.Lock()
	defer r.mu.Unlock()
	r.at = append(r.at, time.Since(r.start))
	r.deliveries, r.bodies = append(r.deliveries, req.Header.Get("X-Delivery")), append(r.bodies, string(body))
	stamp := req.Header.Get("X-Timestamp")
	if want := sign([]byte(testSecret), stamp, body); req.Header.Get("X-Signature") != want || stamp != strconv.FormatInt(time.Now().Unix(), 10) {
		r.t.Errorf("signature %q at %q", req.Header.Get("X-Signature"), stamp)
	}
	if req.Method != http.MethodPost || req.URL.String() != "https://fleet.example/mqtt" || req.Header.Get("Content-Type") != "application/json" || req.UserAgent() != "test/1" {
		r.t.Errorf("%s %s, header %v", req.Method, req.URL, req.Header)
	}
	status := http.StatusNoContent
	if len(r.answers) > 0 {
		status, r.answers = r.answers[0], r.answers[1:]
	}
	if status == 0 {
		return nil, errors.New("connection refused")
	}
	if status == http.StatusNoContent {
		var got struct{ Events []Event }
		if err := json.Unmarshal(body, &got); err != nil {
			r.t.Errorf("%s: %v", body, err)
		}
		r.events = append(r.events, got.Events...)
	}
	w := httptest.NewRecorder()
	w.Header().Set("Retry-After", r.after)
	w.Header().Set("Location", "https://elsewhere.example/")
	w.WriteHeader(status)
	return w.Result(), nil
}

// counts returns how many requests and events it has got.
func (r *receiver) counts() (requests, events int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return len(r.at), len(r.events)
}

func (r *receiver) names() (all []string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, e := range r.events {
		all = append(all, e.Event+" "+e.Subject)
	}
	return all
}

// inBubble runs a test with a sender that delivers to a receiver.
func inBubble(t *testing.T, test func(*testing.T, *Sender, *receiver)) {
	synctest.Test(t, func(t *testing.T) {
		r := &receiver{t: t, start: time.Now()}
		s := New(nil)
		s.Set(&Target{URL: "https://fleet.example/mqtt", Secret: []byte(testSecret), Events: Events(), UserAgent: "test/1", Transport: r})
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan struct{})
		go func() { defer close(done); s.Run(ctx) }()
		test(t, s, r)
		cancel()
		<-done
	})
}

// pass lets time go by, and everything that is to happen until then.
func pass(d time.Duration) {
	time.Sleep(d)
	synctest.Wait()
}

func client(subject string) *proxy.Client {
	return &proxy.Client{
		ID: 7, ClientID: "dev-1", Grant: &authz.Grant{TokenID: "t-7", Subject: subject}, TokenHash: authz.NewToken("the-secret").Hash(),
		Addr: netip.MustParseAddrPort("192.0.2.1:1000"), Listener: "mqtts",
	}
}

func refusal(address string) proxy.Refusal {
	return proxy.Refusal{
		Reason: "unknown_token", Err: errors.New("detail"), Addr: netip.MustParseAddrPort(address), Listener: "mqtts", ClientID: "dev-2",
		Fingerprint: authz.NewToken("the-secret").Fingerprint(),
	}
}

// TestEventsOfASecondAreOneRequest: with all fields, in the order of the events.
func TestEventsOfASecondAreOneRequest(t *testing.T) {
	inBubble(t, func(t *testing.T, s *Sender, r *receiver) {
		s.Opened(client("pump-7"))
		pass(500 * time.Millisecond)
		s.Refused(refusal("192.0.2.2:2000"))
		s.Refused(proxy.Refusal{Reason: proxy.HealthCheck, Listener: "mqtts"})
		s.Closed(client("pump-7"), proxy.End{By: "proxy", Err: proxy.ErrKicked})
		pass(400 * time.Millisecond)
		if len(r.names()) > 0 {
			t.Error("events came before a second had passed")
		}
		pass(200 * time.Millisecond)
		const want = `{"events":[{"event":"connected","time":"2000-01-01T00:00:00Z","subject":"pump-7","client_id":"dev-1","token_id":"t-7","session":7,"listener":"mqtts","address":"192.0.2.1:1000"},` +
			`{"event":"refused","time":"2000-01-01T00:00:00.5Z","client_id":"dev-2","listener":"mqtts","address":"192.0.2.2:2000","reason":"unknown_token"},` +
			`{"event":"disconnected","time":"2000-01-01T00:00:00.5Z","subject":"pump-7","client_id":"dev-1","token_id":"t-7","session":7,"listener":"mqtts","address":"192.0.2.1:1000","reason":"kicked","by":"proxy"}]}`
		if diff := cmp.Diff([]string{want}, r.bodies); diff != "" {
			t.Errorf("(-want +got)\n%s", diff)
		}
		if st := s.Stats(); st.Delivered != 3 || st.Queued != 0 || st.Fault != nil {
			t.Errorf("%+v", st)
		}
	})
}

// TestOneRequestASecond: also if events come all the time, and at once if there are enough.
func TestOneRequestASecond(t *testing.T) {
	inBubble(t, func(t *testing.T, s *Sender, r *receiver) {
		for range 50 {
			s.Opened(client("pump-7"))
			time.Sleep(100 * time.Millisecond)
		}
		pass(2 * time.Second)
		before, events := r.counts()
		if before > 6 || events != 50 {
			t.Errorf("%d requests with %d events", before, events)
		}
		for i := range 2500 {
			s.Opened(client(fmt.Sprint("pump-", i)))
		}
		pass(100 * time.Millisecond)
		if n, events := r.counts(); n != before+2 || events != 2050 {
			t.Errorf("%d requests at once, %d events", n-before, events)
		}
		pass(time.Second)
		if _, events := r.counts(); events != 2550 {
			t.Errorf("%d events", events)
		}
	})
}

// TestAReceiverThatComesBackGetsEverything: the same request again, at a growing distance.
func TestAReceiverThatComesBackGetsEverything(t *testing.T) {
	inBubble(t, func(t *testing.T, s *Sender, r *receiver) {
		r.answers = []int{0, 503, 302, 401, 404, 429}
		s.Opened(client("a"))
		pass(1500 * time.Millisecond)
		s.Opened(client("b"))
		if st := s.Stats(); st.Fault == nil || st.Queued != 2 {
			t.Errorf("while it is down: %+v", st)
		}
		pass(2 * time.Minute)
		if diff := cmp.Diff([]string{"connected a", "connected b"}, r.names()); diff != "" {
			t.Errorf("(-want +got)\n%s", diff)
		}
		for i := range 6 {
			if gap := r.at[i+1] - r.at[i]; gap < (time.Second<<i)/2 || gap > time.Second<<i {
				t.Errorf("%v between the attempts %d and %d", gap, i+1, i+2)
			}
			if r.deliveries[i] != r.deliveries[i+1] || r.bodies[i] != r.bodies[i+1] {
				t.Errorf("attempt %d is another request", i+2)
			}
		}
		if r.deliveries[6] == r.deliveries[7] || r.deliveries[0] == "" {
			t.Errorf("deliveries %q", r.deliveries)
		}
		if st := s.Stats(); st.Failures != 6 || st.Delivered != 2 || st.Fault != nil {
			t.Errorf("%+v", st)
		}
	})
}

// TestRetryAfterIsObeyed: up to a minute.
func TestRetryAfterIsObeyed(t *testing.T) {
	for header, want := range map[string]time.Duration{"7": 7 * time.Second, "3600": time.Minute} {
		inBubble(t, func(t *testing.T, s *Sender, r *receiver) {
			r.answers, r.after = []int{503}, header
			s.Opened(client("a"))
			pass(2 * time.Minute)
			if gap := r.at[1] - r.at[0]; gap != want {
				t.Errorf("Retry-After %s: again after %v", header, gap)
			}
		})
	}
}

// TestEventsThatAreRefusedDoNotStopOthers: an answer about the events drops them.
func TestEventsThatAreRefusedDoNotStopOthers(t *testing.T) {
	for _, status := range []int{400, 413, 415, 422} {
		inBubble(t, func(t *testing.T, s *Sender, r *receiver) {
			r.answers = []int{status}
			s.Opened(client("a"))
			pass(1500 * time.Millisecond)
			s.Opened(client("b"))
			pass(1500 * time.Millisecond)
			if st := s.Stats(); cmp.Diff([]string{"connected b"}, r.names()) != "" || st.Rejected != 1 || st.Delivered != 1 {
				t.Errorf("%d: %q, %+v", status, r.names(), st)
			}
		})
	}
}

// TestNoPartyPushesOutOthers: a flood of refusals leaves connects alone, and neither an address nor
// a device takes the room of others.
func TestNoPartyPushesOutOthers(t *testing.T) {
	s := New(nil)
	s.Set(&Target{Events: Events()})
	s.Opened(client("first"))
	s.Refused(refusal("192.0.2.7:1"))
	for i := range 5000 {
		s.Refused(refusal(fmt.Sprintf("198.51.100.1:%d", 1+i)))
		s.Refused(refusal(fmt.Sprintf("[2001:db8::%x]:1", i)))
		s.Opened(client("flapping"))
	}
	if len(s.refused.parties) != 3 || len(s.refused.parties["192.0.2.7"]) != 1 || s.refused.events.Len() != 21 {
		t.Errorf("%d refusals of %d parties", s.refused.events.Len(), len(s.refused.parties))
	}
	if len(s.sessions.parties["first"]) != 1 || s.sessions.events.Len() != 81 {
		t.Errorf("%d sessions", s.sessions.events.Len())
	}
	for i := range 20_000 { // of as many addresses and devices
		s.Refused(refusal(fmt.Sprintf("10.0.%d.%d:1", i/250, i%250)))
		s.Opened(client(fmt.Sprint("d", i)))
	}
	if s.refused.events.Len() != maxRefused || s.sessions.events.Len() != maxSessions {
		t.Errorf("%d refusals, %d sessions", s.refused.events.Len(), s.sessions.events.Len())
	}
	if st := s.Stats(); st.Queued+int(st.Dropped) != 2+15_000+40_000 {
		t.Errorf("%+v", st)
	}
}

// TestLongNamesAreCut: what a device sends as its client id cannot fill the memory.
func TestLongNamesAreCut(t *testing.T) {
	s := New(nil)
	s.Set(&Target{Events: Events()})
	for i := range 20_000 {
		c := client(fmt.Sprint("d", i))
		c.ClientID = strings.Repeat("<ü", 20_000)
		s.Opened(c)
	}
	if s.sessions.bytes > maxSessionsBytes || s.sessions.bytes < maxSessionsBytes/2 {
		t.Errorf("%d bytes", s.sessions.bytes)
	}
	e, _ := s.sessions.first()
	var got Event
	if err := json.Unmarshal(e.text, &got); err != nil || len(got.ClientID) > maxText || strings.Contains(got.ClientID, "\ufffd") {
		t.Errorf("%d bytes, %v", len(got.ClientID), err)
	}
}

// TestNothingIsLostAtTheEnd: Close delivers what Run had no time for, and says what is left.
func TestNothingIsLostAtTheEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := &receiver{t: t, answers: []int{503}}
		s := New(nil)
		s.Set(&Target{URL: "https://fleet.example/mqtt", Secret: []byte(testSecret), Events: []string{Disconnected}, UserAgent: "test/1", Transport: r})
		for i := range 1500 {
			s.Opened(client("a")) // is not wanted
			s.Closed(client(fmt.Sprint(i)), proxy.End{By: "client"})
		}
		ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
		defer cancel()
		if err := s.Close(ctx); err != nil || len(r.events) != 1500 {
			t.Errorf("%d events, %v", len(r.events), err)
		}
		s.Set(&Target{URL: "https://fleet.example/mqtt", Secret: []byte(testSecret), Events: Events(), UserAgent: "test/1", Transport: r})
		r.answers = []int{500, 500, 500, 500, 500, 500, 500, 500, 500}
		s.Opened(client("a"))
		if err := s.Close(ctx); err == nil || !strings.Contains(err.Error(), "500") || s.Stats().Dropped != 1 {
			t.Errorf("%v, %+v", err, s.Stats())
		}
	})
}

// TestFaultsAreReportedOnce: when requests begin to fail, and when they succeed again.
func TestFaultsAreReportedOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var changes []string
		r := &receiver{t: t, answers: []int{0, 0, 302}}
		s := New(func(err error) { changes = append(changes, fmt.Sprint(err)) })
		s.Set(&Target{URL: "https://fleet.example/mqtt", Secret: []byte(testSecret), Events: Events(), UserAgent: "test/1", Transport: r})
		s.Opened(client("a"))
		if err := s.Close(t.Context()); err != nil {
			t.Error(err)
		}
		if diff := cmp.Diff([]string{"connection refused", "<nil>"}, changes); diff != "" {
			t.Errorf("(-want +got)\n%s", diff)
		}
	})
}

// BenchmarkOpened is what a session pays for an event.
func BenchmarkOpened(b *testing.B) {
	s := New(nil)
	s.Set(&Target{Events: Events()})
	c := client("pump-7")
	b.ReportAllocs()
	for b.Loop() {
		s.Opened(c)
	}
}
