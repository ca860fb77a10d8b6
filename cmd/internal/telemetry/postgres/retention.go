package postgres

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/cmd/internal/task"
	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/cmd/internal/telemetry"
)

const (
	// tendEvery is how often the store looks for the notes of stores that were killed.
	tendEvery = 5 * time.Second

	longestRound  = 10 * time.Minute
	shortestRound = time.Second
	// roundsPerRetention is how many rounds of retention there are in the time of retention.
	roundsPerRetention = 100
	// roundTime bounds one round.
	roundTime = 5 * time.Minute
	// sliceRows is how many rows one transaction deletes, so that it holds no lock for long.
	sliceRows = 5000
	// renewedRows is how many messages of a device are searched for values that are now the
	// newest. A key that is in none of them has no newest value until the device sends it again.
	renewedRows = 5000
)

// upkeep is the goroutine for what is done in the background, until the store is closed.
func (s *Store) upkeep() {
	next := time.Now()
	for {
		if !time.Now().Before(next) && s.Writable() == nil {
			s.background(task.Do(func() error { return s.round(s.closing) }))
			next = time.Now().Add(s.roundEvery())
		}
		select {
		case <-time.After(min(tendEvery, s.roundEvery())):
			s.tend(abandoned)
		case <-s.closing.Done():
			return
		}
	}
}

// tend brings the table latest up to date with what killed stores have left, if the database
// can be reached. Otherwise the workers report that it cannot.
func (s *Store) tend(olderThan int64) {
	if s.Writable() != nil {
		return
	}
	ctx, cancel := context.WithTimeout(s.closing, roundTime)
	defer cancel()
	s.background(task.Do(func() error { return s.replay(ctx, s.readers, olderThan) }))
}

// roundEvery is the time from one round of retention to the next.
func (s *Store) roundEvery() time.Duration {
	if s.opts.Retention <= 0 {
		return longestRound
	}
	return min(max(s.opts.Retention/roundsPerRetention, shortestRound), longestRound)
}

// errBusy means that another store does the same work at the moment.
var errBusy = errors.New("another store does it")

// round makes the next partition, deletes what is old or too far ahead, and measures the
// database. Only one store does it at a time.
func (s *Store) round(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, roundTime)
	defer cancel()
	steps := []func(context.Context) error{s.measure, s.nextPartition}
	if s.opts.Retention > 0 {
		steps = append(steps, s.dropPartitions, s.emptyDefault, s.forgetUsage, s.forgetOld, s.forgetAhead)
	}
	for _, step := range steps {
		if err := step(ctx); errors.Is(err, errBusy) {
			return nil
		} else if err != nil {
			return fmt.Errorf("retention: %w", err)
		}
	}
	return nil
}

// alone runs f in a transaction while no other store does upkeep.
func (s *Store) alone(ctx context.Context, options pgx.TxOptions, f func(pgx.Tx) error) error {
	return transact(ctx, s.readers, options, func(tx pgx.Tx) error {
		var free bool
		if err := tx.QueryRow(ctx, `SELECT pg_try_advisory_xact_lock($1)`, int64(upkeepID)).Scan(&free); err != nil {
			return err
		}
		if !free {
			return errBusy
		}
		return f(tx)
	})
}

// inSlices repeats a deletion, of which $2 bounds the rows, until there is no more to delete.
func (s *Store) inSlices(ctx context.Context, statement string, cutoff int64) error {
	for {
		var n int64
		err := s.alone(ctx, pgx.TxOptions{}, func(tx pgx.Tx) error {
			tag, err := tx.Exec(ctx, statement, cutoff, sliceRows)
			n = tag.RowsAffected()
			return err
		})
		if err != nil || n < sliceRows {
			return err
		}
	}
}

// measure notes the clock and the size of the database.
func (s *Store) measure(ctx context.Context) error {
	var (
		now  time.Time
		size int64
	)
	before := time.Now()
	err := s.readers.QueryRow(ctx, `SELECT now(), coalesce(sum(pg_total_relation_size(c.oid)), 0)::bigint
		FROM pg_class AS c JOIN pg_namespace AS n ON n.oid = c.relnamespace
		WHERE n.nspname = 'mqtt_auth_proxy' AND c.relkind = 'r'`).Scan(&now, &size)
	if err != nil {
		return err
	}
	s.ahead.Store(int64(now.Sub(before)))
	s.counters.size.Store(size)
	return nil
}

// nextPartition makes the partitions of now and of the time after it, before messages need them.
func (s *Store) nextPartition(ctx context.Context) error {
	now := s.now()
	if !telemetry.ClockIsSet(now) {
		return nil
	}
	for _, ts := range []int64{now.UnixMilli(), now.UnixMilli() + s.width()} {
		if s.partitions.covers(ts) {
			continue
		}
		if err := s.makePartition(ctx, s.readers, ts); err != nil {
			return err
		}
	}
	return nil
}

// dropPartitions drops the partitions that have only old messages, or only messages that are too
// far ahead. It does not wait for long queries, and tries again in the next round.
func (s *Store) dropPartitions(ctx context.Context) error {
	first, last := s.keeps()
	return s.alone(ctx, beginExclusive, func(tx pgx.Tx) error {
		if _, err := tx.Exec(ctx, `SELECT pg_advisory_xact_lock($1)`, int64(lockID)); err != nil {
			return err
		}
		ranges, err := listPartitions(ctx, tx)
		if err != nil {
			return err
		}
		var kept []partition
		for _, p := range ranges {
			if first > last || p.end > first && p.start <= last+s.width() {
				kept = append(kept, p)
				continue
			}
			if _, err := tx.Exec(ctx, "DROP TABLE mqtt_auth_proxy."+pgx.Identifier{p.name}.Sanitize()); err != nil {
				return err
			}
		}
		s.partitions.set(kept)
		return nil
	})
}

// emptyDefault deletes the messages in the default partition for which there will be no partition.
// If that is all of them, as for a fleet that counts time in seconds, it costs nothing.
func (s *Store) emptyDefault(ctx context.Context) error {
	first, last := s.keeps()
	if first > last {
		return nil
	}
	empty := false
	err := s.alone(ctx, beginExclusive, func(tx pgx.Tx) error {
		var some, keep bool
		err := tx.QueryRow(ctx, `SELECT EXISTS (SELECT FROM mqtt_auth_proxy.telemetry_default),
			EXISTS (SELECT FROM mqtt_auth_proxy.telemetry_default WHERE ts BETWEEN $1 AND $2)`, first, last).Scan(&some, &keep)
		if empty = !some; err != nil || empty || keep {
			return err
		}
		if _, err = tx.Exec(ctx, `LOCK TABLE mqtt_auth_proxy.telemetry_default`); err != nil {
			return err
		}
		err = tx.QueryRow(ctx, `SELECT EXISTS (SELECT FROM mqtt_auth_proxy.telemetry_default WHERE ts BETWEEN $1 AND $2)`, first, last).Scan(&keep)
		if err == nil && !keep {
			_, err = tx.Exec(ctx, `TRUNCATE mqtt_auth_proxy.telemetry_default`)
			empty = true
		}
		return err
	})
	if err != nil || empty {
		return err
	}
	for _, where := range []struct {
		condition string
		cutoff    int64
	}{{"ts < $1", first}, {"ts > $1", last}} {
		err := s.inSlices(ctx, `DELETE FROM mqtt_auth_proxy.telemetry_default WHERE ctid = ANY (ARRAY(
			SELECT ctid FROM mqtt_auth_proxy.telemetry_default WHERE `+where.condition+` LIMIT $2))`, where.cutoff)
		if err != nil {
			return err
		}
	}
	return nil
}

// forgetOld deletes newest values that are as old as the messages that are deleted.
func (s *Store) forgetOld(ctx context.Context) error {
	first, last := s.keeps()
	if first > last {
		return nil
	}
	return s.inSlices(ctx, `DELETE FROM mqtt_auth_proxy.latest WHERE ctid = ANY (ARRAY(
		SELECT ctid FROM mqtt_auth_proxy.latest WHERE ts < $1 LIMIT $2)) AND ts < $1`, first)
}

// renewLatest are statements that set the newest values of devices $1 that are later than $2 from
// their last $3 messages. Of a key that is in none of these, there may be older messages.
var renewLatest = [...]string{
	`INSERT INTO mqtt_auth_proxy.latest (device, key, ts, value)
		SELECT DISTINCT ON (d.device, f.key) d.device, f.key, m.ts, f.value::text
		FROM unnest($1::text[]) AS d (device), LATERAL (
			SELECT ts, n, data FROM mqtt_auth_proxy.telemetry AS t
			WHERE t.device = d.device AND t.ts <= $2 ORDER BY ts DESC, n DESC LIMIT $3
		) AS m, json_each(m.data::json) AS f
		ORDER BY d.device, f.key, m.ts DESC, m.n DESC
		ON CONFLICT (device, key) DO UPDATE SET ts = excluded.ts, value = excluded.value WHERE latest.ts > $2`,
	`UPDATE mqtt_auth_proxy.latest AS l SET ts = m.ts
		FROM unnest($1::text[]) AS d (device), LATERAL (
			SELECT ts FROM mqtt_auth_proxy.telemetry AS t
			WHERE t.device = d.device AND t.ts <= $2 ORDER BY ts DESC, n DESC OFFSET $3 - 1 LIMIT 1
		) AS m WHERE l.device = d.device AND l.ts > $2`,
}

// forgetAhead deletes newest values that are too far ahead, and finds those that are the newest
// now.
func (s *Store) forgetAhead(ctx context.Context) error {
	first, last := s.keeps()
	if first > last {
		return nil
	}
	for {
		done := false
		err := s.alone(ctx, pgx.TxOptions{}, func(tx pgx.Tx) error {
			var devices []string
			err := tx.QueryRow(ctx, `WITH gone AS (UPDATE mqtt_auth_proxy.latest SET value = 'null' WHERE device = ANY (ARRAY(
					SELECT DISTINCT device FROM mqtt_auth_proxy.latest WHERE ts > $1 LIMIT 100)) AND ts > $1 RETURNING device)
				SELECT coalesce(array_agg(DISTINCT device), '{}') FROM gone`, last).Scan(&devices)
			if done = len(devices) == 0; err != nil || done {
				return err
			}
			for _, statement := range renewLatest {
				if _, err := tx.Exec(ctx, statement, devices, last, renewedRows); err != nil {
					return err
				}
			}
			_, err = tx.Exec(ctx, `DELETE FROM mqtt_auth_proxy.latest WHERE device = ANY ($1) AND ts > $2`, devices, last)
			return err
		})
		if err != nil || done {
			return err
		}
	}
}
