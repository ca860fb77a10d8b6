package sqlite

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"time"

	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/cmd/internal/task"
	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/cmd/internal/telemetry"
)

const (
	// A slice of upkeep ends after this many rows or devices, followed by a pause, so that it
	// delays messages only by milliseconds.
	sliceRows    = 500
	sliceDevices = 100
	slicePause   = 20 * time.Millisecond
	vacuumPages  = 256

	longestUpkeep  = 10 * time.Minute
	shortestUpkeep = time.Second
	// roundsPerRetention is how many rounds of upkeep there are in the time of retention.
	roundsPerRetention = 100
	// Unused pages are filled again. Only more of them than this and a tenth of the file is
	// given back to the file system.
	sparePages = 1000
)

// prune is the state of a round that deletes old messages.
type prune struct {
	running bool
	start   time.Time // of the round, which decides what is too old or too far ahead
	device  string    // the last device that is done; "" before the first
}

// upkeepEvery is the time from one round of upkeep to the next.
func (s *Store) upkeepEvery() time.Duration {
	if s.opts.Retention <= 0 {
		return longestUpkeep
	}
	return min(max(s.opts.Retention/roundsPerRetention, shortestUpkeep), longestUpkeep)
}

// upkeep does one slice and returns the pause before the next.
func (s *Store) upkeep() time.Duration {
	var more bool
	err := task.Do(func() (err error) {
		more, err = s.upkeepSlice()
		return err
	})
	if err != nil {
		s.background(fmt.Errorf("retention: %w", err))
		s.prune = prune{}
	} else if more {
		return slicePause
	}
	return s.upkeepEvery()
}

func (s *Store) upkeepSlice() (more bool, err error) {
	ctx := context.Background()
	if s.opts.Retention > 0 {
		if !s.prune.running {
			s.prune = prune{running: true, start: s.opts.Now()}
		}
		next := s.prune
		err := s.transact(ctx, func(tx *sql.Tx) error { return s.pruneSlice(ctx, tx, &next) })
		if err != nil {
			return false, err
		}
		if s.prune = next; next.running {
			return true, nil
		}
	}
	return s.vacuumSlice(ctx)
}

// pruneSlice does the next slice of the round p. It goes through the devices of the table
// latest, which has every device with messages once they are flushed.
func (s *Store) pruneSlice(ctx context.Context, tx *sql.Tx, p *prune) error {
	budget := int64(sliceRows)
	for range sliceDevices {
		var device string
		err := tx.StmtContext(ctx, s.write.nextDevice).QueryRowContext(ctx, p.device).Scan(&device)
		if errors.Is(err, sql.ErrNoRows) {
			*p = prune{}
			return nil
		}
		if err != nil {
			return err
		}
		deleted, err := s.pruneDevice(ctx, tx, device, p.start, budget)
		if err != nil {
			return err
		}
		if budget -= deleted; budget <= 0 {
			return nil // the same device may have more
		}
		p.device = device
	}
	return nil
}

// pruneDevice deletes about limit messages of a device and, after the last of them, its newest
// values that are as old.
func (s *Store) pruneDevice(ctx context.Context, tx *sql.Tx, device string, now time.Time, limit int64) (deleted int64, err error) {
	old := now.Add(-s.opts.Retention).UnixMilli()
	w := tableWriter{Store: s, ctx: ctx, tx: tx}
	if deleted, err = w.deleteMessages(s.write.pruneOld, device, old, limit); err != nil || deleted >= limit {
		return deleted, err
	}
	delete(s.keys, telemetry.AccountOf(device)) // because its count is no longer right
	if _, err := tx.StmtContext(ctx, s.write.pruneLatest).ExecContext(ctx, device, old); err != nil {
		return deleted, err
	}
	if ahead, ok := s.aheadCutoff(now); ok {
		n, err := w.pruneAhead(device, ahead, limit-deleted)
		return deleted + n, err
	}
	return deleted, nil
}

// vacuumSlice gives some unused pages back to the file system, if there are many.
func (s *Store) vacuumSlice(ctx context.Context) (more bool, err error) {
	var unused, pages int
	if err := s.write.freePages.QueryRowContext(ctx).Scan(&unused); err != nil {
		return false, err
	}
	if err := s.write.pages.QueryRowContext(ctx).Scan(&pages); err != nil {
		return false, err
	}
	if unused <= sparePages+pages/10 {
		return false, nil
	}
	_, err = s.write.empty.ExecContext(ctx)
	return err == nil, err
}
