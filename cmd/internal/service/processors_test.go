package service

import (
	"runtime"
	"testing"

	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/proxy"
)

func TestAddProcessorsLeavesAsManyForWork(t *testing.T) {
	t.Setenv("GOMAXPROCS", "")
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(0))
	for work := 1; work <= 33; work++ {
		runtime.GOMAXPROCS(work)
		if !addProcessors() {
			t.Fatal("no processor was added")
		}
		if n := runtime.GOMAXPROCS(0) - proxy.EventLoops(); n != work {
			t.Errorf("%d processors became %d beside %d loops", work, n, proxy.EventLoops())
		}
	}
}

func TestAddProcessorsLeavesTheOperatorsNumber(t *testing.T) {
	before := runtime.GOMAXPROCS(0)
	defer runtime.GOMAXPROCS(before)
	t.Setenv("GOMAXPROCS", "3")
	if addProcessors() || runtime.GOMAXPROCS(0) != before {
		t.Errorf("%d processors, want %d as before", runtime.GOMAXPROCS(0), before)
	}
}
