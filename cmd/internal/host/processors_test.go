package host

import (
	"runtime"
	"testing"
)

// loops returns how many event loops the relay has.
func loops() int { return max(1, runtime.GOMAXPROCS(0)/4) }

func TestAddProcessorsLeavesAsManyForWork(t *testing.T) {
	t.Setenv("GOMAXPROCS", "")
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(0))
	for work := 1; work <= 33; work++ {
		runtime.GOMAXPROCS(work)
		if !AddProcessors(loops) {
			t.Fatal("no processor was added")
		}
		if n := runtime.GOMAXPROCS(0) - loops(); n != work {
			t.Errorf("%d processors became %d next to %d loops", work, n, loops())
		}
	}
}

func TestAddProcessorsKeepsGOMAXPROCSOfTheOperator(t *testing.T) {
	before := runtime.GOMAXPROCS(0)
	defer runtime.GOMAXPROCS(before)
	t.Setenv("GOMAXPROCS", "3")
	if AddProcessors(loops) || runtime.GOMAXPROCS(0) != before {
		t.Errorf("%d processors, want %d as before", runtime.GOMAXPROCS(0), before)
	}
}
