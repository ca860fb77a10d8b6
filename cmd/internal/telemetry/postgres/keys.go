package postgres

import (
	"context"
	"maps"
	"slices"

	"github.com/jackc/pgx/v5"

	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/cmd/internal/telemetry"
)

// maxCounted is for how many devices a worker has counts at once.
const maxCounted = 100_000

// keyCounts bounds the keys of each device. A count is an upper bound, to which each message
// adds the number of its fields; when that reaches the limit, the keys are counted. Stores that
// write into one database count for themselves, so that a device that uses several at once may
// get somewhat more keys.
type keyCounts map[string]int

const (
	countAll = `SELECT device, count(*) FROM mqtt_auth_proxy.latest WHERE device = ANY ($1) GROUP BY device`
	// countKeys counts the keys that a device has in the table latest and in memory, and how
	// many there would be with more.
	countKeys = `SELECT
		(SELECT count(*) FROM (SELECT key FROM mqtt_auth_proxy.latest WHERE device = $1 UNION SELECT unnest($2::text[])) AS k),
		(SELECT count(*) FROM (SELECT key FROM mqtt_auth_proxy.latest WHERE device = $1 UNION SELECT unnest($3::text[])) AS k)`
)

// admit refuses the requests of a group that would give a device too many keys.
func (w *worker) admit(ctx context.Context, group []*request) error {
	if err := w.meet(ctx, group); err != nil {
		w.keys = nil // because it has devices that were not counted
		return err
	}
	for i, r := range group {
		fields := 0
		for _, m := range r.rows {
			fields += len(m.Fields)
		}
		if fields == 0 {
			continue
		}
		if w.keys[r.device]+fields <= w.opts.MaxKeys {
			w.keys[r.device] += fields
			continue
		}
		before, after, err := w.count(ctx, r, group[:i])
		if err != nil {
			return err
		}
		if after > w.opts.MaxKeys && after > before {
			r.refused = &telemetry.PayloadError{Reason: "too many keys for one device", Quota: true}
			after = before
		}
		w.keys[r.device] = after
	}
	return nil
}

// meet counts the keys of the devices for which there is no count yet.
func (w *worker) meet(ctx context.Context, group []*request) error {
	if w.keys == nil || len(w.keys) >= maxCounted {
		w.keys = make(keyCounts)
	}
	var devices []string
	for _, r := range group {
		if _, known := w.keys[r.device]; !known && len(r.rows) > 0 {
			w.keys[r.device] = len(w.recent.Of(r.device))
			devices = append(devices, r.device)
		}
	}
	if devices == nil {
		return nil
	}
	rows, err := w.conn.Query(ctx, countAll, devices)
	if err != nil {
		return err
	}
	var (
		device string
		n      int
	)
	_, err = pgx.ForEachRow(rows, []any{&device, &n}, func() error {
		w.keys[device] += n
		return nil
	})
	return err
}

// count returns how many keys the device of r has with those of the requests that come before
// it in its group, and how many with those of r.
func (w *worker) count(ctx context.Context, r *request, earlier []*request) (before, after int, err error) {
	keys := make(map[string]bool)
	add := func(r *request) {
		for _, m := range r.rows {
			for _, f := range m.Fields {
				keys[f.Key] = true
			}
		}
	}
	for key := range w.recent.Of(r.device) {
		keys[key] = true
	}
	for _, other := range earlier {
		if other.device == r.device && other.refused == nil {
			add(other)
		}
	}
	without := slices.Collect(maps.Keys(keys))
	add(r)
	err = w.conn.QueryRow(ctx, countKeys, r.device, without, slices.Collect(maps.Keys(keys))).Scan(&before, &after)
	return before, after, err
}
