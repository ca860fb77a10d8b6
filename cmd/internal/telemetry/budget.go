package telemetry

import (
	"fmt"

	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/cmd/internal/telemetry/payload"
)

// answerBytes is how many bytes of memory one answer may take.
const answerBytes = 16 << 20

// valueBytes is about how many bytes a value takes in addition to its text, in memory and as
// JSON.
const valueBytes = 64

// budget is how many more bytes an answer may take.
type budget int

// spend returns an error once the answer would be too large.
func (b *budget) spend(bytes int) error {
	if *b -= budget(bytes); *b < 0 {
		return fmt.Errorf("%w: the answer would be larger than %d MiB: ask for fewer keys, a shorter span or a smaller limit", ErrQuery, answerBytes>>20)
	}
	return nil
}

// clone charges the bytes of a value to the budget and returns a copy, which does not keep the
// whole message in memory.
func (b *budget) clone(v payload.Value) (payload.Value, error) {
	if err := b.spend(valueBytes + v.TextSize()); err != nil {
		return payload.Value{}, err
	}
	return v.Clone(), nil
}
