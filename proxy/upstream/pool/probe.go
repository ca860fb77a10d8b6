package pool

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"runtime/debug"
	"sync"
	"time"

	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/packets"
)

// Run probes the servers until ctx ends, and returns when all probes have ended. Without Run, a
// server that is down comes up only if a session tries it as the last resort, and a server that
// accepts connections is never considered down.
func (p *Pool) Run(ctx context.Context) {
	var watching sync.WaitGroup
	for _, m := range p.members {
		watching.Go(func() { p.watch(ctx, m) })
	}
	watching.Wait()
}

// watch probes one server whenever a probe is due.
func (p *Pool) watch(ctx context.Context, m *member) {
	timer := time.NewTimer(0)
	defer timer.Stop()
	for ctx.Err() == nil {
		wait, due := m.untilProbe(p.interval(), p.firstPause())
		if due && wait <= 0 {
			if p.probe(ctx, m) != nil {
				p.giveUpOn(ctx, m)
			}
			continue
		}
		timer.Stop()
		if due {
			timer.Reset(wait)
		}
		select {
		case <-ctx.Done():
		case <-m.wake:
		case <-timer.C:
		}
	}
}

// interval returns how long a server may go without an answer, or 0 for no limit.
func (p *Pool) interval() time.Duration {
	if len(p.members) == 1 {
		return 0
	}
	return p.options.Health.Interval
}

func (p *Pool) timeout() time.Duration {
	return cmp.Or(p.options.Health.Timeout, 2*time.Second)
}

// firstPause is the time between a server going down and the first attempt to reach it.
func (p *Pool) firstPause() time.Duration {
	if i := p.options.Health.Interval; i > 0 {
		return min(i, minPause)
	}
	return minPause
}

// untilProbe returns the time until the server is to be probed. due is false if no probe is
// planned.
func (m *member) untilProbe(interval, pause time.Duration) (wait time.Duration, due bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	switch {
	case m.down:
		return time.Until(m.retryAt), true
	case m.doubted:
		return time.Until(m.probed.Add(pause)), true
	case interval <= 0:
		return 0, false
	}
	last := m.heard
	if m.probed.After(last) {
		last = m.probed
	}
	// Jitter keeps the probes of many proxies apart.
	return time.Until(last.Add(interval - rand.N(interval/10+1))), true
}

// probe checks whether the server answers, and records the result.
func (p *Pool) probe(ctx context.Context, m *member) (err error) {
	defer func() {
		if p.recoverPanic(recover()) {
			err = errPanic
			m.endProbe(p.firstPause())
		}
	}()
	ctx, cancel := context.WithTimeout(ctx, p.timeout())
	defer cancel()
	silent, err := p.ask(ctx, m)
	if errors.Is(ctx.Err(), context.Canceled) {
		return ctx.Err()
	}
	if hook := p.options.Trace.Probed; hook != nil {
		hook(m.server, err)
	}
	switch {
	case err == nil:
		p.recovered(m, false)
	case !ours(err):
		p.failed(m, failure{err: fmt.Errorf("probe: %w", err), silent: silent, probe: true})
	}
	m.endProbe(p.firstPause())
	return err
}

// recoverPanic takes the result of recover. It reports a panic to Trace.Panicked, and reports
// whether there was one.
func (p *Pool) recoverPanic(value any) bool {
	if value == nil {
		return false
	}
	if hook := p.options.Trace.Panicked; hook != nil {
		hook(value, debug.Stack())
	}
	return true
}

// endProbe records when the server was probed.
func (m *member) endProbe(pause time.Duration) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.probed, m.doubted = time.Now(), false
	if m.down && !m.retryAt.After(m.probed) {
		m.postpone(pause) // the probe had no result
	}
}

// ask connects to the server. If the server went down because it accepted connections and did
// not answer, ask also sends a CONNECT. silent reports that the connection at least succeeded.
func (p *Pool) ask(ctx context.Context, m *member) (silent bool, err error) {
	defer func() {
		if p.recoverPanic(recover()) {
			err = errPanic
		}
	}()
	conn, err := p.options.Dial(ctx, m.server)
	if err != nil {
		return false, err
	}
	defer func() { _ = conn.Close() }()
	if !p.options.Health.MQTT && !m.mustAnswer() {
		return false, nil
	}
	h := p.options.Health
	if _, err := p.connect(ctx, conn, Login{h.Username, h.Password}); err != nil {
		return true, p.advise(m, err)
	}
	return true, nil
}

// mustAnswer reports whether a connection alone does not show that the server works.
func (m *member) mustAnswer() bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.down && m.silent || m.doubted
}

// maxAnswer is the size of the largest CONNACK that a probe accepts, in bytes.
const maxAnswer = 4 << 10

// probeLevel is the protocol level of probes, 3.1.1.
const probeLevel = 4

// connect sends a CONNECT with a login and returns the CONNACK, of any reason code.
func (p *Pool) connect(ctx context.Context, conn net.Conn, l Login) (connack []byte, err error) {
	if deadline, ok := ctx.Deadline(); ok {
		if err := conn.SetDeadline(deadline); err != nil {
			return nil, err
		}
	}
	defer context.AfterFunc(ctx, func() { _ = conn.SetDeadline(time.Unix(1, 0)) })()
	connect := packets.Connect{
		Level: probeLevel, CleanStart: true, KeepAlive: 60, ClientID: p.probeID,
		HasUsername: l.Username != "", Username: l.Username, HasPassword: l.Username != "" && l.Password != "", Password: l.Password,
	}
	if _, err := conn.Write(connect.Append(nil)); err != nil {
		return nil, fmt.Errorf("send CONNECT: %w", err)
	}
	raw, err := packets.ReadPacket(conn, maxAnswer)
	if err != nil {
		return nil, fmt.Errorf("read CONNACK: %w", err)
	}
	if t := packets.Type(raw[0] >> 4); t != packets.CONNACK {
		return nil, fmt.Errorf("the broker answered CONNECT with %v", t)
	}
	// A broker that refused may have closed the connection already, but it has answered.
	_, _ = conn.Write((&packets.Disconnect{}).Append(nil, connect.Level))
	return raw, nil
}

// giveUpOn calls Trace.Lost for a server if enough probes have failed and another server
// answers right now. If none does, the fault may be on this side.
func (p *Pool) giveUpOn(ctx context.Context, m *member) {
	defer func() { p.recoverPanic(recover()) }()
	hook := p.options.Trace.Lost
	if hook == nil || ctx.Err() != nil || !m.seemsLost(p.threshold()) {
		return
	}
	for _, other := range p.members {
		if other != m && other.isUp() && !other.drained.Load() && p.probe(ctx, other) == nil {
			if m.lose() {
				hook(m.server)
			}
			return
		}
	}
}

func (m *member) seemsLost(threshold int) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.down && !m.lost && m.probes >= threshold
}

// lose reports whether the sessions are to be given up now. It reports false if the server has
// come up in the meantime.
func (m *member) lose() bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	if !m.down || m.lost {
		return false
	}
	m.lost = true
	return true
}
