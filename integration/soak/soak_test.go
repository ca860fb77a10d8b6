//go:build integration && linux

package soak

import (
	"context"
	"crypto/sha256"
	"crypto/tls"
	"encoding/json"
	"flag"
	"fmt"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/integration/harness"
	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/packets"
	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/packets/packetstest"
)

var (
	soakDuration = flag.Duration("soak.duration", 20*time.Second, "how long TestSoak keeps its sessions busy")
	soakSessions = flag.Int("soak.sessions", 5000, "how many sessions TestSoak has at a time, at most 9,000 for a limit of 20,000 files")
	soakSeed     = flag.Uint64("soak.seed", 1, "what TestSoak does and sends follows from it, but for the timing")
)

const (
	soakRound    = 5 * time.Minute // after which all sessions end and what is left is looked at
	soakSubjects = 50
	soakEffect   = 3 * time.Second // until which an edit has ended sessions

	// By so much what is left may have grown, in bytes: what is alive after a
	// collection, and the process, which keeps free memory for a while. The runtime
	// never gives back the half KiB that it has for each goroutine there ever was.
	soakHeap   = 8 << 20
	soakMemory = 64 << 20
	// The runtime has goroutines of its own for cleanups, as many as it likes.
	soakGoroutines = 4
)

// TestSoak: thousands of devices of every kind idle, ping, send bursts and megabytes,
// stall, vanish and come back, while the operator kicks, revokes, edits the token
// file and reloads. What a session sends arrives once, in order and unchanged, both
// ways, up to the end of the session; and when all have ended nothing is left.
//
// It is not parallel: no other story runs meanwhile.
func TestSoak(t *testing.T) {
	needFiles(t, uint64(2**soakSessions+500))
	t.Logf("-soak.seed %d", *soakSeed)
	s := startSoak(t)
	before := s.footprint()
	t.Logf("before: %v", before)
	rounds := 1 + *soakDuration/soakRound
	for n := time.Duration(0); n < rounds && !t.Failed(); n++ {
		s.round(*soakDuration / rounds)
		after := s.footprint()
		t.Logf("after:  %v", after)
		if after.files > before.files || after.goroutines > before.goroutines+soakGoroutines ||
			after.heap > before.heap+soakHeap || after.memory > before.memory+soakMemory {
			t.Error("that is more than before")
		}
	}
}

// needFiles ends a story that is about more files than a process may have.
func needFiles(t testing.TB, n uint64) {
	t.Helper()
	var limit syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &limit); err != nil {
		t.Fatal(err)
	}
	if limit.Cur < n {
		t.Fatalf("only %d files may be open, %d are needed: ulimit -n, or fewer sessions", limit.Cur, n)
	}
}

// soak is the program between devices and a sink in another process.
type soak struct {
	*harness.Proxy
	t      *testing.T
	sink   *harness.Process
	block  []byte
	trust  *tls.Config
	tokens []string
	dice   *rand.Rand // the operator's
	number atomic.Uint64
	gate   chan struct{} // limits who connects at the same time

	mu      sync.Mutex
	acts    []soakAct
	results []soakResult
}

// soakAct is something that the operator has done to a subject's sessions.
type soakAct struct {
	subject   int
	at        time.Time
	withdrawn bool // and to its token
}

// soakResult is how a session ended for its device.
type soakResult struct {
	client   string
	subject  int
	sent     uint64 // messages
	received uint64
	end      string
	complete bool // everything was answered
	fault    error
	// When the device began to end the session, and when it was over.
	leaving, left time.Time
}

func startSoak(t *testing.T) *soak {
	t.Helper()
	address := harness.FreeAddress(t)
	s := &soak{
		t: t, block: soakBlock(*soakSeed), dice: rand.New(rand.NewPCG(*soakSeed, 0)),
		gate: make(chan struct{}, 32),
	}
	s.sink = harness.Launch(t, append(os.Environ(), fmt.Sprintf("%s=%s %d", soakVariable, address, *soakSeed)), os.Args[0])
	s.Proxy = harness.NewProxy(t, fmt.Sprintf("upstream: {servers: ['tcp://%s'], client_id: '${client_id}'}\nconnect: {timeout: 60s}\n", address))
	// The end of every session is read from the log.
	s.Env = append(s.Env, "MQTT_AUTH_PROXY_LOG_LEVEL=info", "MQTT_AUTH_PROXY_LOG_LINES_PER_SECOND=100000")
	for i := range soakSubjects {
		s.tokens = append(s.tokens, fmt.Sprintf("soak-token-%d-%x", i, s.dice.Uint64()))
		s.AddSecret(s.tokens[i])
	}
	s.writeTokens(-1)
	s.Start()
	s.trust = s.Proxy.ClientTLS(t)
	harness.Eventually(t, "the sink", func() bool { status, _ := s.Get("/readyz"); return status == http.StatusOK })
	return s
}

// writeTokens replaces the token file. Half of the devices have topic rules; one may
// be disabled.
func (s *soak) writeTokens(disabled int) {
	s.t.Helper()
	var b strings.Builder
	for i, token := range s.tokens {
		fmt.Fprintf(&b, `{"id":"soak-%d","token_hash":"sha256:%x"`, i, sha256.Sum256([]byte(token)))
		if i%2 == 1 {
			b.WriteString(`,"acl":[{"permission":"allow","action":"all","topics":["soak/#"]}]`)
		}
		if i == disabled {
			b.WriteString(`,"disabled":true`)
		}
		b.WriteString("}\n")
	}
	file := filepath.Join(s.Data, "tokens.jsonl")
	if err := os.MkdirAll(s.Data, 0o700); err != nil {
		s.t.Fatal(err)
	}
	harness.WriteFile(s.t, file+".new", b.String())
	if err := os.Rename(file+".new", file); err != nil {
		s.t.Fatal(err)
	}
}

// round has all devices busy for a while and checks, when all sessions have ended,
// what has become of each.
func (s *soak) round(length time.Duration) {
	s.t.Helper()
	ctx, cancel := context.WithTimeout(s.t.Context(), length)
	defer cancel()
	var running sync.WaitGroup
	for range *soakSessions {
		running.Go(func() {
			for ctx.Err() == nil {
				s.live(ctx)
			}
		})
	}
	s.operate(ctx)
	running.Wait()
	s.check()
}

// live is one session from its beginning to its end.
func (s *soak) live(ctx context.Context) {
	number := s.number.Add(1)
	d := &soakDevice{
		number: number, dice: rand.New(rand.NewPCG(*soakSeed, number)),
		up: soakStream{block: s.block, session: number}, down: soakStream{block: s.block, session: number, down: true},
		done: make(chan struct{}), change: make(chan struct{}), denied: map[uint16]bool{},
	}
	subject := d.dice.IntN(soakSubjects)
	d.filtered, d.topic = subject%2 == 1, []byte("soak/"+d.clientID())
	if !s.connect(d, subject) {
		return
	}
	go d.read()
	for range d.dice.IntN(12) {
		if !d.act() || !d.pause(ctx, 6*time.Second) {
			break
		}
	}
	leaving := time.Now()
	end := d.finish()
	s.mu.Lock()
	defer s.mu.Unlock()
	s.results = append(s.results, soakResult{d.clientID(), subject, d.up.seq, d.down.seq, end, d.complete(), d.fault, leaving, time.Now()})
}

// connect presents the device. It may be refused if the operator has done something
// to its subject.
func (s *soak) connect(d *soakDevice, subject int) bool {
	s.gate <- struct{}{}
	defer func() { <-s.gate }()
	ack, err := d.present(s, s.tokens[subject])
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case err == nil && ack.Code == packets.Success:
		return true
	case err != nil:
		s.t.Errorf("%s: %v", d.clientID(), err)
	case !s.mayRefuse(subject, ack.Code):
		s.t.Errorf("%s of soak-%d is refused with %v", d.clientID(), subject, ack.Code)
	}
	d.conn.Close()
	return false
}

// present opens the connection: plain or TLS 1.2 or 1.3, MQTT 3.1.1 or 5.0, some with
// little room for what comes.
func (d *soakDevice) present(s *soak, token string) (ack packets.Connack, err error) {
	d.level = byte(4 + d.dice.IntN(2))
	address, config := s.Plain, (*tls.Config)(nil)
	if d.dice.IntN(2) == 0 {
		address, config = s.TLS, s.trust.Clone()
		config.MaxVersion = uint16(tls.VersionTLS12 + d.dice.IntN(2))
	}
	dialer := net.Dialer{Timeout: soakPatience}
	if d.dice.IntN(2) == 0 {
		dialer.Control = narrow
	}
	if d.conn, err = dialer.Dial("tcp", address); err != nil {
		return ack, err
	}
	if config != nil {
		d.conn = tls.Client(d.conn, config)
	}
	_ = d.conn.SetDeadline(time.Now().Add(soakPatience))
	if _, err := d.conn.Write(packetstest.Identity(d.level, d.clientID(), token).Append(nil)); err != nil {
		return ack, err
	}
	raw, err := packets.ReadPacket(d.conn, 1<<10)
	if err != nil {
		return ack, err
	}
	_ = d.conn.SetDeadline(time.Time{})
	return ack, ack.Parse(raw, d.level)
}

// operate is what an operator does meanwhile.
func (s *soak) operate(ctx context.Context) {
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	for n := 1; ; n++ {
		select {
		case <-ctx.Done():
			s.writeTokens(-1)
			return
		case <-tick.C:
		}
		subject := s.dice.IntN(soakSubjects)
		switch n % 20 {
		case 0:
			s.act(subject, true)
			s.writeTokens(subject)
		case 5:
			s.Signal(syscall.SIGHUP)
		case 10:
			s.act(subject, true)
			s.ask(http.MethodPost, "/v1/revocations", fmt.Sprintf(`{"subject":"soak-%d"}`, subject), http.StatusOK)
		case 15:
			s.ask(http.MethodPost, "/v1/reload", "", http.StatusOK, http.StatusNoContent)
		default:
			s.act(subject, false)
			s.kick(subject)
		}
	}
}

func (s *soak) act(subject int, withdrawn bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.acts = append(s.acts, soakAct{subject, time.Now(), withdrawn})
}

// mayRefuse reports whether the operator has given a reason to refuse a subject: a
// token withdrawn at some time, or a session ended that was about to begin. s.mu is
// held.
func (s *soak) mayRefuse(subject int, code packets.ReasonCode) bool {
	return slices.ContainsFunc(s.acts, func(a soakAct) bool {
		switch code {
		case packets.RefusedNotAuthorized, packets.NotAuthorized:
			return a.withdrawn && a.subject == subject
		case packets.RefusedServerUnavailable, packets.ServerBusy:
			return a.subject == subject
		}
		return false
	})
}

// disturbed reports whether the operator has done something to the subject while
// the session was about to end: what the program says of it need not show that.
func (s *soak) disturbed(r soakResult) bool {
	return slices.ContainsFunc(s.acts, func(a soakAct) bool {
		return a.subject == r.subject && a.at.Before(r.left) && a.at.Add(soakEffect).After(r.leaving)
	})
}

// kick ends a few sessions of a subject.
func (s *soak) kick(subject int) {
	var list struct{ Sessions []struct{ ID uint64 } }
	answer := s.ask(http.MethodGet, fmt.Sprintf("/v1/sessions?limit=3&subject=soak-%d", subject), "", http.StatusOK)
	if err := json.Unmarshal([]byte(answer), &list); err != nil {
		s.t.Error(err)
	}
	for _, session := range list.Sessions {
		s.ask(http.MethodDelete, fmt.Sprintf("/v1/sessions/%d", session.ID), "", http.StatusNoContent, http.StatusNotFound)
	}
}
