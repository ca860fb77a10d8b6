package sqlite

import (
	"context"
	"errors"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/cmd/internal/task"
	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/cmd/internal/telemetry"
)

// TestPanicOfTheWriterRefusesTheBatch: its requests are answered as when the store cannot
// write, the stack is reported, and the writer goes on.
func TestPanicOfTheWriterRefusesTheBatch(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var reported []error
		s := open(t, Options{OnError: func(err error) { reported = append(reported, err) }})
		publish(t, s, "d", `{"ts":1,"values":{"a":1}}`)
		synctest.Wait()
		whole := s.write
		s.write = statements{}
		err := intake(s).Telemetry(context.Background(), "d", []byte(`{"ts":2,"values":{"a":2}}`))
		if !errors.Is(err, telemetry.ErrStore) || s.Writable() == nil {
			t.Errorf("the request failed with %v, and Writable returns %v", err, s.Writable())
		}
		if len(reported) != 1 || task.StackOf(reported[0]) == nil {
			t.Errorf("reported %v, want one panic with its stack", reported)
		}
		s.write = whole
		publish(t, s, "d", `{"ts":3,"values":{"a":3}}`)
		if err := s.Writable(); err != nil {
			t.Errorf("Writable = %v after a batch that was stored", err)
		}
		check(t, "range", span(t, s, telemetry.Query{Device: "d", Keys: []string{"a"}, End: 9}), `3@3 1@1`)
	})
}

// TestPanicOfUpkeepIsReported: the writer goes on and tries again at the next turn.
func TestPanicOfUpkeepIsReported(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var broken atomic.Bool
		var reported []error
		s := open(t, Options{
			Retention: time.Hour,
			OnError:   func(err error) { reported = append(reported, err) },
			Now: func() time.Time {
				if broken.Load() {
					panic("bug")
				}
				return time.UnixMilli(5)
			},
		})
		broken.Store(true)
		time.Sleep(3 * s.upkeepEvery())
		synctest.Wait()
		broken.Store(false)
		if len(reported) < 2 || task.StackOf(reported[0]) == nil {
			t.Errorf("reported %v, want a panic with its stack at each turn", reported)
		}
		publish(t, s, "d", `{"ts":3,"values":{"a":3}}`)
	})
}
