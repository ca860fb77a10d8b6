package host

import (
	"runtime"
	"runtime/debug"
	"testing"
)

func TestGarbagePercent(t *testing.T) {
	for _, tt := range []struct {
		inUse uint64
		want  int
	}{{0, 100}, {1 << 20, 100}, {4 << 20, 100}, {6 << 20, 66}, {8 << 20, 50}, {1 << 30, 50}} {
		if got := garbagePercent(tt.inUse); got != tt.want {
			t.Errorf("%d bytes in use: %d %%, want %d", tt.inUse, got, tt.want)
		}
	}
}

func TestGarbagePaceFollowsTheHeap(t *testing.T) {
	t.Setenv("GOGC", "")
	defer debug.SetGCPercent(debug.SetGCPercent(100))
	p := newGarbagePace()
	held := make([]byte, 64<<20)
	runtime.GC()
	p.adjust()
	if p.percent != minGarbage {
		t.Errorf("%d %% with 64 MiB in use, want %d", p.percent, minGarbage)
	}
	runtime.KeepAlive(held)
	if in := debug.SetGCPercent(p.percent); in != p.percent {
		t.Errorf("%d %% in force, want %d", in, p.percent)
	}
}

func TestOperatorSetsThePaceOfGarbageCollection(t *testing.T) {
	t.Setenv("GOGC", "300")
	before := debug.SetGCPercent(300)
	defer debug.SetGCPercent(before)
	newGarbagePace().adjust()
	if in := debug.SetGCPercent(300); in != 300 {
		t.Errorf("%d %% in force, want 300", in)
	}
}
