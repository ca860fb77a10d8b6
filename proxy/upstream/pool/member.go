package pool

import (
	"math/rand/v2"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/proxy/upstream"
)

const (
	// minPause and maxPause bound the time between attempts with a server that is down.
	minPause = time.Second
	maxPause = 30 * time.Second
	// maxTrials is how many sessions may try a server that is down at the same time.
	maxTrials = 16
	// recently is how long an answer to one session shows that the server works, even if the
	// server has not answered other sessions since.
	recently = 10 * time.Second
	// leastWeight is the share of a server that has just recovered.
	leastWeight = 0.1
)

// member is the state of one server. A pool shares it with the pool that replaces it.
type member struct {
	server   upstream.Server
	name     string
	seed     uint64
	sessions atomic.Int64
	drained  atomic.Bool   // it takes no new sessions until it is enabled
	release  func()        // made once because every link carries it
	wake     chan struct{} // signals that the time of the next probe has changed

	mu       sync.Mutex
	down     bool
	silent   bool      // it went down because it accepted connections and did not answer
	since    time.Time // when it went down or came up; zero before anything is known
	failures int       // in a row
	err      error     // of the last failure
	failedAt time.Time
	heard    time.Time // the last success
	answered time.Time // the last success of a session
	doubted  bool      // it did not answer a session; the next probe shows whether the server is the cause
	mute     bool      // it did not answer that probe either
	probed   time.Time // the last probe
	probes   int       // failed probes in a row
	lost     bool      // its sessions have been given up
	downs    int       // how often it went down since the last session
	retries  int       // failed probes since it went down
	retryAt  time.Time // next probe while down
	trials   []uint64  // subjects that are trying it although it is down
	ramp     time.Time // start of the slow start
	credit   float64   // of turns that it skipped
}

func newMember(s upstream.Server) *member {
	m := &member{server: s, name: s.String(), seed: hash(s.String()), wake: make(chan struct{}, 1)}
	m.release = func() { m.sessions.Add(-1) }
	return m
}

func (m *member) isUp() bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return !m.down
}

// hasServed reports whether the server has ever answered a session.
func (m *member) hasServed() bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return !m.answered.IsZero()
}

// failure describes how a server failed.
type failure struct {
	err    error
	silent bool // it accepted the connection
	probe  bool
}

// failed records a failure of the server.
func (p *Pool) failed(m *member, f failure) {
	if p.fail(m, f) {
		if hook := p.options.Trace.Changed; hook != nil {
			hook(m.server, false, f.err)
		}
	}
}

// fail reports whether this failure takes the server down.
func (p *Pool) fail(m *member, f failure) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.err, m.failedAt = f.err, time.Now()
	if f.probe {
		m.probes++
	}
	m.failures++
	if m.down {
		m.silent = m.silent || f.silent
		if f.probe {
			m.retries++
			m.postpone(p.firstPause())
		}
		return false
	}
	if f.silent && f.probe {
		m.mute = true
	} else if f.silent && !m.doubted {
		m.doubted = true
		m.notify()
	}
	if m.failures < p.threshold() || f.silent && p.mayServe(m) {
		return false
	}
	m.down, m.silent, m.since, m.retries = true, f.silent, m.failedAt, 0
	m.downs++
	m.postpone(p.firstPause())
	return true
}

// mayServe reports whether a server that accepted a connection and did not answer may still
// serve other sessions, because it only refuses this one CONNECT. That is so if it answered the
// last probe. If it did not, it may refuse the probe's CONNECT as well, so a recent answer to a
// session counts, unless Health.MQTT says that it answers probes. m.mu is held.
func (p *Pool) mayServe(m *member) bool {
	served := !m.answered.IsZero() && time.Since(m.answered) < recently
	return !m.mute || served && !p.options.Health.MQTT
}

// postpone sets when the server is probed next. m.mu is held.
func (m *member) postpone(pause time.Duration) {
	pause = min(pause<<min(m.downs-1+m.retries, 10), maxPause)
	m.retryAt = time.Now().Add(pause - rand.N(pause/2+1))
	m.notify()
}

// notify makes the goroutine that watches the server check when the next probe is due.
func (m *member) notify() {
	select {
	case m.wake <- struct{}{}:
	default:
	}
}

// succeeded records that a session got an answer.
func (p *Pool) succeeded(m *member) { p.recovered(m, true) }

// recovered records that the server works. Only the success of a session resets the pause
// between attempts, so a server that answers nothing but probes is tried less and less often.
func (p *Pool) recovered(m *member, session bool) {
	if m.succeed(session) {
		if hook := p.options.Trace.Changed; hook != nil {
			hook(m.server, true, nil)
		}
	}
}

// succeed reports whether this success brings the server up.
func (m *member) succeed(session bool) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.heard = time.Now()
	if m.since.IsZero() {
		m.since = m.heard
	}
	m.failures, m.probes, m.lost, m.mute = 0, 0, false, false
	if session {
		m.downs, m.answered = 0, m.heard
	}
	if !m.down {
		return false
	}
	m.down, m.silent, m.since, m.ramp, m.credit = false, false, m.heard, m.heard, 0
	return true
}

// slowDown begins a slow start.
func (m *member) slowDown() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.ramp, m.credit = time.Now(), 0
}

// beginTrial takes a place among the sessions that try a server that is down.
func (m *member) beginTrial(subject uint64) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	if len(m.trials) >= maxTrials || slices.Contains(m.trials, subject) {
		return false
	}
	m.trials = append(m.trials, subject)
	return true
}

func (m *member) endTrial(subject uint64) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if i := slices.Index(m.trials, subject); i >= 0 {
		m.trials = slices.Delete(m.trials, i, i+1)
	}
}

// ramped returns how much of its share the server gets, from leastWeight to 1.
func (m *member) ramped(now time.Time, slowStart time.Duration) float64 {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.ramp.IsZero() || slowStart <= 0 {
		return 1
	}
	return min(1, max(leastWeight, float64(now.Sub(m.ramp))/float64(slowStart)))
}

// takesTurn reports whether a server takes its turn or skips it. The share, at most 1, is how
// many of its turns it takes.
func (m *member) takesTurn(share float64) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.credit += share
	if m.credit < 1 {
		return false
	}
	m.credit--
	return true
}
