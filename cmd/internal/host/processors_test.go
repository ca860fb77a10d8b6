package host

import (
	"runtime"
	"testing"
)

// loops returns how many event loops the relay has.
func loops() int { return max(1, runtime.GOMAXPROCS(0)/4) }

func TestAddProcessorsLeavesAsManyForWork(t *testing.T) {
	t.Setenv("GOMAXPROCS", "1") // the operator's
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(0))
	for work := 1; work <= 33; work++ {
		runtime.GOMAXPROCS(work)
		AddProcessors(loops)
		if n := runtime.GOMAXPROCS(0) - loops(); n != work {
			t.Errorf("%d processors became %d next to %d loops", work, n, loops())
		}
	}
}
