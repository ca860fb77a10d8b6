package telemetry

import (
	"os"
	"sync/atomic"
	"time"
)

// Stats are totals since [Open], except where noted.
type Stats struct {
	Messages   int64 // stored
	Points     int64 // values of stored messages
	Attributes int64 // attribute values stored
	Refused    int64 // calls that failed with a *PayloadError
	Ahead      int64 // messages whose ts lay too far ahead and became the time of arrival
	Errors     int64 // commits and background work that failed
	Commits    int64 // successful ones, of telemetry and attributes
	// CommitTime is what commits took, including failed ones.
	CommitTime time.Duration
	// Queued is how many calls wait for a commit now.
	Queued int
	// DatabaseBytes is how large the database and its log are now.
	DatabaseBytes int64
}

type counters struct {
	messages, points, attributes atomic.Int64
	refused, errors, commits     atomic.Int64
	ahead                        atomic.Int64
	commitTime                   atomic.Int64
}

func (c *counters) stored(r *request) {
	c.messages.Add(int64(len(r.rows)))
	for _, m := range r.rows {
		c.points.Add(int64(len(m.Fields)))
	}
	c.attributes.Add(int64(len(r.attributes)))
}

// Stats returns the totals. It looks at two files' sizes and does not wait
// for the database.
func (s *Store) Stats() Stats {
	return Stats{
		Messages:      s.counters.messages.Load(),
		Points:        s.counters.points.Load(),
		Attributes:    s.counters.attributes.Load(),
		Refused:       s.counters.refused.Load(),
		Ahead:         s.counters.ahead.Load(),
		Errors:        s.counters.errors.Load(),
		Commits:       s.counters.commits.Load(),
		CommitTime:    time.Duration(s.counters.commitTime.Load()),
		Queued:        len(s.queue),
		DatabaseBytes: fileSize(s.opts.Path) + fileSize(s.opts.Path+"-wal"),
	}
}

func fileSize(path string) int64 {
	info, err := os.Stat(path)
	if err != nil {
		return 0
	}
	return info.Size()
}
