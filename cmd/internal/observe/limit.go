package observe

import (
	"sync"
	"time"

	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/proxy"
)

// burst is how many seconds' lines may come at once.
const burst = 10

// lineLimit bounds the lines that are written about refusals, for each reason by
// itself: whoever guesses tokens does not hide that the broker is away. The zero
// value has no limit.
type lineLimit struct {
	mu      sync.Mutex
	rate    float64 // lines a second, of each reason
	reasons map[proxy.Reason]*account
}

// account is the state of one reason.
type account struct {
	left       float64 // that may be written at once
	at         time.Time
	suppressed int64
}

func (l *lineLimit) set(rate float64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.rate = rate
}

// allow reports whether a line may be written now, and then also how many were
// suppressed since the last one.
func (l *lineLimit) allow(r proxy.Reason) (suppressed int64, ok bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.rate <= 0 {
		return 0, true
	}
	now := time.Now()
	a := l.reasons[r]
	if a == nil {
		if l.reasons == nil {
			l.reasons = make(map[proxy.Reason]*account)
		}
		a = &account{left: burst * l.rate, at: now}
		l.reasons[r] = a
	}
	a.left = min(burst*l.rate, a.left+now.Sub(a.at).Seconds()*l.rate)
	a.at = now
	if a.left < 1 {
		a.suppressed++
		return 0, false
	}
	a.left--
	suppressed, a.suppressed = a.suppressed, 0
	return suppressed, true
}
