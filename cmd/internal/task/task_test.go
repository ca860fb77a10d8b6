package task_test

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/cmd/internal/task"
)

// TestPanicBecomesAnErrorWithoutItsValue: the value may contain a token.
func TestPanicBecomesAnErrorWithoutItsValue(t *testing.T) {
	err := task.Do(func() error { panic("secret") })
	if err == nil || strings.Contains(err.Error(), "secret") || !strings.Contains(string(task.StackOf(err)), "TestPanic") {
		t.Errorf("Do = %v with the stack %s", err, task.StackOf(err))
	}
	var none []int
	err = task.Do(func() error { none[len(none)] = 1; return nil })
	if err == nil || !strings.Contains(err.Error(), "index out of range") {
		t.Errorf("Do = %v, want the text of the runtime", err)
	}
	want := errors.New("other")
	if err := task.Do(func() error { return want }); err != want || task.StackOf(err) != nil {
		t.Errorf("Do = %v, want the function's own error without a stack", err)
	}
}

// TestWorkThatPanicsIsStartedAgain: with pauses that double, and are short again after the
// work has run for a while.
func TestWorkThatPanicsIsStartedAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		start, reported := time.Now(), 0
		var calls []time.Duration
		task.Run(t.Context(), func(p *task.Panic) { reported++ }, func(context.Context) {
			calls = append(calls, time.Since(start))
			switch len(calls) {
			case 4:
				time.Sleep(2 * time.Minute)
			case 6:
				return
			}
			panic(len(calls))
		})
		second := time.Second
		want := []time.Duration{0, second, 3 * second, 7 * second, 128 * second, 130 * second}
		if !slices.Equal(calls, want) || reported != 5 {
			t.Errorf("calls after %v and %d reports, want calls after %v and 5 reports", calls, reported, want)
		}
	})
}

func TestPauseEndsWithTheContext(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	task.Run(ctx, func(*task.Panic) { cancel() }, func(context.Context) { panic("again") })
}
