package postgres

import (
	"context"
	"errors"
	"fmt"
	"hash/maphash"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/cmd/internal/telemetry"
	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/cmd/internal/telemetry/payload"
)

// maxDevice is the longest name of a device in bytes. An entry of an index of PostgreSQL has at
// most 2700 bytes, and a key may take 1020 of them.
const maxDevice = 1024

// request is the data of one call for the goroutine of a connection.
type request struct {
	device string
	parts  []*request // of devices behind one gateway, stored all or none, or
	rows   []row      // telemetry, or
	// attributes of a scope and when they were set, in milliseconds, or keys to delete, or
	scope      telemetry.Scope
	attributes []payload.Field
	updated    int64
	deleted    []string
	// keys whose values are deleted at some times, or
	emptied []string
	times   []int64
	// newest values that replace those in a span of time
	renewed []telemetry.KeyPoint
	span    telemetry.Range

	unit *request // of which r is a part

	reserved int64 // bytes that are counted until it is known by how much the tables grow

	canceled <-chan struct{} // closed when the caller no longer waits
	refused  error           // why this request is not stored, though others are
	done     chan error      // receives the outcome once; has room for it
}

// each returns the requests of which r consists.
func (r *request) each() []*request {
	if r.parts != nil {
		return r.parts
	}
	return []*request{r}
}

// size returns how many rows r has.
func (r *request) size() (n int) {
	for _, p := range r.each() {
		n += len(p.rows)
	}
	return n
}

// partsOf returns the requests of which those of a group consist.
func partsOf(group []*request) []*request {
	parts := make([]*request, 0, len(group))
	for _, r := range group {
		parts = append(parts, r.each()...)
	}
	return parts
}

// refuseWhole refuses the requests of which a part is refused, with all their parts. It reports
// whether there was one that was not refused before.
func refuseWhole(parts []*request) (more bool) {
	for _, p := range parts {
		if p.unit != nil && p.refused != nil && p.unit.refused == nil {
			p.unit.refused, more = p.refused, true
		}
	}
	for _, p := range parts {
		if p.unit != nil {
			p.refused = p.unit.refused
		}
	}
	return more
}

// row is one message in its stored form.
type row struct {
	payload.Message
	data string
}

// SetAttributes implements [telemetry.Writer].
func (s *Store) SetAttributes(ctx context.Context, device string, scope telemetry.Scope, updated int64, fields []payload.Field) error {
	if err := checkKeys(fields); err != nil || len(fields) == 0 {
		return err
	}
	return s.submit(ctx, &request{device: device, scope: scope, attributes: fields, updated: updated})
}

// DeleteAttributes implements [telemetry.Writer].
func (s *Store) DeleteAttributes(ctx context.Context, device string, scope telemetry.Scope, keys []string) error {
	if keys = storable(keys); len(keys) == 0 {
		return nil
	}
	return s.submit(ctx, &request{device: device, scope: scope, deleted: keys})
}

// storable returns the keys that PostgreSQL can store. There is nothing of others.
func storable(keys []string) []string {
	return slices.DeleteFunc(slices.Clone(keys), func(key string) bool { return strings.ContainsRune(key, 0) || !utf8.ValidString(key) })
}

// DeleteValues implements [telemetry.Deleter].
func (s *Store) DeleteValues(ctx context.Context, device string, keys []string, times []int64) error {
	if keys = storable(keys); len(keys) == 0 || len(times) == 0 {
		return nil
	}
	return s.submit(ctx, &request{device: device, emptied: keys, times: times})
}

// ReplaceLatest implements [telemetry.Deleter]. What another store of the database has stored in the
// last seconds may become the newest value again.
func (s *Store) ReplaceLatest(ctx context.Context, r telemetry.Range, points []telemetry.KeyPoint) error {
	if len(points) == 0 {
		return nil
	}
	return s.submit(ctx, &request{device: r.Device, span: r, renewed: points})
}

// Append implements [telemetry.Writer].
func (s *Store) Append(ctx context.Context, device string, messages []payload.Message) error {
	rows, err := rowsOf(messages)
	if err != nil || len(rows) == 0 {
		return err
	}
	return s.submit(ctx, &request{device: device, rows: rows})
}

// AppendAll implements [telemetry.Writer].
func (s *Store) AppendAll(ctx context.Context, parts []telemetry.Part) error {
	all := &request{}
	for _, p := range parts {
		rows, err := rowsOf(p.Messages)
		if err == nil {
			err = checkKeys(p.Attributes)
		}
		if err != nil {
			return err
		}
		if len(rows)+len(p.Attributes) > 0 {
			all.parts = append(all.parts, &request{
				device: p.Device, rows: rows, scope: telemetry.ClientScope, attributes: p.Attributes, updated: p.Updated, unit: all,
			})
		}
	}
	if all.parts == nil {
		return nil
	}
	all.device = all.parts[0].device
	return s.submit(ctx, all)
}

func rowsOf(messages []payload.Message) ([]row, error) {
	rows := make([]row, len(messages))
	for i, m := range messages {
		if err := checkKeys(m.Fields); err != nil {
			return nil, err
		}
		rows[i] = row{Message: m, data: string(payload.AppendObject(nil, m.Fields))}
	}
	return rows, nil
}

// checkKeys refuses keys that the type text cannot store. Values are stored as JSON, which can.
func checkKeys(fields []payload.Field) error {
	for _, f := range fields {
		if strings.ContainsRune(f.Key, 0) {
			return &telemetry.PayloadError{Reason: "key has a NUL character, which PostgreSQL cannot store"}
		}
	}
	return nil
}

func checkDevice(name string) error {
	switch {
	case name == "" || !utf8.ValidString(name):
		return errors.New("device name is empty or not UTF-8")
	case strings.ContainsRune(name, 0):
		return &telemetry.PayloadError{Reason: "device name has a NUL character, which PostgreSQL cannot store"}
	case len(name) > maxDevice:
		return &telemetry.PayloadError{Reason: fmt.Sprintf("device name is longer than the %d bytes that PostgreSQL can store", maxDevice)}
	}
	return nil
}

// workerOf returns the worker that stores what a device sends. It is the same one for all devices
// behind a gateway.
func (s *Store) workerOf(device string) *worker {
	return s.workers[maphash.String(s.seed, telemetry.OwnerOf(device))%uint64(len(s.workers))]
}

// submit passes the request to the connection of its device and waits for the outcome.
func (s *Store) submit(ctx context.Context, r *request) error {
	for _, p := range r.each() {
		if err := checkDevice(p.device); err != nil {
			return err
		}
	}
	r.canceled, r.done = ctx.Done(), make(chan error, 1)
	w := s.workerOf(r.device)
	if s.closing.Err() != nil {
		return errClosed
	}
	select {
	case w.queue <- r:
	case <-ctx.Done():
		return w.late(ctx)
	case <-s.closing.Done():
		return errClosed
	}
	select {
	case err := <-r.done:
		return err
	case <-ctx.Done():
		return w.late(ctx)
	case <-w.ended:
	}
	// The goroutine has ended: the outcome is here, or the request came too late.
	select {
	case err := <-r.done:
		return err
	default:
		return errClosed
	}
}

// late returns the error of ctx and, if there is one, the fault for which the caller waited.
func (w *worker) late(ctx context.Context) error {
	if fault := w.fault.Load(); fault != nil {
		return fmt.Errorf("%w: %w", *fault, ctx.Err())
	}
	return ctx.Err()
}
