package host

import (
	"context"
	"math"
	"slices"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/zap"
)

// TestMemoryGuard: new connections are refused before the kernel would act, and accepted
// again once there is some room, not at the first byte.
func TestMemoryGuard(t *testing.T) {
	var heap []int64
	now, limited := usage{limit: 1000}, true
	g := MemoryGuard{
		Log:     zap.NewNop(),
		SetHeap: func(n int64) { heap = append(heap, n) },
		read:    func(MemoryLimit) (usage, bool) { return now, limited },
	}
	for _, step := range []struct {
		used int64
		full bool
	}{{100, false}, {899, false}, {900, true}, {870, true}, {850, false}, {899, false}, {2000, true}} {
		now.used = step.used
		g.Check(MemoryLimit{})
		if full := g.Overload() != nil; full != step.full {
			t.Errorf("with %d of 1000 used: full is %v, want %v", step.used, full, step.full)
		}
		if got, want := g.Usage(), (MemoryUsage{Used: step.used, Limit: 1000, Full: step.full}); got != want {
			t.Errorf("usage is %+v, want %+v", got, want)
		}
	}
	now.limit = 10_000
	g.Check(MemoryLimit{})
	limited = false
	g.Check(MemoryLimit{})
	if g.Overload() != nil || g.Usage() != (MemoryUsage{}) {
		t.Errorf("without a limit: %v, %+v", g.Overload(), g.Usage())
	}
	if want := []int64{800, 8000, math.MaxInt64}; !slices.Equal(heap, want) {
		t.Errorf("the runtime was limited to %d, want %d", heap, want)
	}
}

// TestTrim: memory is returned to the system once after any number of large files, when no more
// follow for a second.
func TestTrim(t *testing.T) {
	t.Setenv("GOGC", "100") // what other tests allocate does not count
	synctest.Test(t, func(t *testing.T) {
		var freed atomic.Int32
		g := MemoryGuard{Log: zap.NewNop(), free: func() { freed.Add(1) }}
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		go g.Run(ctx, func() MemoryLimit { return MemoryLimit{} })
		time.Sleep(memoryPoll / 2) // between two polls
		for second, step := range []struct {
			calls, freed int
		}{{0, 0}, {1, 0}, {3, 0}, {0, 0}, {0, 1}, {0, 1}, {1, 1}, {0, 1}, {0, 2}, {0, 2}} {
			if got := int(freed.Load()); got != step.freed {
				t.Errorf("after %d seconds memory was returned %d times, want %d", second, got, step.freed)
			}
			for range step.calls {
				g.Trim()
			}
			time.Sleep(memoryPoll)
		}
	})
}

func TestReadUsage(t *testing.T) {
	if _, ok := readUsage(MemoryLimit{}); ok {
		t.Error("there is a limit although it is off")
	}
	if u, ok := readUsage(MemoryLimit{Size: 1 << 30}); !ok || u.limit != 1<<30 || u.used <= 0 {
		t.Errorf("%+v, %v of a size", u, ok)
	}
}
