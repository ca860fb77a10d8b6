package sqlite

import (
	"context"
	"database/sql"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"

	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/cmd/internal/telemetry"
	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/cmd/internal/telemetry/payload"
)

// recent holds the newest values that are committed but not yet in the table latest. Readers
// look here first and then in the table. Readers find every value, because an entry is removed
// only after the commit that put it into the table.
type recent struct {
	mu      sync.Mutex
	devices map[string]map[string]telemetry.Point
	size    int // keys of all devices
}

// maxRecent is how many keys may wait for a flush.
const maxRecent = 10_000

func (r *recent) full() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.size >= maxRecent
}

func (r *recent) add(batch []*request) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, request := range batch {
		if request.refused != nil {
			continue
		}
		for _, m := range request.rows {
			r.addLocked(request.device, m.Message)
		}
	}
}

func (r *recent) addLocked(device string, m payload.Message) {
	keys := r.devices[device]
	if keys == nil {
		keys = make(map[string]telemetry.Point)
		if r.devices == nil {
			r.devices = make(map[string]map[string]telemetry.Point)
		}
		r.devices[device] = keys
	}
	for _, f := range m.Fields {
		old, known := keys[f.Key]
		switch {
		case !known:
			// A copy, because the key would keep the whole payload in memory.
			keys[strings.Clone(f.Key)] = telemetry.Point{TS: m.TS, Value: f.Value.Clone()}
			r.size++
		case m.TS >= old.TS:
			keys[f.Key] = telemetry.Point{TS: m.TS, Value: f.Value.Clone()}
		}
	}
}

// of returns a copy of the device's entries.
func (r *recent) of(device string) map[string]telemetry.Point {
	r.mu.Lock()
	defer r.mu.Unlock()
	return maps.Clone(r.devices[device])
}

func (r *recent) clear() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.devices, r.size = nil, 0
}

// flush brings the table latest up to date. Only the writing goroutine changes
// recent, so it may be read here without the lock.
func (s *Store) flush() error {
	if s.recent.size == 0 {
		return nil
	}
	ctx := context.Background()
	err := s.transact(ctx, func(tx *sql.Tx) error {
		latest := tx.StmtContext(ctx, s.write.latest)
		for device, keys := range s.recent.devices {
			for key, p := range keys {
				if _, err := latest.ExecContext(ctx, device, key, p.TS, string(p.Value.AppendJSON(nil))); err != nil {
					return err
				}
			}
		}
		_, err := tx.StmtContext(ctx, s.write.flushed).ExecContext(ctx)
		return err
	})
	if err != nil {
		return fmt.Errorf("newest values: %w", err)
	}
	s.keys.flushed(s.recent.devices)
	s.recent.clear()
	return nil
}

// replay brings the table latest up to date if the process was killed between a commit and the
// next flush.
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
		s.recent.addLocked(ref.Device, payload.Message{TS: ref.TS, Fields: r.fields})
	}
	return nil
}
