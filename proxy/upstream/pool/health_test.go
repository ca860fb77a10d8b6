package pool

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"slices"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/packets"
	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/proxy/upstream"
)

// at returns the i-th client id whose server is the given one.
func at(t *testing.T, p *Pool, server string, i int) string {
	t.Helper()
	for k := range 10000 {
		id := fmt.Sprintf("pump-%d", k)
		if nameOf(p.members[p.home(1<<len(p.members)-1, hash(id))].server) == server {
			if i--; i < 0 {
				return id
			}
		}
	}
	t.Fatal("no such client")
	return ""
}

// TestFailover: the session goes to the next server at once if the first one refuses, and after
// the first one's share of the time if that does not answer.
func TestFailover(t *testing.T) {
	for _, tt := range []struct {
		mode    mode
		took    time.Duration
		outcome Outcome
	}{
		{refuses, 0, Unreachable},
		{hangsUp, 0, Unanswered},
		{swallows, DefaultTimeout / 2, Unreachable},
		{silent, DefaultTimeout / 2, Unanswered},
	} {
		bubble(t, func(t *testing.T, n *network) {
			p := New(n.options(ClientID, "a", "b"))
			n.set("a", tt.mode)
			server, link, took, err := connect(p, at(t, p, "a", 0))
			if err != nil || server != "b" || took != tt.took {
				t.Fatalf("connected to %q after %v, %v; want b after %v", server, took, err, tt.took)
			}
			if p.find(t, "a").Sessions != 0 || p.find(t, "b").Sessions != 1 {
				t.Errorf("sessions %v", p.Status())
			}
			if n.tried[tt.outcome] != 1 || n.tried[Answered] != 1 {
				t.Errorf("tried %v", n.tried)
			}
			end(link)
		})
	}
}

func TestTimeIsShared(t *testing.T) {
	bubble(t, func(t *testing.T, n *network) {
		p := New(n.options(ClientID, "a", "b", "c"))
		n.setAll(silent, "a", "b", "c")
		ctx, cancel := context.WithTimeout(t.Context(), 6*time.Second)
		defer cancel()
		start := time.Now()
		_, err := p.Connect(ctx, request("x", ""), greet)
		if took := time.Since(start); took != 6*time.Second || err == nil {
			t.Errorf("took %v, %v", took, err)
		}
		for _, s := range []string{"a", "b", "c"} {
			if n.connect[s] != 1 || !strings.Contains(err.Error(), "tcp://"+s+":1883: ") {
				t.Errorf("%s was asked %d times; error %v", s, n.connect[s], err)
			}
		}
	})
}

// TestNoSessionWaitsForADeadServer: no session waits for a server that is down. A server that
// accepts connections and does not answer is down once it has not answered the pool's own
// CONNECT either.
func TestNoSessionWaitsForADeadServer(t *testing.T) {
	for _, m := range []mode{swallows, silent} {
		bubble(t, func(t *testing.T, n *network) {
			p := New(n.options(ClientID, "a", "b"))
			run(t, p)
			n.set("a", m)
			for i := range 3 {
				_, link, took, err := connect(p, at(t, p, "a", i))
				if err != nil || took != DefaultTimeout/2 && p.find(t, "a").State != Down {
					t.Fatalf("session %d took %v, %v", i, took, err)
				}
				end(link)
			}
			<-time.After(p.timeout())
			for i := range 200 {
				_, link, took, err := connect(p, at(t, p, "a", i))
				if err != nil || took != 0 {
					t.Fatalf("session %d took %v, %v", i, took, err)
				}
				end(link)
				<-time.After(time.Second)
			}
			if !slices.Equal(n.downs, []string{"a false"}) {
				t.Errorf("told %q", n.downs)
			}
		})
	}
}

// TestPausesGrow: a server that stays down is probed after one second, two, four, and so on up
// to thirty; each pause is shortened by up to a half.
func TestPausesGrow(t *testing.T) {
	bubble(t, func(t *testing.T, n *network) {
		p := New(n.options(ClientID, "a"))
		run(t, p)
		n.set("a", refuses)
		for range 3 {
			visit(p, "x")
		}
		last := time.Now()
		for i, longest := range []time.Duration{1, 2, 4, 8, 16, 30, 30, 30} {
			longest *= time.Second
			for n.count(n.probes, "a") == i {
				<-time.After(time.Millisecond)
			}
			if pause := time.Since(last); pause < longest/2 || pause > longest+5*time.Millisecond {
				t.Errorf("pause %d was %v, want %v to %v", i+1, pause, longest/2, longest)
			}
			last = time.Now()
		}
		n.set("a", healthy)
		<-time.After(31 * time.Second)
		if s := p.find(t, "a"); s.State != Up || s.Failures != 0 || s.LastError == nil || !slices.Equal(n.downs, []string{"a false", "a true"}) {
			t.Errorf("%+v, told %q", s, n.downs)
		}
	})
}

// TestServerThatAnswersOnlyProbes: such a server is tried less and less often, until a session
// gets an answer.
func TestServerThatAnswersOnlyProbes(t *testing.T) {
	bubble(t, func(t *testing.T, n *network) {
		p := New(n.options(ClientID, "a", "b"))
		m := p.member(mustServer(t, "a"))
		var pauses []time.Duration
		for range 7 {
			for range 3 {
				p.failed(m, failure{err: errTest})
			}
			pauses = append(pauses, time.Until(m.retryAt))
			p.recovered(m, false)
		}
		if pauses[6] < maxPause/2 || pauses[0] > minPause {
			t.Errorf("pauses %v", pauses)
		}
		p.succeeded(m)
		for range 3 {
			p.failed(m, failure{err: errTest})
		}
		if pause := time.Until(m.retryAt); pause > minPause {
			t.Errorf("pause %v after a session got through", pause)
		}
	})
}

// TestUnansweredConnectsDoNotTakeAServerDown: CONNECTs that a broker does not answer affect
// only their senders, however many they are and whether or not others connect meanwhile.
func TestUnansweredConnectsDoNotTakeAServerDown(t *testing.T) {
	disliked := func(context.Context, net.Conn) (bool, error) { return false, io.EOF }
	for _, tt := range []struct {
		name   string
		mode   mode          // how the server treats probes and other devices
		others time.Duration // time between two devices that get an answer; 0 for none
	}{
		{"answers probes", healthy, 0},
		{"answers probes and others", healthy, 5 * time.Second},
		{"answers others", refusesProbes, 5 * time.Second},
	} {
		t.Run(tt.name, func(t *testing.T) {
			bubble(t, func(t *testing.T, n *network) {
				p := New(n.options(ClientID, "a", "b"))
				n.set("a", tt.mode)
				n.probeID = p.probeID
				run(t, p)
				visit(p, at(t, p, "a", 0))
				start := time.Now()
				for i := range 600 {
					id := at(t, p, "a", i%14)
					if _, err := p.Connect(t.Context(), request(id, id), disliked); err == nil {
						t.Fatal("connected")
					}
					<-time.After(100 * time.Millisecond)
					if tt.others > 0 && time.Since(start) > tt.others {
						start = time.Now()
						if server := visit(p, at(t, p, "a", 20)); server != "a" {
							t.Fatalf("a device of a was sent to %q", server)
						}
					}
				}
				if len(n.downs) != 0 {
					t.Errorf("told %q", n.downs)
				}
				if probes := n.count(n.probes, "a"); probes == 0 || probes > 61 {
					t.Errorf("%d probes in a minute, want one a second at most", probes)
				}
			})
		})
	}
}

// TestSilentToOneSubject: a silent server goes down even if all sessions have the same subject.
func TestSilentToOneSubject(t *testing.T) {
	for _, m := range []mode{silent, hangsUp} {
		bubble(t, func(t *testing.T, n *network) {
			p := New(n.options(ClientID, "a"))
			run(t, p)
			n.set("a", m)
			for i := range 3 {
				_, _ = p.Connect(t.Context(), request(fmt.Sprint(i), "gateway"), greet)
			}
			<-time.After(p.timeout() + time.Second)
			if s := p.find(t, "a").State; s != Down {
				t.Errorf("the server is %s", s)
			}
		})
	}
}

// TestSilentServerGoesDownAfterItServed: a server that becomes silent stays up only for a while
// because it has answered a session before, and not at all if Health.MQTT is set.
func TestSilentServerGoesDownAfterItServed(t *testing.T) {
	for health, limit := range map[Health]time.Duration{
		{}:             recently + DefaultTimeout,
		{Interval: -1}: recently + DefaultTimeout,
		{MQTT: true, Interval: time.Second, Timeout: time.Second}: 6 * time.Second,
	} {
		bubble(t, func(t *testing.T, n *network) {
			o := n.options(ClientID, "a", "b")
			o.Health = health
			p := New(o)
			run(t, p)
			visit(p, at(t, p, "a", 0))
			start := time.Now()
			n.set("a", silent)
			for p.find(t, "a").State != Down {
				visit(p, at(t, p, "a", 0))
				if took := time.Since(start); took > limit {
					t.Fatalf("%+v: the server is not down after %v", health, took)
				}
			}
		})
	}
}

// TestFailuresCountInARow: failures count in a row.
func TestFailuresCountInARow(t *testing.T) {
	bubble(t, func(t *testing.T, n *network) {
		p := New(n.options(ClientID, "a"))
		for range 5 {
			n.set("a", refuses)
			visit(p, "x")
			visit(p, "y")
			n.set("a", healthy)
			visit(p, "x")
		}
		if len(n.downs) != 0 {
			t.Errorf("told %q", n.downs)
		}
	})
}

// TestLocalErrorsDoNotCount: a lack of descriptors in this process, or a device that
// disconnected, is no failure of the server.
func TestLocalErrorsDoNotCount(t *testing.T) {
	bubble(t, func(t *testing.T, n *network) {
		o := n.options(ClientID, "a", "b")
		o.Dial = func(context.Context, upstream.Server) (net.Conn, error) {
			return nil, &net.OpError{Op: "dial", Err: syscall.EMFILE}
		}
		p := New(o)
		for range 10 {
			if visit(p, "x") != "" {
				t.Fatal("connected")
			}
		}
		n.setAll(silent, "a", "b")
		p.options.Dial = n.dial
		for i := range 10 {
			ctx, cancel := context.WithCancel(t.Context())
			time.AfterFunc(time.Second, cancel)
			if _, err := p.Connect(ctx, request("x", fmt.Sprint(i)), greet); err == nil {
				t.Fatal("connected")
			}
		}
		for _, s := range p.Status() {
			if s.State != Unknown || s.Failures != 0 {
				t.Errorf("%+v", s)
			}
		}
		if len(n.tried) != 1 || n.tried[Abandoned] != 30 {
			t.Errorf("tried %v, want 30 abandoned", n.tried)
		}
		wantIdle(t, p)
	})
}

// TestRefusalIsAnAnswer: after a refusal no other server is tried.
func TestRefusalIsAnAnswer(t *testing.T) {
	bubble(t, func(t *testing.T, n *network) {
		p := New(n.options(ClientID, "a", "b"))
		_, err := p.Connect(t.Context(), request("x", ""), func(context.Context, net.Conn) (bool, error) { return true, errTest })
		if !errors.Is(err, errTest) || n.dials["a"]+n.dials["b"] != 1 || n.tried[Answered] != 1 {
			t.Errorf("%v after %v", err, n.dials)
		}
		wantIdle(t, p)
	})
}

// TestLastResort: if all servers are down, a few sessions try at once, the others fail at once,
// and the first success brings the server up for all.
func TestLastResort(t *testing.T) {
	bubble(t, func(t *testing.T, n *network) {
		p := New(n.options(ClientID, "a", "b"))
		n.setAll(swallows, "a", "b")
		for range 6 {
			visit(p, "x")
		}
		if !slices.Equal(sorted(n.downs), []string{"a false", "b false"}) {
			t.Fatalf("told %q", n.downs)
		}
		type result struct {
			took time.Duration
			err  error
		}
		results := make(chan result, 500)
		for i := range cap(results) {
			go func() {
				_, _, took, err := connect(p, fmt.Sprint(i))
				results <- result{took, err}
			}()
		}
		synctest.Wait()
		quick := len(results)
		if want := cap(results) - 2*maxTrials; quick != want {
			t.Errorf("%d sessions were refused at once, want %d", quick, want)
		}
		for range cap(results) {
			r := <-results
			if r.err == nil || r.took > DefaultTimeout {
				t.Errorf("%v after %v", r.err, r.took)
			}
			if r.took == 0 && !strings.Contains(r.err.Error(), "tcp://a:1883: is down: context deadline exceeded; tcp://b:1883: is down") {
				t.Errorf("told %v", r.err)
			}
			if r.took == 0 && errors.Is(r.err, context.DeadlineExceeded) {
				t.Error("an old timeout passes for one of this session")
			}
		}
		n.set("b", healthy)
		<-time.After(time.Second)
		for i := range 100 {
			if server := visit(p, fmt.Sprint(i)); server != "b" {
				// The client ids of server a try it first, for their share of the time.
				t.Fatalf("session %d went to %q", i, server)
			}
		}
		wantIdle(t, p)
	})
}

// TestOneSubjectTriesOnce: one subject cannot take all the places of the last resort.
func TestOneSubjectTriesOnce(t *testing.T) {
	bubble(t, func(t *testing.T, n *network) {
		p := New(n.options(ClientID, "a"))
		n.set("a", refuses)
		for range 3 {
			visit(p, "x")
		}
		n.set("a", silent)
		done := make(chan struct{}, 30)
		for i := range cap(done) {
			go func() {
				_, _ = p.Connect(context.Background(), request(fmt.Sprint(i), "hostile"), greet)
				done <- struct{}{}
			}()
		}
		synctest.Wait()
		n.set("a", healthy)
		if server := visit(p, "honest"); server != "a" {
			t.Error("the honest device is locked out")
		}
		for range cap(done) {
			<-done
		}
	})
}

// TestSilentServerNeedsAnAnswer: a server that went down although it accepted connections does
// not come up because it accepts one.
func TestSilentServerNeedsAnAnswer(t *testing.T) {
	bubble(t, func(t *testing.T, n *network) {
		p := New(n.options(ClientID, "a", "b"))
		run(t, p)
		n.set("a", silent)
		for i := range 3 {
			visit(p, at(t, p, "a", i))
		}
		<-time.After(5 * time.Minute)
		if s := p.find(t, "a"); s.State != Down || n.count(n.probes, "a") < 5 {
			t.Errorf("%+v after %d probes", s, n.probes["a"])
		}
		n.set("a", healthy)
		<-time.After(time.Minute)
		if s := p.find(t, "a"); s.State != Up {
			t.Errorf("%+v", s)
		}
	})
}

// TestProbes: a server without an answer is probed every interval, one that has just answered a
// session is not, and the only server of a pool is not while it is up.
func TestProbes(t *testing.T) {
	bubble(t, func(t *testing.T, n *network) {
		o := n.options(ClientID, "a", "b")
		o.Health.Interval = 10 * time.Second
		p := New(o)
		run(t, p)
		busy := at(t, p, "a", 0)
		for range 100 {
			<-time.After(time.Second)
			visit(p, busy)
		}
		if a, b := n.count(n.probes, "a"), n.count(n.probes, "b"); a != 1 || b < 10 || b > 13 {
			t.Errorf("a was probed %d times, b %d times", a, b)
		}
		n.set("b", refuses)
		<-time.After(31 * time.Second)
		if s := p.find(t, "b"); s.State != Down || !strings.Contains(s.LastError.Error(), "probe: ") {
			t.Errorf("%+v", s)
		}

		o = n.options(ClientID, "c")
		o.Health.Interval = 10 * time.Second
		run(t, New(o))
		<-time.After(time.Minute)
		if c := n.count(n.dials, "c"); c != 0 {
			t.Errorf("a server alone was probed %d times", c)
		}
	})
}

func TestProbesByConnect(t *testing.T) {
	bubble(t, func(t *testing.T, n *network) {
		o := n.options(ClientID, "a", "b")
		o.Health = Health{Interval: 10 * time.Second, Timeout: time.Second, MQTT: true, Username: "probe", Password: "p"}
		p := New(o)
		run(t, p)
		n.set("b", silent)
		<-time.After(35 * time.Second)
		if a, b := p.find(t, "a"), p.find(t, "b"); a.State != Up || b.State != Down || !errors.Is(b.LastError, context.DeadlineExceeded) && !isTimeout(b.LastError) {
			t.Errorf("%+v\n%+v", a, b)
		}
	})
}

func isTimeout(err error) bool {
	timeout, ok := errors.AsType[net.Error](err)
	return ok && timeout.Timeout()
}

// TestProbeCredentials: the probe's CONNECT is valid and carries the credentials of Health.
func TestProbeCredentials(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		got := make(chan *packets.Connect, 1)
		p := New(Options{
			Servers: []Server{{Server: mustServer(t, "a")}},
			Health:  Health{MQTT: true, Username: "probe", Password: "secret"},
			Dial: func(context.Context, upstream.Server) (net.Conn, error) {
				near, far := net.Pipe()
				go func() {
					defer far.Close()
					c, err := packets.ReadConnect(far, 1000)
					if err != nil {
						t.Error(err)
						return
					}
					got <- c
					_, _ = far.Write((&packets.Connack{}).Append(nil, c.Level))
					disconnect, err := packets.ReadPacket(far, 10)
					if err != nil || packets.Type(disconnect[0]>>4) != packets.DISCONNECT {
						t.Errorf("the probe ended with % x, %v", disconnect, err)
					}
				}()
				return near, nil
			},
		})
		if err := p.Answers(t.Context()); err != nil {
			t.Fatal(err)
		}
		if c := <-got; c.Username != "probe" || c.Password != "secret" || !c.CleanStart || len(c.ClientID) != 22 {
			t.Errorf("got %+v", c)
		}
		synctest.Wait()
	})
}

// TestLostSessions: sessions are given up once when probes fail and another server answers, and
// never when no server answers.
func TestLostSessions(t *testing.T) {
	bubble(t, func(t *testing.T, n *network) {
		o := n.options(ClientID, "a", "b", "c")
		o.Health = Health{Interval: time.Second, Timeout: time.Second}
		p := New(o)
		run(t, p)
		<-time.After(5 * time.Second)
		n.set("a", swallows)
		start := time.Now()
		for len(n.lostServers()) == 0 {
			<-time.After(10 * time.Millisecond)
		}
		if took := time.Since(start); took > 6*time.Second+50*time.Millisecond {
			t.Errorf("took %v, want three probes of a second with a second between", took)
		}
		<-time.After(10 * time.Minute)
		if lost := n.lostServers(); !slices.Equal(lost, []string{"a"}) {
			t.Errorf("lost %q", lost)
		}
		n.set("a", healthy)
		<-time.After(time.Minute)
		n.setAll(swallows, "a", "b", "c") // the network fails here
		<-time.After(10 * time.Minute)
		if lost := n.lostServers(); !slices.Equal(lost, []string{"a"}) {
			t.Errorf("lost %q although nothing answered", lost)
		}
	})
}

func (n *network) lostServers() []string {
	n.mu.Lock()
	defer n.mu.Unlock()
	return slices.Clone(n.lost)
}

// TestReplacement: the new pool takes over the state of the servers that are in both pools, and
// sessions of the old pool release their places.
func TestReplacement(t *testing.T) {
	bubble(t, func(t *testing.T, n *network) {
		o := n.options(LeastConnections, "a", "b")
		old := New(o)
		n.set("a", refuses)
		for range 6 {
			visit(old, "x")
		}
		_, link, _, err := connect(old, "y")
		if err != nil {
			t.Fatal(err)
		}
		o = n.options(RoundRobin, "a", "b", "c")
		o.Previous = old
		p := New(o)
		if a, b, c := p.find(t, "a"), p.find(t, "b"), p.find(t, "c"); a.State != Down || b.Sessions != 1 || c.State != Unknown {
			t.Errorf("%+v\n%+v\n%+v", a, b, c)
		}
		run(t, p)
		n.set("a", healthy)
		<-time.After(time.Minute)
		if s := old.find(t, "a").State; s != Up {
			t.Errorf("the old pool still has a %s", s)
		}
		end(link)
		wantIdle(t, p)
	})
}

// TestAnswers: a known answer is enough. Otherwise every server is asked, once, at the same
// time.
func TestAnswers(t *testing.T) {
	bubble(t, func(t *testing.T, n *network) {
		p := New(n.options(ClientID, "a", "b"))
		n.set("a", swallows)
		if err := p.Answers(t.Context()); err != nil || n.dials["b"] != 1 {
			t.Errorf("%v after %v", err, n.dials)
		}
		if err := p.Answers(t.Context()); err != nil || n.dials["b"] != 1 {
			t.Errorf("asked again: %v after %v", err, n.dials)
		}
		n.set("b", refuses)
		visit(p, at(t, p, "b", 0))
		start := time.Now()
		err := p.Answers(t.Context())
		if took := time.Since(start); err == nil || took != 2*time.Second ||
			!strings.Contains(err.Error(), "tcp://a:1883: ") || !strings.Contains(err.Error(), "tcp://b:1883: ") {
			t.Errorf("%v after %v", err, took)
		}
	})
}

// TestPanicReleasesThePlace: a bug in one session must not block the server.
func TestPanicReleasesThePlace(t *testing.T) {
	bubble(t, func(t *testing.T, n *network) {
		p := New(n.options(ClientID, "a"))
		func() {
			defer func() { _ = recover() }()
			_, _ = p.Connect(t.Context(), request("", ""), func(context.Context, net.Conn) (bool, error) { panic("bug") })
		}()
		wantIdle(t, p)
		synctest.Wait() // the fake server's goroutine ends only if its connection was closed
	})
}

func TestBadOptions(t *testing.T) {
	dial := new(network).dial
	for _, o := range []Options{{Dial: dial}, {Servers: []Server{{}}}, {Dial: dial, Servers: make([]Server, MaxServers+1)}} {
		func() {
			defer func() {
				if recover() == nil {
					t.Errorf("%d servers are accepted", len(o.Servers))
				}
			}()
			New(o)
		}()
	}
}

func TestErrorsAreOneLine(t *testing.T) {
	err := error(failures{errors.New("a\nb\x1b[31m\u0085"), net.ErrClosed})
	if got := err.Error(); got != "a?b?[31m?; use of closed network connection" {
		t.Errorf("got %q", got)
	}
	if !errors.Is(err, net.ErrClosed) {
		t.Error("the parts cannot be found")
	}
}

func sorted(s []string) []string {
	s = slices.Clone(s)
	slices.Sort(s)
	return s
}

// TestAdviceForAServerThatNeverAnswered: until a server has answered a session, the error says
// what may be wrong with it.
func TestAdviceForAServerThatNeverAnswered(t *testing.T) {
	for _, tt := range []struct {
		mode    mode
		advised bool
	}{{silent, true}, {hangsUp, true}, {refuses, false}} {
		bubble(t, func(t *testing.T, n *network) {
			o := n.options(ClientID, "a")
			o.Advice, o.Health.MQTT = "is it a broker?", true
			p := New(o)
			advised := func() (session, probe bool) {
				n.set("a", tt.mode)
				_, _, _, err := connect(p, "x")
				return strings.Contains(err.Error(), "(is it a broker?)"), strings.Contains(p.Answers(t.Context()).Error(), "(is it a broker?)")
			}
			if session, probe := advised(); session != tt.advised || probe != tt.advised {
				t.Errorf("mode %d: advice for a session %v, for a probe %v; want %v", tt.mode, session, probe, tt.advised)
			}
			n.set("a", healthy)
			visit(p, "x")
			if session, probe := advised(); session || probe {
				t.Errorf("mode %d: advice for a session %v, for a probe %v although the server has answered", tt.mode, session, probe)
			}
		})
	}
}

// A panic in a probe ends that probe, which then says nothing about the server.
func TestPanicEndsOneProbe(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newNetwork(t)
		o := n.options(ClientID, "a", "b")
		o.Health.Interval = time.Minute
		var panics atomic.Int32
		o.Trace.Panicked = func(any, []byte) { panics.Add(1) }
		o.Dial = func(context.Context, upstream.Server) (net.Conn, error) { panic("bug") }
		p := New(o)
		run(t, p)
		time.Sleep(10 * time.Minute)
		if got := panics.Load(); got < 20 {
			t.Errorf("%d panics were reported in ten minutes, want two a minute", got)
		}
		for _, name := range []string{"a", "b"} {
			if s := p.find(t, name); s.State == Down {
				t.Errorf("%s is down", name)
			}
		}
	})
}

// A panic in a hook ends neither the probes nor the process.
func TestPanicsOfHooks(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newNetwork(t)
		o := n.options(ClientID, "a", "b")
		o.Health = Health{Interval: time.Second, Timeout: time.Second}
		var panics atomic.Int32
		o.Trace.Panicked = func(any, []byte) { panics.Add(1) }
		p := New(o)
		p.options.Trace.Probed = func(upstream.Server, error) { panic("bug") }
		run(t, p)
		time.Sleep(time.Minute)
		if got := panics.Load(); got < 60 {
			t.Errorf("%d panics were reported in a minute, want two a second", got)
		}
	})
}
