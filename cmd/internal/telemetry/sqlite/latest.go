package sqlite

import (
	"context"
	"database/sql"
	"encoding/json"
	"fmt"
	"slices"

	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/cmd/internal/telemetry/payload"
)

// maxRecent is how many keys may wait for a flush.
const maxRecent = 10_000

// remember takes up the newest values of a batch that is committed.
func (s *Store) remember(batch []*request) {
	for _, r := range batch {
		if r.refused != nil {
			continue
		}
		for _, p := range r.each() {
			for _, m := range p.rows {
				s.recent.Add(p.device, m.Message)
			}
		}
	}
}

// flush brings the tables latest and usage up to date.
func (s *Store) flush() error {
	if s.recent.Len() == 0 && len(s.usage.pending) == 0 {
		return nil
	}
	ctx := context.Background()
	err := s.transact(ctx, func(tx *sql.Tx) error {
		latest := tx.StmtContext(ctx, s.write.latest)
		for device, keys := range s.recent.All() {
			for key, p := range keys {
				if _, err := latest.ExecContext(ctx, device, key, p.TS, string(p.Value.AppendJSON(nil))); err != nil {
					return err
				}
			}
		}
		change := tx.StmtContext(ctx, s.write.changeUsage)
		for account, bytes := range s.usage.pending {
			if _, err := change.ExecContext(ctx, account, bytes); err != nil {
				return err
			}
		}
		_, err := tx.StmtContext(ctx, s.write.flushed).ExecContext(ctx)
		return err
	})
	if err != nil {
		return fmt.Errorf("newest values: %w", err)
	}
	s.keys.flushed(s.recent.All())
	s.recent.Clear()
	s.usage.pending = nil
	return nil
}

// replay brings the tables latest and usage up to date if the process was killed between a commit
// and the next flush.
func (s *Store) replay(ctx context.Context) error {
	rows, err := s.db.QueryContext(ctx, `SELECT messages FROM unflushed ORDER BY id`)
	if err != nil {
		return err
	}
	refs := make(map[messageRef]bool)
	err = eachRow(rows, func() error {
		var list string
		if err := rows.Scan(&list); err != nil {
			return err
		}
		var more []messageRef
		if err := json.Unmarshal([]byte(list), &more); err != nil {
			return damaged(err)
		}
		for _, ref := range more {
			s.usage.add(ref.Device, ref.Bytes)
			ref.Bytes = 0
			refs[ref] = true
		}
		return nil
	})
	if err != nil {
		return err
	}
	for ref := range refs {
		if err := s.replayMessages(ctx, ref); err != nil {
			return err
		}
	}
	return s.flush()
}

func (s *Store) replayMessages(ctx context.Context, ref messageRef) error {
	// There are none if retention has deleted them.
	rows, err := storedRows(ctx, s.write.get, ref.Device, ref.TS, -1)
	if err != nil {
		return err
	}
	for _, r := range slices.Backward(rows) {
		s.recent.Add(ref.Device, payload.Message{TS: ref.TS, Fields: r.fields})
	}
	return nil
}
