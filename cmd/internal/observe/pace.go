package observe

import (
	"strings"
	"sync"
	"time"

	"go.uber.org/zap/zapcore"

	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/authz/bucket"
)

const (
	// burst is how many seconds' lines of one kind may come at once.
	burst = 10
	// talkative is how many times as many lines there may be at level debug.
	talkative = 100
	// stackEvery is the time between two stack traces of one kind.
	stackEvery = time.Minute
	// maxKinds bounds how many kinds are told apart. All others are one kind.
	maxKinds = 256
)

// kind is what lines have in common that share a bound: the message, and the reason
// or cause if they have one. Lines about guessed tokens then do not displace lines
// about a broker that is away.
type kind struct{ message, reason string }

func lineKind(message string, fields []zapcore.Field) kind {
	for i := range fields {
		if f := &fields[i]; f.Type == zapcore.StringType && (f.Key == "reason" || f.Key == "cause") {
			return kind{label(message), label(f.String)}
		}
	}
	return kind{message: label(message)}
}

// label returns text as a metric's label.
func label(text string) string { return strings.ToValidUTF8(cut(text, maxName), "?") }

// pace bounds how many lines of each kind are written.
type pace struct {
	debug func() bool // reports whether the level is debug

	mu    sync.Mutex
	rate  float64 // lines a second, of each kind; 0 has no bound
	kinds map[kind]*account
}

// account is the state of one kind.
type account struct {
	lines      bucket.Bucket
	stack      time.Time // of the last stack trace
	suppressed int64     // lines since the last one that was written
	total      int64     // lines suppressed in all
}

func (p *pace) set(rate float64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.rate = rate
}

// expect makes the counter of k begin at zero instead of with the first line that
// is suppressed.
func (p *pace) expect(k kind) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.account(k)
}

// account returns the account of k; p.mu is held.
func (p *pace) account(k kind) *account {
	a := p.kinds[k]
	if a == nil && len(p.kinds) >= maxKinds {
		k = kind{message: "other"}
		a = p.kinds[k]
	}
	if a == nil {
		a = &account{}
		p.kinds[k] = a
	}
	return a
}

// allow reports whether a line may be written now, and then also how many of its
// kind were suppressed since the last one.
func (p *pace) allow(k kind) (suppressed int64, ok bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	a := p.account(k)
	if !p.room(a) {
		return 0, false
	}
	a.lines.Charge(time.Now(), p.bound())
	suppressed, a.suppressed = a.suppressed, 0
	return suppressed, true
}

// full reports whether a line may not be written now, and counts it then. It saves
// making a line that allow would suppress.
func (p *pace) full(k kind) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return !p.room(p.account(k))
}

// room reports whether there may be a line for a, and counts it if not; p.mu is
// held.
func (p *pace) room(a *account) bool {
	if a.lines.Ready(time.Now(), p.bound()) {
		return true
	}
	a.suppressed++
	a.total++
	return false
}

// bound returns the rate of each kind; p.mu is held.
func (p *pace) bound() bucket.Rate {
	rate := p.rate
	if p.debug() {
		rate *= talkative
	}
	return bucket.PerSecond(rate, int(burst*rate))
}

// allowStack reports whether a line of kind k may have its stack trace now.
func (p *pace) allowStack(k kind) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	a, now := p.account(k), time.Now()
	if !a.stack.IsZero() && now.Sub(a.stack) < stackEvery {
		return false
	}
	a.stack = now
	return true
}

// totals calls f with each kind and how many of its lines were suppressed.
func (p *pace) totals(f func(k kind, suppressed int64)) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for k, a := range p.kinds {
		f(k, a.total)
	}
}
