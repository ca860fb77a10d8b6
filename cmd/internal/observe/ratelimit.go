package observe

import (
	"strings"
	"sync"
	"time"

	"go.uber.org/zap/zapcore"

	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/authz/bucket"
)

const (
	// burstSeconds is the burst of one kind of lines, in seconds of its rate.
	burstSeconds = 10
	// debugFactor is how many times the rate is higher at level debug.
	debugFactor = 100
	// stackInterval is the shortest time between two stack traces of one kind.
	stackInterval = time.Minute
	// maxKinds is the number of kinds that are distinguished. All further ones count as the
	// kind "other".
	maxKinds = 256
)

// kind identifies the lines that share a rate: by their message, and by their reason or cause
// if they have one. Lines about guessed tokens therefore do not suppress lines about a broker
// that is down.
type kind struct{ message, reason string }

func lineKind(message string, fields []zapcore.Field) kind {
	for i := range fields {
		if f := &fields[i]; f.Type == zapcore.StringType && (f.Key == "reason" || f.Key == "cause") {
			return kind{label(message), label(f.String)}
		}
	}
	return kind{message: label(message)}
}

// label returns text as the value of a metric's label.
func label(text string) string { return strings.ToValidUTF8(cut(text, maxName), "?") }

// rateLimiter limits how many lines of each kind are written.
type rateLimiter struct {
	debug func() bool // reports whether the level is debug

	mu    sync.Mutex
	rate  float64 // lines a second, of each kind; 0 means no limit
	kinds map[kind]*kindState
}

type kindState struct {
	lines      bucket.Bucket
	stackAt    time.Time // of the last stack trace
	suppressed int64     // lines since the last one that was written
	total      int64     // of all suppressed lines
}

func (l *rateLimiter) setRate(rate float64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.rate = rate
}

// startAtZero makes the counter of suppressed lines of kind k start at zero.
func (l *rateLimiter) startAtZero(k kind) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.state(k)
}

// state returns the state of k; l.mu is held.
func (l *rateLimiter) state(k kind) *kindState {
	s := l.kinds[k]
	if s == nil && len(l.kinds) >= maxKinds {
		k = kind{message: "other"}
		s = l.kinds[k]
	}
	if s == nil {
		s = &kindState{}
		l.kinds[k] = s
	}
	return s
}

// allow reports whether a line may be written now, and if so, how many of its kind were
// suppressed since the last one.
func (l *rateLimiter) allow(k kind) (suppressed int64, ok bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	s := l.state(k)
	if !l.ready(s) {
		return 0, false
	}
	s.lines.Charge(time.Now(), l.limit())
	suppressed, s.suppressed = s.suppressed, 0
	return suppressed, true
}

// suppress reports whether a line must not be written now, and if so, counts it. It saves the
// work for a line that allow would suppress.
func (l *rateLimiter) suppress(k kind) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return !l.ready(l.state(k))
}

// ready reports whether a line of the kind may be written, and counts it if not; l.mu is
// held.
func (l *rateLimiter) ready(s *kindState) bool {
	if s.lines.Ready(time.Now(), l.limit()) {
		return true
	}
	s.suppressed++
	s.total++
	return false
}

// limit returns the rate of each kind; l.mu is held.
func (l *rateLimiter) limit() bucket.Rate {
	rate := l.rate
	if l.debug() {
		rate *= debugFactor
	}
	return bucket.PerSecond(rate, int(burstSeconds*rate))
}

// allowStack reports whether a line of kind k may have its stack trace now.
func (l *rateLimiter) allowStack(k kind) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	s, now := l.state(k), time.Now()
	if !s.stackAt.IsZero() && now.Sub(s.stackAt) < stackInterval {
		return false
	}
	s.stackAt = now
	return true
}

// totals calls f with each kind and how many of its lines were suppressed.
func (l *rateLimiter) totals(f func(k kind, suppressed int64)) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for k, s := range l.kinds {
		f(k, s.total)
	}
}
