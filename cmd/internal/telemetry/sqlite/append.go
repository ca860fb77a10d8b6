package sqlite

import (
	"context"
	"errors"
	"unicode/utf8"

	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/cmd/internal/telemetry"
	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/cmd/internal/telemetry/payload"
)

// request is the data of one call for the writing goroutine.
type request struct {
	device string
	parts  []*request // of several devices, stored all or none, or
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

	children []string // devices behind the gateway that is called device, for which there are to be
	numbers  []int64

	reserved int64 // bytes that are counted until it is known how many bytes are added
	added    int64 // bytes by which the tables grow; less than 0 if they shrink

	canceled <-chan struct{} // closed when the caller no longer waits
	refused  error           // why this request is not stored, although others are
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
	for _, p := range r.parts {
		n += len(p.rows)
	}
	return n + len(r.rows)
}

// row is one message in its stored form.
type row struct {
	payload.Message
	data string
}

// SetAttributes implements [telemetry.Writer].
func (s *Store) SetAttributes(ctx context.Context, device string, scope telemetry.Scope, updated int64, fields []payload.Field) error {
	if len(fields) == 0 {
		return nil
	}
	return s.submit(ctx, &request{device: device, scope: scope, attributes: fields, updated: updated})
}

// DeleteAttributes implements [telemetry.Writer].
func (s *Store) DeleteAttributes(ctx context.Context, device string, scope telemetry.Scope, keys []string) error {
	if len(keys) == 0 {
		return nil
	}
	return s.submit(ctx, &request{device: device, scope: scope, deleted: keys})
}

// DeleteValues implements [telemetry.Deleter].
func (s *Store) DeleteValues(ctx context.Context, device string, keys []string, times []int64) error {
	if len(keys) == 0 || len(times) == 0 {
		return nil
	}
	return s.submit(ctx, &request{device: device, emptied: keys, times: times})
}

// ReplaceLatest implements [telemetry.Deleter].
func (s *Store) ReplaceLatest(ctx context.Context, r telemetry.Range, points []telemetry.KeyPoint) error {
	if len(points) == 0 {
		return nil
	}
	return s.submit(ctx, &request{device: r.Device, span: r, renewed: points})
}

// Append implements [telemetry.Writer].
func (s *Store) Append(ctx context.Context, device string, messages []payload.Message) error {
	if len(messages) == 0 {
		return nil
	}
	return s.submit(ctx, &request{device: device, rows: rowsOf(messages)})
}

// AppendAll implements [telemetry.Writer].
func (s *Store) AppendAll(ctx context.Context, parts []telemetry.Part) error {
	all := &request{}
	for _, p := range parts {
		if len(p.Messages)+len(p.Attributes) > 0 {
			all.parts = append(all.parts, &request{
				device: p.Device, rows: rowsOf(p.Messages), scope: telemetry.ClientScope, attributes: p.Attributes, updated: p.Updated,
			})
		}
	}
	if all.parts == nil {
		return nil
	}
	all.device = all.parts[0].device
	return s.submit(ctx, all)
}

func rowsOf(messages []payload.Message) []row {
	rows := make([]row, len(messages))
	for i, m := range messages {
		rows[i] = row{Message: m, data: string(payload.AppendObject(nil, m.Fields))}
	}
	return rows
}

// submit passes the request to the writing goroutine and waits for the outcome.
func (s *Store) submit(ctx context.Context, r *request) error {
	for _, p := range r.each() {
		if p.device == "" || !utf8.ValidString(p.device) {
			return errors.New("device name is empty or not UTF-8")
		}
	}
	r.canceled, r.done = ctx.Done(), make(chan error, 1)
	select {
	case <-s.closing:
		return errClosed
	default:
	}
	select {
	case s.queue <- r:
	case <-ctx.Done():
		return ctx.Err()
	case <-s.closing:
		return errClosed
	}
	select {
	case err := <-r.done:
		return err
	case <-ctx.Done():
		return ctx.Err()
	case <-s.done:
	}
	// The goroutine has ended: the outcome is here, or the request came too late.
	select {
	case err := <-r.done:
		return err
	default:
		return errClosed
	}
}
