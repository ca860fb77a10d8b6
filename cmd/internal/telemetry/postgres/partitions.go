package postgres

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/cmd/internal/telemetry"
)

// widths are the possible lengths of partitions. The store uses the shortest with which the
// retention has at most partitionsPerRetention partitions, or the last.
var widths = [...]time.Duration{time.Hour, 6 * time.Hour, 24 * time.Hour, 7 * 24 * time.Hour, 28 * 24 * time.Hour}

const partitionsPerRetention = 60

// foreverPast is how far back partitions are made if messages are kept forever. Older messages are
// in the default partition.
const foreverPast = 10 * 365 * 24 * time.Hour

// retryPartitions is how long the store leaves a partition alone that it could not make. The
// messages are in the default partition meanwhile.
const retryPartitions = time.Minute

// partitions are the known partitions of the table telemetry.
type partitions struct {
	mu     sync.Mutex
	ranges []partition // in order
	retry  time.Time
}

// partition is a table with the messages of the times from start up to end, in milliseconds.
type partition struct {
	name       string
	start, end int64
}

func (p *partitions) set(ranges []partition) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.ranges = ranges
}

// covers reports whether a partition for ts is known.
func (p *partitions) covers(ts int64) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	_, found := search(p.ranges, ts)
	return found
}

// search returns the index of the partition of ts, or where it would be.
func search(ranges []partition, ts int64) (int, bool) {
	return slices.BinarySearchFunc(ranges, ts, func(p partition, ts int64) int {
		switch {
		case ts < p.start:
			return 1
		case ts >= p.end:
			return -1
		}
		return 0
	})
}

// width returns the length of new partitions in milliseconds.
func (s *Store) width() int64 {
	if s.opts.Retention > 0 {
		for _, w := range widths {
			if s.opts.Retention <= w*partitionsPerRetention {
				return w.Milliseconds()
			}
		}
	}
	return widths[len(widths)-1].Milliseconds()
}

// keeps returns the times that partitions are made for: from the first, which retention does
// not delete yet, up to the last.
func (s *Store) keeps() (first, last int64) {
	now := s.now()
	if !telemetry.ClockIsSet(now) {
		return 0, -1
	}
	if s.opts.Retention <= 0 {
		return now.Add(-foreverPast).UnixMilli(), now.Add(telemetry.MaxAhead).UnixMilli()
	}
	return now.Add(-s.opts.Retention).UnixMilli(), now.Add(max(s.opts.Retention, telemetry.MaxAhead)).UnixMilli()
}

// cover makes the partitions for the times of some messages. If it fails, the messages can
// still be stored.
func (s *Store) cover(ctx context.Context, c *pgx.Conn, group []*request) error {
	first, last := s.keeps()
	for _, ts := range s.partitions.missing(group, first, last) {
		if s.partitions.covers(ts) {
			continue
		}
		if err := s.makePartition(ctx, c, ts); err != nil {
			s.partitions.postpone()
			return fmt.Errorf("partition: %w", err)
		}
	}
	return nil
}

// missing returns the times of a group from first to last that no known partition covers. It
// returns none for a while after a partition could not be made.
func (p *partitions) missing(group []*request, first, last int64) (times []int64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, r := range group {
		for _, m := range r.rows {
			if m.TS < first || m.TS > last {
				continue
			}
			if _, found := search(p.ranges, m.TS); !found {
				times = append(times, m.TS)
			}
		}
	}
	if times != nil && time.Now().Before(p.retry) {
		return nil
	}
	return times
}

func (p *partitions) postpone() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.retry = time.Now().Add(retryPartitions)
}

// makePartition makes the partition for ts unless there is one, and moves to it what the
// default partition has of its time. Attaching, unlike CREATE TABLE ... PARTITION OF, lets
// others use the table meanwhile.
func (s *Store) makePartition(ctx context.Context, c beginner, ts int64) error {
	var ranges []partition
	err := exclusively(ctx, c, func(tx pgx.Tx) (err error) {
		if ranges, err = listPartitions(ctx, tx); err != nil {
			return err
		}
		at, found := search(ranges, ts)
		if !found {
			p := gap(ranges, at, ts, s.width())
			table := "mqtt_auth_proxy." + p.name
			_, err = tx.Exec(ctx, fmt.Sprintf(`
				LOCK TABLE mqtt_auth_proxy.telemetry_default;
				CREATE TABLE %[1]s (LIKE mqtt_auth_proxy.telemetry INCLUDING DEFAULTS);
				WITH moved AS (DELETE FROM mqtt_auth_proxy.telemetry_default WHERE ts >= %[2]d AND ts < %[3]d RETURNING *)
					INSERT INTO %[1]s SELECT * FROM moved;
				ALTER TABLE mqtt_auth_proxy.telemetry ATTACH PARTITION %[1]s FOR VALUES FROM (%[2]d) TO (%[3]d)`,
				table, p.start, p.end))
			ranges = slices.Insert(ranges, at, p)
		}
		return err
	})
	if err == nil {
		// Not before the commit, because others would write without it.
		s.partitions.set(ranges)
	}
	return err
}

// gap returns a partition for ts that fits between its neighbours, which may have another width.
func gap(ranges []partition, at int, ts, width int64) partition {
	start := ts - ((ts%width)+width)%width
	end := start + width
	if at > 0 {
		start = max(start, ranges[at-1].end)
	}
	if at < len(ranges) {
		end = min(end, ranges[at].start)
	}
	return partition{"telemetry_" + time.UnixMilli(start).UTC().Format("20060102_150405"), start, end}
}

// listPartitions returns the partitions in order, without the default one and those of bounds
// that this package does not make.
func listPartitions(ctx context.Context, tx pgx.Tx) ([]partition, error) {
	rows, err := tx.Query(ctx, `
		SELECT name, bounds[1]::bigint, bounds[2]::bigint
		FROM (
			SELECT c.relname::text AS name,
				regexp_match(pg_get_expr(c.relpartbound, c.oid), '^FOR VALUES FROM \(''(-?\d+)''\) TO \(''(-?\d+)''\)$') AS bounds
			FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid
			WHERE i.inhparent = 'mqtt_auth_proxy.telemetry'::regclass
		) p
		WHERE bounds IS NOT NULL
		ORDER BY 2`)
	if err != nil {
		return nil, err
	}
	return pgx.CollectRows(rows, func(row pgx.CollectableRow) (p partition, err error) {
		err = row.Scan(&p.name, &p.start, &p.end)
		return p, err
	})
}
