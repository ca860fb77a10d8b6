package authztest_test

import (
	"context"
	"fmt"
	"runtime"
	"slices"
	"sync"
	"testing"
	"testing/synctest"

	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/authz/authztest"
)

// recorder is a testing.TB that may fail without failing the test.
type recorder struct {
	testing.TB
	ctx      context.Context
	cleanups []func()
	mu       sync.Mutex
	failures []string
}

func (r *recorder) Helper()                           {}
func (r *recorder) Log(...any)                        {}
func (r *recorder) Context() context.Context          { return r.ctx }
func (r *recorder) Cleanup(f func())                  { r.cleanups = append(r.cleanups, f) }
func (r *recorder) Error(args ...any)                 { r.record(fmt.Sprint(args...)) }
func (r *recorder) Errorf(format string, args ...any) { r.record(fmt.Sprintf(format, args...)) }
func (r *recorder) Fatal(args ...any) {
	r.record(fmt.Sprint(args...))
	runtime.Goexit()
}
func (r *recorder) Fatalf(format string, args ...any) {
	r.record(fmt.Sprintf(format, args...))
	runtime.Goexit()
}

func (r *recorder) record(text string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.failures = append(r.failures, text)
}

// failuresOf runs one check in a bubble, where waiting takes no real time.
func failuresOf(t *testing.T, run func(testing.TB, authztest.Suite), s authztest.Suite) (failures []string) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		r := &recorder{TB: t, ctx: ctx}
		done := make(chan struct{})
		go func() {
			defer close(done)
			run(r, s)
		}()
		<-done
		cancel()
		for _, f := range slices.Backward(r.cleanups) {
			f()
		}
		synctest.Wait()
		r.mu.Lock()
		defer r.mu.Unlock()
		failures = r.failures
	})
	return failures
}
