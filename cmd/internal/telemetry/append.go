package telemetry

import (
	"context"
	"errors"
	"unicode/utf8"

	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/cmd/internal/telemetry/payload"
)

// request is one call's data on its way through the writing goroutine.
type request struct {
	device string
	rows   []row // telemetry, or
	// attributes and when they came, in milliseconds
	attributes []payload.Field
	ts         int64

	gone    <-chan struct{} // closed when the caller has given up
	refused error           // why this request alone is not stored
	done    chan error      // receives the outcome once; has room for it
}

// row is one message in its stored form.
type row struct {
	payload.Message
	data string
}

// Telemetry stores a payload published to v1/devices/me/telemetry. An empty
// one, [] or {}, is fine. It returns nil once the payload is durable, a
// [*PayloadError] if it can never be stored, and any other error if it was not
// stored now.
func (s *Store) Telemetry(ctx context.Context, device string, data []byte) error {
	now := s.opts.Now()
	messages, err := payload.Parse(data, now, s.parseOptions())
	if err == nil {
		err = s.checkAhead(messages, now)
	}
	if err != nil {
		s.counters.refused.Add(1)
		return err
	}
	return s.Append(ctx, device, messages)
}

// Attributes stores a payload published to v1/devices/me/attributes: its keys
// replace those of the same name, the others stay. Errors are those of
// [Store.Telemetry].
func (s *Store) Attributes(ctx context.Context, device string, data []byte) error {
	now := s.opts.Now()
	fields, err := payload.ParseAttributes(data, s.parseOptions())
	if err != nil {
		s.counters.refused.Add(1)
		return err
	}
	if len(fields) == 0 {
		return nil
	}
	return s.submit(ctx, &request{device: device, attributes: fields, ts: now.UnixMilli()})
}

// Append stores messages of one device, all or none. It returns nil once they
// are durable; errors are those of [Store.Telemetry]. If ctx ends first, its
// error is returned and the messages may or may not be stored.
func (s *Store) Append(ctx context.Context, device string, messages []payload.Message) error {
	if len(messages) == 0 {
		return nil
	}
	rows := make([]row, len(messages))
	for i, m := range messages {
		rows[i] = row{Message: m, data: string(payload.AppendObject(nil, m.Fields))}
	}
	return s.submit(ctx, &request{device: device, rows: rows})
}

// submit hands the request to the writing goroutine and waits for the outcome.
func (s *Store) submit(ctx context.Context, r *request) error {
	if r.device == "" || !utf8.ValidString(r.device) {
		return errors.New("device name is empty or not UTF-8")
	}
	r.gone, r.done = ctx.Done(), make(chan error, 1)
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
