package postgres

import (
	"context"
	"maps"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5"

	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/cmd/internal/telemetry"
	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/cmd/internal/telemetry/payload"
)

// ofAttributes reports whether a request changes attributes.
func (r *request) ofAttributes() bool { return len(r.attributes)+len(r.deleted) > 0 }

// attributes changes the attributes of a group, and sets refused for devices that would have too
// many. Of several requests of a device each is counted on its own.
func (t *transaction) attributes(ctx context.Context, group []*request, p *plan) error {
	var rest []*request
	for _, r := range group {
		if r.refused == nil && r.ofAttributes() {
			rest = append(rest, r)
		}
	}
	for len(rest) > 0 {
		set, deleted := make(map[string]*request), make(map[string]*request)
		var later []*request
		scope := rest[0].scope // of the round
		for _, r := range rest {
			switch {
			case r.scope != scope || set[r.device] != nil || deleted[r.device] != nil:
				later = append(later, r)
			case len(r.deleted) > 0:
				deleted[r.device] = r
			default:
				set[r.device] = r
			}
		}
		if err := t.setAttributes(ctx, scope, set, p); err != nil {
			return err
		}
		if err := t.deleteAttributes(ctx, scope, deleted, p); err != nil {
			return err
		}
		rest = later
	}
	return nil
}

// setAttributes writes the attributes of one request for each device.
func (t *transaction) setAttributes(ctx context.Context, scope telemetry.Scope, requests map[string]*request, p *plan) error {
	var (
		devices, keys, values []string
		updated               []int64
	)
	collect := func() {
		devices, keys, values, updated = nil, nil, nil, nil
		for _, device := range slices.Sorted(maps.Keys(requests)) {
			r := requests[device]
			for _, f := range slices.SortedFunc(slices.Values(r.attributes), func(a, b payload.Field) int { return strings.Compare(a.Key, b.Key) }) {
				devices, keys = append(devices, device), append(keys, f.Key)
				values, updated = append(values, string(f.Value.AppendJSON(nil))), append(updated, r.updated)
			}
		}
	}
	if collect(); len(devices) == 0 {
		return nil
	}
	before := make(map[string]int64)
	err := t.send(ctx, func(b *pgx.Batch) {
		b.Queue(inTable(sizeAttributes, scope), devices, keys, telemetry.RowBytes).Query(eachSize(func(device string, size int64) { before[device] = size }))
		b.Queue(inTable(countAttributes, scope), devices, keys).Query(func(rows pgx.Rows) error {
			var (
				device string
				total  int
			)
			_, err := pgx.ForEachRow(rows, []any{&device, &total}, func() error {
				if total > telemetry.MaxAttributes {
					requests[device].refused = &telemetry.PayloadError{Reason: "too many attributes for one device", Quota: true}
					delete(requests, device)
				}
				return nil
			})
			return err
		})
	})
	if err != nil {
		return err
	}
	if scope == telemetry.ClientScope {
		t.growAttributes(requests, before, p)
	}
	if collect(); len(devices) == 0 {
		return nil
	}
	return t.send(ctx, func(b *pgx.Batch) {
		b.Queue(inTable(upsertAttributes, scope), devices, keys, updated, values)
	})
}

// deleteAttributes deletes the attributes of one request for each device.
func (t *transaction) deleteAttributes(ctx context.Context, scope telemetry.Scope, requests map[string]*request, p *plan) error {
	var devices, keys []string
	for _, device := range slices.Sorted(maps.Keys(requests)) {
		for _, key := range requests[device].deleted {
			devices, keys = append(devices, device), append(keys, key)
		}
	}
	if len(devices) == 0 {
		return nil
	}
	return t.send(ctx, func(b *pgx.Batch) {
		b.Queue(inTable(deleteAttributes, scope), devices, keys, telemetry.RowBytes).Query(eachSize(func(device string, size int64) {
			if scope == telemetry.ClientScope {
				p.grow(place{device, forever}, -size)
			}
		}))
	})
}

// growAttributes counts the bytes by which attributes grow, and refuses requests that would give
// their device too many. Those that operators set do not count, so that they can still configure a
// device that is full.
func (t *transaction) growAttributes(requests map[string]*request, before map[string]int64, p *plan) {
	for device, r := range requests {
		more := -before[device]
		for _, f := range r.attributes {
			more += telemetry.AttributeBytes(f.Key, string(f.Value.AppendJSON(nil)))
		}
		if more > 0 && t.full(device, more) {
			r.refused = telemetry.TooManyBytes()
			delete(requests, device)
			continue
		}
		p.grow(place{device, forever}, more)
	}
}

// eachSize reads rows of a device and a number of bytes.
func eachSize(f func(device string, size int64)) func(pgx.Rows) error {
	return func(rows pgx.Rows) error {
		var (
			device string
			size   int64
		)
		_, err := pgx.ForEachRow(rows, []any{&device, &size}, func() error {
			f(device, size)
			return nil
		})
		return err
	}
}

// inTable returns a statement for the table of a scope.
func inTable(statement string, scope telemetry.Scope) string {
	return strings.ReplaceAll(statement, "TABLE", attributeTable(scope))
}
