package host

import (
	"context"
	"errors"
	"math"
	"os"
	"runtime/debug"
	"runtime/metrics"
	"sync/atomic"
	"time"

	"go.uber.org/zap"
)

const (
	memoryPoll = time.Second
	// memoryFull is the share of the limit at which connections are refused, memoryFree
	// the share at which they are accepted again.
	memoryFull, memoryFree = 0.90, 0.85
	// heapShare is the share of the limit above which the Go runtime collects garbage
	// harder. The rest is for the database of the bundled broker and for what the kernel
	// keeps for the sockets.
	heapShare = 0.80
)

// MemoryLimit is how much memory the process may take. The zero value means no limit.
type MemoryLimit struct {
	// Auto means the limit of the control groups that the process is in.
	Auto bool
	// Size is the limit in bytes without Auto, 0 for none.
	Size int64
}

// MemoryUsage is how much memory is used of which limit. Both are in bytes, and both are
// 0 if there is no limit.
type MemoryUsage struct {
	Used, Limit int64
	// Full is true while new connections are refused.
	Full bool
}

// MemoryGuard has new connections refused before the kernel ends the process at its
// memory limit, and every session with it. It also sets the limit and the pace at which
// the Go runtime collects garbage. Its methods may be called from many goroutines, but
// Check and Run from one at a time.
type MemoryGuard struct {
	// Log takes a line when memory becomes short and when there is enough again.
	Log *zap.Logger
	// SetHeap sets the memory limit of the Go runtime in bytes, see [HeapLimiter]. Nil
	// leaves the limit as it is.
	SetHeap func(limit int64)

	read  func(MemoryLimit) (usage, bool) // nil means readUsage
	usage atomic.Pointer[usage]           // as Check last found it; nil without a limit
	full  atomic.Bool
}

var errMemoryFull = errors.New("the memory that the process may take is nearly used up")

// Overload returns an error while new connections must be refused. It costs nothing: it
// goes by what Check last found.
func (g *MemoryGuard) Overload() error {
	if g.full.Load() {
		return errMemoryFull
	}
	return nil
}

// Usage returns what Check last found.
func (g *MemoryGuard) Usage() MemoryUsage {
	u := g.usage.Load()
	if u == nil {
		return MemoryUsage{}
	}
	return MemoryUsage{Used: u.used, Limit: u.limit, Full: g.full.Load()}
}

// Run checks once a second, against the limit of that moment, until ctx is done.
func (g *MemoryGuard) Run(ctx context.Context, limit func() MemoryLimit) {
	tick := time.NewTicker(memoryPoll)
	defer tick.Stop()
	pace := newGarbagePace()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
			pace.adjust()
			g.Check(limit())
		}
	}
}

// Check looks how much of the limit is used now.
func (g *MemoryGuard) Check(limit MemoryLimit) {
	read := g.read
	if read == nil {
		read = readUsage
	}
	before := g.Usage().Limit
	if u, ok := read(limit); ok {
		g.usage.Store(&u)
		g.judge(u)
	} else {
		g.usage.Store(nil)
		g.full.Store(false)
	}
	if now := g.Usage().Limit; g.SetHeap != nil && now != before {
		g.SetHeap(heapLimit(now))
	}
}

// judge decides whether there is room for connections, and logs when that changes.
func (g *MemoryGuard) judge(u usage) {
	switch share := u.share(); {
	case share >= memoryFull && g.full.CompareAndSwap(false, true):
		g.Log.Error("memory is nearly used up: new connections are refused, sessions go on",
			zap.Int64("used", u.used), zap.Int64("limit", u.limit))
	case share <= memoryFree && g.full.CompareAndSwap(true, false):
		g.Log.Info("there is memory again: new connections are let in", zap.Int64("used", u.used), zap.Int64("limit", u.limit))
	}
}

// HeapLimiter returns what sets the memory limit of the Go runtime, nil if the operator
// has set it (GOMEMLIMIT).
func HeapLimiter() func(limit int64) {
	if debug.SetMemoryLimit(-1) != math.MaxInt64 {
		return nil
	}
	return func(limit int64) { debug.SetMemoryLimit(limit) }
}

// heapLimit returns the limit of the Go runtime for that of the process, 0 for none.
func heapLimit(limit int64) int64 {
	if limit == 0 {
		return math.MaxInt64
	}
	return int64(float64(limit) * heapShare)
}

// usage is how much is used of a limit, both in bytes.
type usage struct{ used, limit int64 }

// share returns the used part of the limit: 1 is all of it.
func (u usage) share() float64 {
	if u.limit <= 0 {
		return 0
	}
	return float64(u.used) / float64(u.limit)
}

// readUsage returns how much is used of the limit, false if there is none.
func readUsage(limit MemoryLimit) (usage, bool) {
	switch {
	case limit.Auto:
		return cgroups{os.DirFS("/")}.usage()
	case limit.Size > 0:
		return usage{used: runtimeMemory(), limit: limit.Size}, true
	}
	return usage{}, false
}

// runtimeMemory returns what the Go runtime holds of the system's memory, in bytes.
func runtimeMemory() int64 {
	const total, released = "/memory/classes/total:bytes", "/memory/classes/heap/released:bytes"
	samples := []metrics.Sample{{Name: total}, {Name: released}}
	metrics.Read(samples)
	return int64(samples[0].Value.Uint64() - samples[1].Value.Uint64())
}
