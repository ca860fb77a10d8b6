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
	}{{0, 200}, {1 << 20, 200}, {8 << 20, 200}, {16 << 20, 100}, {32 << 20, 50}, {1 << 30, 50}} {
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

// TestMuchGarbageIsNoticed: what was allocated since the last look counts, and only if it is more
// than a quarter of what is in use.
func TestMuchGarbageIsNoticed(t *testing.T) {
	t.Setenv("GOGC", "")
	defer debug.SetGCPercent(debug.SetGCPercent(100))
	p := newGarbagePace()
	var piece []byte
	much := func(mebibytes int) bool {
		for range mebibytes {
			piece = make([]byte, 1<<20)
		}
		runtime.GC() // so that what is held, and nothing else, counts as in use
		return p.adjust()
	}
	much(0)
	if !much(64) {
		t.Error("64 MiB of garbage are not much")
	}
	if much(0) {
		t.Error("what was allocated before counts again")
	}
	held := make([]byte, 96<<20)
	much(0)
	if much(16) {
		t.Error("16 MiB of garbage are much, though 96 MiB are in use")
	}
	runtime.KeepAlive(held)
	runtime.KeepAlive(piece)
}

func TestOperatorSetsThePaceOfGarbageCollection(t *testing.T) {
	t.Setenv("GOGC", "300")
	before := debug.SetGCPercent(300)
	defer debug.SetGCPercent(before)
	if newGarbagePace().adjust() {
		t.Error("garbage is collected that the operator has allowed")
	}
	if in := debug.SetGCPercent(300); in != 300 {
		t.Errorf("%d %% in force, want 300", in)
	}
}
