package telemetry

import (
	"fmt"
	"time"
)

// What one question may visit.
const (
	// MaxVisited is the most messages.
	MaxVisited = 1_000_000
	// VisitTime is how long it may take, once there have been visitedAtOnce messages. A question
	// about fewer is not too wide, whatever else makes it slow.
	VisitTime     = 5 * time.Second
	visitedAtOnce = 10_000
)

// visited counts the messages that a question visits. The zero value has counted none.
type visited struct {
	n     int
	start time.Time
}

// tooMany counts a message and reports whether it is more than a question may visit.
func (v *visited) tooMany() bool {
	if v.n == 0 {
		v.start = time.Now()
	}
	v.n++
	return v.n > MaxVisited || v.n > visitedAtOnce && v.n%256 == 0 && time.Since(v.start) > VisitTime
}

// errTooWide says how to narrow a question.
var errTooWide = fmt.Errorf("%w: the question visits more than %d messages or takes longer than %v: ask for a shorter span, or for fewer points with a smaller limit",
	ErrQuery, MaxVisited, VisitTime)
