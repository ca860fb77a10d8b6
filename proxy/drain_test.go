package proxy

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// fleet connects devices and takes down when each connection ends.
func (b *bench) fleet(size int) (ends func() []time.Time) {
	b.t.Helper()
	var (
		mu  sync.Mutex
		all []time.Time
	)
	for i := range size {
		c := b.mustLogin(with(5, fmt.Sprint("device-", i), goodToken))
		go func() {
			if got, err := io.ReadAll(c); err == nil && string(got) == "\xe0\x01\x8b" {
				mu.Lock()
				defer mu.Unlock()
				all = append(all, time.Now())
			}
		}()
	}
	return func() []time.Time {
		synctest.Wait()
		mu.Lock()
		defer mu.Unlock()
		return all
	}
}

// TestDrainSpreadsDisconnects: each second of a drain ends the same number of sessions.
func TestDrainSpreadsDisconnects(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t)
		const size, spread = 100, 10 * second
		ends := b.fleet(size)
		start := time.Now()
		if err := b.srv.Drain(t.Context(), spread); err != nil || time.Since(start) > spread+2*second {
			t.Errorf("Drain returned %v after %v", err, time.Since(start))
		}
		ended := ends()
		bySecond := map[int]int{}
		for _, end := range ended {
			bySecond[int(end.Sub(ended[0])/second)]++
		}
		for s := range 10 {
			if n := bySecond[s]; n != size/10 {
				t.Errorf("%d devices were disconnected in second %d, want %d", n, s, size/10)
			}
		}
	})
}

// TestDrainEndsEarly: the end of the context and Close end a drain before its spread is over.
func TestDrainEndsEarly(t *testing.T) {
	for name, hurry := range map[string]func(b *bench, cancel func()){
		"by its context": func(_ *bench, cancel func()) { cancel() },
		"by Close":       func(b *bench, _ func()) { b.srv.Close() },
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b := newBench(t)
				ends := b.fleet(10)
				ctx, cancel := context.WithCancel(t.Context())
				defer cancel()
				done := make(chan error, 1)
				start := time.Now()
				go func() { done <- b.srv.Drain(ctx, time.Minute) }()
				time.Sleep(27 * second)
				hurry(b, cancel)
				if err := <-done; err != nil && !errors.Is(err, context.Canceled) || time.Since(start) > 32*second {
					t.Errorf("Drain returned %v after %v", err, time.Since(start))
				}
				if n := len(ends()); n != 5 {
					t.Errorf("%d devices were disconnected, want 5", n)
				}
				if n := b.srv.Stats().Connections; n != 0 {
					t.Errorf("%d connections are open", n)
				}
			})
		})
	}
}
