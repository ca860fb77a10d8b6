package sqlite

import (
	"testing"
	"time"
)

// TestClockThatIsNotSet: a machine without a battery does not take the present for the
// future.
func TestClockThatIsNotSet(t *testing.T) {
	s := open(t, Options{Now: func() time.Time { return time.UnixMilli(1000) }, Retention: time.Second})
	if _, ok := s.aheadCutoff(s.opts.Now()); ok {
		t.Error("retention deletes messages ahead of a clock that is not set")
	}
}
