package broker

import (
	"context"
	"errors"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var errBad = errors.New("not what a device should send")

// memory is a store of device data. A payload that starts with "bad" can never be stored, and
// none can while err is set.
type memory struct {
	mu   sync.Mutex
	err  error
	data []record
	hold chan struct{} // while not nil, storing waits for it to be closed
}

type record struct{ kind, device, payload string }

func (m *memory) save(kind string) func(context.Context, string, []byte) error {
	return func(ctx context.Context, device string, payload []byte) error {
		m.mu.Lock()
		hold := m.hold
		m.mu.Unlock()
		if hold != nil {
			select {
			case <-hold:
			case <-ctx.Done():
				return ctx.Err()
			}
		}
		m.mu.Lock()
		defer m.mu.Unlock()
		switch {
		case m.err != nil:
			return m.err
		case strings.HasPrefix(string(payload), "bad"):
			return errBad
		case strings.HasPrefix(string(payload), "panic"):
			panic("told to")
		}
		m.data = append(m.data, record{kind, device, string(payload)})
		return nil
	}
}

func (m *memory) fail(err error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.err = err
}

func (m *memory) records() []record {
	m.mu.Lock()
	defer m.mu.Unlock()
	return append([]record(nil), m.data...)
}

// newBroker starts a broker that ends with the test.
func newBroker(t testing.TB, change func(*Options)) (*Broker, *memory) {
	t.Helper()
	m := &memory{}
	o := Options{
		Telemetry:  m.save("telemetry"),
		Attributes: m.save("attributes"),
		BadPayload: func(err error) bool { return errors.Is(err, errBad) },
	}
	if change != nil {
		change(&o)
	}
	b, err := New(o)
	if err != nil {
		t.Fatal(err)
	}
	b.quietAfter = time.Millisecond // so that all tests have devices that become quiet and wake up
	t.Cleanup(func() {
		if err := b.Close(); err != nil {
			t.Error(err)
		}
	})
	return b, m
}

func nothing(context.Context, string, []byte) error { return nil }
