package postgres

import (
	"context"

	"github.com/jackc/pgx/v5"

	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/cmd/internal/telemetry"
)

// maxCounted is for how many devices a worker has counts at once.
const maxCounted = 100_000

// keyCounts bounds the keys of each account, see telemetry.AccountOf. A count is an upper bound, to
// which each message adds the number of its fields; when that reaches the limit, the keys are
// counted. Stores that write into one database count for themselves, so that a device that uses
// several at once may get somewhat more keys.
type keyCounts map[string]int

const (
	countAll = `SELECT device, count(*) FROM mqtt_auth_proxy.latest WHERE device = ANY ($1) GROUP BY device`
	// countFamily counts the keys of all devices behind a gateway in the table latest.
	countFamily = `SELECT count(*) FROM mqtt_auth_proxy.children AS c JOIN mqtt_auth_proxy.latest AS l ON l.device = c.device
		WHERE c.gateway = $1`
	// countNew counts which of some keys of devices are not in the table latest.
	countNew = `SELECT count(*) FROM unnest($1::text[], $2::text[]) AS k (device, key)
		WHERE NOT EXISTS (SELECT 1 FROM mqtt_auth_proxy.latest AS l WHERE l.device = k.device AND l.key = k.key)`
)

// admit refuses the requests of a group that would give a device too many keys or bytes.
func (w *worker) admit(ctx context.Context, group []*request) error {
	if err := w.admitBytes(ctx, group); err != nil {
		w.usage.known = nil // because it has accounts that were not read
		return err
	}
	if err := w.meet(ctx, group); err != nil {
		w.keys = nil // because it has devices that were not counted
		return err
	}
	for i, r := range group {
		fields := 0
		for _, m := range r.rows {
			fields += len(m.Fields)
		}
		if fields == 0 || r.refused != nil {
			continue
		}
		account := telemetry.AccountOf(r.device)
		if w.keys[account]+fields <= w.opts.MaxKeys {
			w.keys[account] += fields
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
		w.keys[account] = after
	}
	return nil
}

// meet counts the keys of the accounts for which there is no count yet.
func (w *worker) meet(ctx context.Context, group []*request) error {
	if w.keys == nil || len(w.keys) >= maxCounted {
		w.keys = make(keyCounts)
	}
	var devices []string
	for _, r := range group {
		account := telemetry.AccountOf(r.device)
		if _, known := w.keys[account]; known || len(r.rows) == 0 {
			continue
		}
		if account != r.device {
			n, err := w.countStored(ctx, r.device)
			if err != nil {
				return err
			}
			w.keys[account] = n + len(w.recentKeys(account))
			continue
		}
		w.keys[account] = len(w.recent.Of(r.device))
		devices = append(devices, r.device)
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

// deviceKey is a key of one of the devices of an account.
type deviceKey struct{ device, key string }

// recentKeys returns the keys of an account that this worker has stored and not flushed.
func (w *worker) recentKeys(account string) map[deviceKey]bool {
	keys := make(map[deviceKey]bool)
	for device, points := range w.recent.All() {
		if telemetry.AccountOf(device) != account {
			continue
		}
		for key := range points {
			keys[deviceKey{device, key}] = true
		}
	}
	return keys
}

// countStored returns how many keys in the table latest belong to the account of a device.
func (w *worker) countStored(ctx context.Context, device string) (n int, err error) {
	query := `SELECT count(*) FROM mqtt_auth_proxy.latest WHERE device = $1`
	owner := telemetry.OwnerOf(device)
	if owner != device {
		query = countFamily
	}
	err = w.conn.QueryRow(ctx, query, owner).Scan(&n)
	return n, err
}

// count returns how many keys the account of r has with those of the requests that come before it
// in its group, and how many with those of r.
func (w *worker) count(ctx context.Context, r *request, earlier []*request) (before, after int, err error) {
	account := telemetry.AccountOf(r.device)
	keys := w.recentKeys(account)
	add := func(r *request) {
		for _, m := range r.rows {
			for _, f := range m.Fields {
				keys[deviceKey{r.device, f.Key}] = true
			}
		}
	}
	for _, other := range earlier {
		if other.refused == nil && telemetry.AccountOf(other.device) == account {
			add(other)
		}
	}
	stored, err := w.countStored(ctx, r.device)
	if err == nil {
		before, err = w.countNew(ctx, keys)
	}
	if add(r); err == nil {
		after, err = w.countNew(ctx, keys)
	}
	return stored + before, stored + after, err
}

// countNew returns how many of some keys are not in the table latest.
func (w *worker) countNew(ctx context.Context, list map[deviceKey]bool) (n int, err error) {
	var devices, keys []string
	for k := range list {
		devices, keys = append(devices, k.device), append(keys, k.key)
	}
	err = w.conn.QueryRow(ctx, countNew, devices, keys).Scan(&n)
	return n, err
}
