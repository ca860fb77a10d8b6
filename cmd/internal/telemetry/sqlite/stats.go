package sqlite

import (
	"os"
	"sync/atomic"
	"time"

	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/cmd/internal/telemetry"
)

type counters struct {
	messages, points, attributes atomic.Int64
	errors, commits              atomic.Int64
	commitTime                   atomic.Int64
}

func (c *counters) stored(r *request) {
	for _, p := range r.each() {
		c.messages.Add(int64(len(p.rows)))
		for _, m := range p.rows {
			c.points.Add(int64(len(m.Fields)))
		}
		c.attributes.Add(int64(len(p.attributes)))
	}
}

// Stats implements [telemetry.Store]. It looks at two files' sizes and does not wait for
// the database.
func (s *Store) Stats() telemetry.Stats {
	return telemetry.Stats{
		Messages:      s.counters.messages.Load(),
		Points:        s.counters.points.Load(),
		Attributes:    s.counters.attributes.Load(),
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
