package service

import (
	"context"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/zap"

	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/authz"
	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/cmd/internal/observe"
	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/proxy"
)

// faulty is a source whose watcher panics when it is called for the first time.
type faulty struct {
	directory
	calls int
}

func (f *faulty) Notify(ctx context.Context, _ func(authz.Revocation)) error {
	f.calls++
	if f.calls == 1 {
		panic("token-in-the-value")
	}
	<-ctx.Done()
	return nil
}

// TestPanicDoesNotEndABackgroundTask: it is logged once with its stack and without its
// value, and the task starts again.
func TestPanicDoesNotEndABackgroundTask(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		log := new(lockedBuffer)
		logger, err := observe.NewLog(log, zap.NewAtomicLevelAt(zap.InfoLevel), "json")
		if err != nil {
			t.Fatal(err)
		}
		s := &Service{server: &proxy.Server{}, observer: observe.New(logger, "test")}
		source := &faulty{}
		x := &usedSource{source: source, kind: "directory"}
		x.watch(s)
		calls := 0
		ctx, cancel := context.WithCancel(t.Context())
		s.background(ctx, "reload", func(ctx context.Context) {
			if calls++; calls == 1 {
				panic("token-in-the-value")
			}
			<-ctx.Done()
		})
		time.Sleep(time.Minute)
		cancel()
		s.goroutines.Wait()
		x.retire()
		s.server.Close()
		if source.calls != 2 || calls != 2 || !source.closed {
			t.Errorf("the source was watched %d times and the task ran %d times, want each twice", source.calls, calls)
		}
		for _, task := range []string{"the task token source,", "the task reload,"} {
			if strings.Count(log.String(), task) != 1 {
				t.Errorf("%s is not logged once: %s", task, log.String())
			}
		}
		if strings.Count(log.String(), `"stack"`) != 2 || strings.Contains(log.String(), "token-in-the-value") {
			t.Errorf("the log is %s", log.String())
		}
	})
}
