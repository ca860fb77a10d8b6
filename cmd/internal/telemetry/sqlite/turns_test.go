package sqlite

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"
)

func TestReadersTakeTurnsWhileMessagesWait(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		turns := turns{turn: make(chan struct{}, 1)}
		start := time.Now()
		var ends []time.Duration
		for range 3 {
			done, err := turns.acquire(t.Context(), true)
			if err != nil {
				t.Fatal(err)
			}
			time.Sleep(10 * time.Millisecond)
			done()
			ends = append(ends, time.Since(start))
		}
		for i, want := range []time.Duration{10, 50, 90} {
			if ends[i] != want*time.Millisecond {
				t.Errorf("query %d ends after %v, want %v", i, ends[i], want*time.Millisecond)
			}
		}
		done, _ := turns.acquire(t.Context(), true)
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if _, err := turns.acquire(ctx, true); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("error %v while another query runs, want the context's", err)
		}
		if again, err := turns.acquire(ctx, false); err != nil {
			t.Errorf("error %v though no message waits", err)
		} else {
			again()
		}
		done()
		ctx, cancel = context.WithTimeout(t.Context(), time.Millisecond)
		defer cancel()
		if _, err := turns.acquire(ctx, true); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("error %v during the rest, want the context's", err)
		}
		if done, err := turns.acquire(t.Context(), true); err != nil {
			t.Error(err)
		} else {
			done()
		}
	})
}

// TestReaderWaitsForACommit: a reader that arrives while a commit hangs is served after its pause,
// before the commit ends.
func TestReaderWaitsForACommit(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, gate := gated(t)
		stored := make(chan error)
		go func() { stored <- intake(s).Telemetry(t.Context(), "d", []byte(`{"a":1}`)) }()
		synctest.Wait()
		if !s.busy() {
			t.Error("a store that commits is not busy")
		}
		check(t, "latest", latest(t, s, "d"), ``)
		close(gate)
		if err := <-stored; err != nil {
			t.Error(err)
		}
		synctest.Wait()
		if s.busy() {
			t.Error("a store that has committed is busy")
		}
	})
}
