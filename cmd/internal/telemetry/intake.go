package telemetry

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sync/semaphore"

	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/cmd/internal/telemetry/payload"
)

// Intake receives the payloads that devices publish, parses them and stores their content. Its
// methods may be called from any number of goroutines; its fields must not change once one of
// them has been called.
//
// The payloads that are parsed or wait for the store take at most 32 MiB of memory. Further
// calls wait, in the order in which they were made.
type Intake struct {
	// Store is where the payloads go. It is required.
	Store Writer
	// StrictJSON refuses payloads that are not RFC 8259 and converts no strings to numbers.
	StrictJSON bool
	// KeepText leaves strings that look like numbers as they are, also without StrictJSON.
	KeepText bool
	// StoredTelemetry and StoredAttributes are called with what a device has sent, once it is
	// stored and before the call that has stored it returns, which fails if they do. They must not
	// change what they get. Nil does nothing.
	StoredTelemetry  func(ctx context.Context, device string, messages []payload.Message) error
	StoredAttributes func(ctx context.Context, device string, updated int64, fields []payload.Field) error
	// Now is the clock for messages without a ts; nil means time.Now.
	Now func() time.Time

	once    sync.Once
	memory  *semaphore.Weighted
	refused atomic.Int64
	full    atomic.Int64
	ahead   atomic.Int64
}

// IntakeStats are totals since the first call.
type IntakeStats struct {
	Refused   int64 // calls that failed with a [*PayloadError]
	OverQuota int64 // those of them whose device has as much as it may have
	Ahead     int64 // messages whose ts was too far ahead and was replaced by the time of arrival
}

// Stats returns the totals.
func (i *Intake) Stats() IntakeStats {
	return IntakeStats{Refused: i.refused.Load(), OverQuota: i.full.Load(), Ahead: i.ahead.Load()}
}

// Telemetry stores a payload published to v1/devices/me/telemetry, which may be empty. It returns
// nil once the payload is durable, a [*PayloadError] if it can never be stored, and any other error
// if it was not stored now.
func (i *Intake) Telemetry(ctx context.Context, device string, data []byte) error {
	return i.withMemory(ctx, data, func(now time.Time) error {
		messages, err := payload.Parse(data, now, i.grammar())
		if err == nil {
			err = i.checkAhead(messages, now)
		}
		if err != nil || len(messages) == 0 {
			return err
		}
		if err = i.Store.Append(ctx, device, messages); err == nil && i.StoredTelemetry != nil {
			err = i.StoredTelemetry(ctx, device, messages)
		}
		return err
	})
}

// Attributes stores a payload published to v1/devices/me/attributes: its keys replace those
// of the same name, the others stay. Errors are those of [Intake.Telemetry].
func (i *Intake) Attributes(ctx context.Context, device string, data []byte) error {
	return i.withMemory(ctx, data, func(now time.Time) error {
		fields, err := payload.ParseAttributes(data, i.grammar())
		if err != nil || len(fields) == 0 {
			return err
		}
		updated := now.UnixMilli()
		if err = i.Store.SetAttributes(ctx, device, ClientScope, updated, fields); err == nil && i.StoredAttributes != nil {
			err = i.StoredAttributes(ctx, device, updated, fields)
		}
		return err
	})
}

// withMemory calls store once there is memory for a payload, and counts what is refused.
func (i *Intake) withMemory(ctx context.Context, data []byte, store func(now time.Time) error) error {
	i.once.Do(func() { i.memory = semaphore.NewWeighted(intakeMemory) })
	weight := parsedSize(data)
	if err := i.memory.Acquire(ctx, weight); err != nil {
		return err
	}
	defer i.memory.Release(weight)
	now := time.Now
	if i.Now != nil {
		now = i.Now
	}
	err := store(now())
	if bad, ok := errors.AsType[*PayloadError](err); ok {
		i.refused.Add(1)
		if bad.Quota {
			i.full.Add(1)
		}
	}
	return err
}

// intakeMemory is how many bytes payloads may take while they are parsed and stored.
const intakeMemory = 32 << 20

// parsedSize estimates how many bytes a payload takes with everything that is made from it. The
// estimate is high for short payloads, of which there is room for thousands.
func parsedSize(data []byte) int64 {
	const (
		perCall   = 1 << 10
		perByte   = 3   // the payload, its text, and the text that is stored
		perValue  = 200 // the nodes of the parser, or a field
		mostValue = 20_000
	)
	size := perCall + perByte*len(data) + perValue*min(len(data)/2, mostValue)
	return min(int64(size), intakeMemory)
}

func (i *Intake) grammar() payload.Options {
	return payload.Options{Strict: i.StrictJSON, KeepText: i.KeepText, MaxBytes: MaxPayload}
}

// checkAhead replaces a ts that is too far ahead of the clock by the time of arrival, because the
// device's clock must be wrong. With strict JSON it refuses such messages.
func (i *Intake) checkAhead(messages []payload.Message, now time.Time) error {
	if !ClockIsSet(now) {
		return nil
	}
	last := now.Add(MaxAhead).UnixMilli()
	for k := range messages {
		m := &messages[k]
		switch {
		case m.TS <= last:
		case i.StrictJSON:
			return &PayloadError{Reason: "ts is more than a day ahead"}
		default:
			m.TS, m.Arrived = now.UnixMilli(), true
			i.ahead.Add(1)
		}
	}
	return nil
}

func isPayloadError(err error) bool {
	_, ok := errors.AsType[*PayloadError](err)
	return ok
}
