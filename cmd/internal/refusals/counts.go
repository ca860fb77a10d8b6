package refusals

import (
	"cmp"
	"slices"
	"sync"
	"time"

	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/proxy"
)

// Count is how often connections were refused for a reason.
type Count struct {
	Reason proxy.Reason `json:"reason"`
	// Hour and Day are how many there were in the last 60 minutes and 24 hours, to the minute.
	Hour uint64 `json:"hour"`
	Day  uint64 `json:"day"`
	// Meaning says what the reason means, and Advice what to do.
	Meaning string `json:"meaning"`
	Advice  string `json:"advice"`
}

// Counts returns the reasons of the last day, the most frequent of the last hour first.
func (s *Store) Counts() []Count {
	all := s.counts.sums(time.Now())
	slices.SortStableFunc(all, func(a, b Count) int { return cmp.Or(cmp.Compare(b.Hour, a.Hour), cmp.Compare(b.Day, a.Day)) })
	return all
}

const minutesOfDay = 24 * 60

// counts has the refusals of each minute of the last day. It takes 12 KiB for each reason that
// occurs.
type counts struct {
	mu     sync.Mutex
	minute int64 // the newest, since 1970
	reason map[proxy.Reason]*[minutesOfDay]uint64
}

func (c *counts) add(r proxy.Reason, now time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.advance(now)
	minutes := c.reason[r]
	if minutes == nil {
		if c.reason == nil {
			c.reason = make(map[proxy.Reason]*[minutesOfDay]uint64)
		}
		minutes = new([minutesOfDay]uint64)
		c.reason[r] = minutes
	}
	minutes[c.minute%minutesOfDay]++
}

// advance forgets the minutes of a day ago; c.mu is held. A clock that is set back counts as one
// that stands still.
func (c *counts) advance(now time.Time) {
	minute := now.Unix() / 60
	for range min(minute-c.minute, minutesOfDay) {
		for _, minutes := range c.reason {
			minutes[minute%minutesOfDay] = 0
		}
		minute--
	}
	c.minute = max(c.minute, now.Unix()/60)
}

// sums returns the counts of the reasons that occurred, in the order of the manual.
func (c *counts) sums(now time.Time) []Count {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.advance(now)
	all := []Count{}
	for _, info := range proxy.Reasons() {
		n := Count{Reason: info.Reason, Meaning: info.Meaning, Advice: Advice(info.Reason)}
		if minutes := c.reason[info.Reason]; minutes != nil {
			for ago := range int64(minutesOfDay) {
				seen := minutes[(c.minute-ago+minutesOfDay)%minutesOfDay]
				n.Day += seen
				if ago < 60 {
					n.Hour += seen
				}
			}
		}
		if n.Day > 0 {
			all = append(all, n)
		}
	}
	return all
}
