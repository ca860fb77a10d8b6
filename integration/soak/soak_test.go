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
	duration     = flag.Duration("soak.duration", 20*time.Second, "how long TestSoak keeps its sessions busy")
	sessionCount = flag.Int("soak.sessions", 5000, "how many sessions TestSoak has at a time, at most 9,000 for a limit of 20,000 files")
	seed         = flag.Uint64("soak.seed", 1, "what TestSoak does and sends follows from it, but for the timing")
)

const (
	roundLength  = 5 * time.Minute // after which all sessions end and are checked
	subjectCount = 50
	effectLimit  = 3 * time.Second // within which an edit ends sessions

	// What the program holds after a round may have grown by so many bytes: the live
	// heap, and the process, which keeps free memory for a while. The runtime never
	// gives back half a KiB for each goroutine there ever was.
	heapGrowth   = 8 << 20
	memoryGrowth = 64 << 20
	// The runtime may start goroutines for cleanups.
	goroutineGrowth = 4
)

// TestSoak: thousands of devices of every kind idle, ping, send small and large messages,
// stall, vanish and reconnect, while an operator ends sessions, revokes tokens, edits the
// token file and reloads. Every message arrives once, in order and unchanged, in both
// directions, until the session ends. When all sessions have ended, the program holds no
// more than before.
//
// It does not run in parallel with other stories.
func TestSoak(t *testing.T) {
	needFiles(t, uint64(2**sessionCount+500))
	t.Logf("-soak.seed %d", *seed)
	s := startSoak(t)
	before := s.footprint()
	t.Logf("before: %v", before)
	rounds := 1 + *duration/roundLength
	for n := time.Duration(0); n < rounds && !t.Failed(); n++ {
		s.round(*duration / rounds)
		after := s.footprint()
		t.Logf("after:  %v", after)
		if after.files > before.files || after.goroutines > before.goroutines+goroutineGrowth ||
			after.heap > before.heap+heapGrowth || after.memory > before.memory+memoryGrowth {
			t.Error("that is more than before")
		}
	}
}

// needFiles fails the test if this process may not open so many files.
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
	random *rand.Rand // the operator's
	number atomic.Uint64
	gate   chan struct{} // limits how many connect at the same time

	mu            sync.Mutex
	interventions []intervention
	results       []sessionResult
}

// intervention is something that the operator has done to the sessions of a subject.
type intervention struct {
	subject   int
	at        time.Time
	withdrawn bool // its token was withdrawn as well
}

// sessionResult is how a session ended for its device.
type sessionResult struct {
	client   string
	subject  int
	sent     uint64 // messages
	received uint64
	end      string
	complete bool // everything was answered
	fault    error
	// When the device began to end the session, and when the session was over.
	leaving, left time.Time
}

func startSoak(t *testing.T) *soak {
	t.Helper()
	address := harness.FreeAddress(t)
	s := &soak{
		t: t, block: newBlock(*seed), random: rand.New(rand.NewPCG(*seed, 0)),
		gate: make(chan struct{}, 32),
	}
	s.sink = harness.Launch(t, append(os.Environ(), fmt.Sprintf("%s=%s %d", sinkVariable, address, *seed)), os.Args[0])
	// All devices have one address, so those of a disabled token would use up the budget of all.
	s.Proxy = harness.NewProxy(t, fmt.Sprintf("upstream: {servers: ['tcp://%s'], client_id: '${client_id}'}\nconnect: {timeout: 60s}\nauth: {guard: {exempt: [127.0.0.0/8]}}\n", address))
	// The end of every session is read from the log.
	s.Env = append(s.Env, "MQTT_AUTH_PROXY_LOG_LEVEL=info", "MQTT_AUTH_PROXY_LOG_LINES_PER_SECOND=100000")
	for i := range subjectCount {
		s.tokens = append(s.tokens, fmt.Sprintf("soak-token-%d-%x", i, s.random.Uint64()))
		s.AddSecret(s.tokens[i])
	}
	s.writeTokens(-1)
	s.Start()
	s.trust = s.Proxy.ClientTLS(t)
	harness.Eventually(t, "the sink", func() bool { status, _ := s.Get("/readyz"); return status == http.StatusOK })
	return s
}

// writeTokens replaces the token file. Half of the devices have topic rules, and one may
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

// round keeps all devices busy for a while. When all sessions have ended, it checks each
// of them.
func (s *soak) round(length time.Duration) {
	s.t.Helper()
	ctx, cancel := context.WithTimeout(s.t.Context(), length)
	defer cancel()
	var running sync.WaitGroup
	for range *sessionCount {
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
	d := &device{
		number: number, random: rand.New(rand.NewPCG(*seed, number)),
		up: stream{block: s.block, session: number}, down: stream{block: s.block, session: number, down: true},
		done: make(chan struct{}), change: make(chan struct{}), denied: map[uint16]bool{},
	}
	subject := d.random.IntN(subjectCount)
	d.filtered, d.topic = subject%2 == 1, []byte("soak/"+d.clientID())
	if !s.connect(d, subject) {
		return
	}
	go d.read()
	for range d.random.IntN(12) {
		if !d.act() || !d.pause(ctx, 6*time.Second) {
			break
		}
	}
	leaving := time.Now()
	end := d.finish()
	s.mu.Lock()
	defer s.mu.Unlock()
	s.results = append(s.results, sessionResult{d.clientID(), subject, d.up.seq, d.down.seq, end, d.complete(), d.fault, leaving, time.Now()})
}

// connect presents the device. It may be refused if the operator has intervened.
func (s *soak) connect(d *device, subject int) bool {
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

// present connects by plain TCP, TLS 1.2 or TLS 1.3, with MQTT 3.1.1 or 5.0. Some
// connections have small buffers.
func (d *device) present(s *soak, token string) (ack packets.Connack, err error) {
	d.level = byte(4 + d.random.IntN(2))
	address, config := s.Plain, (*tls.Config)(nil)
	if d.random.IntN(2) == 0 {
		address, config = s.TLS, s.trust.Clone()
		config.MaxVersion = uint16(tls.VersionTLS12 + d.random.IntN(2))
	}
	dialer := net.Dialer{Timeout: patience}
	if d.random.IntN(2) == 0 {
		dialer.Control = limitBuffers
	}
	if d.conn, err = dialer.Dial("tcp", address); err != nil {
		return ack, err
	}
	if config != nil {
		d.conn = tls.Client(d.conn, config)
	}
	_ = d.conn.SetDeadline(time.Now().Add(patience))
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

// operate does what an operator does meanwhile.
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
		subject := s.random.IntN(subjectCount)
		switch n % 20 {
		case 0:
			s.recordIntervention(subject, true)
			s.writeTokens(subject)
		case 5:
			s.Signal(syscall.SIGHUP)
		case 10:
			s.recordIntervention(subject, true)
			s.ask(http.MethodPost, "/v1/revocations", fmt.Sprintf(`{"subject":"soak-%d"}`, subject), http.StatusOK)
		case 15:
			s.ask(http.MethodPost, "/v1/reload", "", http.StatusOK, http.StatusNoContent)
		default:
			s.recordIntervention(subject, false)
			s.kick(subject)
		}
	}
}

func (s *soak) recordIntervention(subject int, withdrawn bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.interventions = append(s.interventions, intervention{subject, time.Now(), withdrawn})
}

// mayRefuse reports whether the operator has given a reason to refuse a subject: its
// token was withdrawn at some time, or its session ended while it was connecting. The
// caller holds s.mu.
func (s *soak) mayRefuse(subject int, code packets.ReasonCode) bool {
	return slices.ContainsFunc(s.interventions, func(a intervention) bool {
		switch code {
		case packets.RefusedNotAuthorized, packets.NotAuthorized:
			return a.withdrawn && a.subject == subject
		case packets.RefusedServerUnavailable, packets.ServerBusy:
			return a.subject == subject
		}
		return false
	})
}

// disturbed reports whether the operator has intervened while the session was ending. The
// log may then give another reason for its end.
func (s *soak) disturbed(r sessionResult) bool {
	return slices.ContainsFunc(s.interventions, func(a intervention) bool {
		return a.subject == r.subject && a.at.Before(r.left) && a.at.Add(effectLimit).After(r.leaving)
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
