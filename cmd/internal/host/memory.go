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
	// memoryFull is the share of the limit at which connections are refused, and memoryFree the
	// share at which they are accepted again.
	memoryFull, memoryFree = 0.90, 0.85
	// heapShare is the share of the limit above which the Go runtime collects garbage more
	// often. The rest is for the database of the bundled broker and for the kernel's memory for
	// sockets.
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

// MemoryGuard has new connections refused before the process reaches its memory limit, at which
// the kernel would end it with all sessions. It also sets the limit and the pace of the Go
// runtime's garbage collection. Its methods may be called from many goroutines, except that
// Check and Run must be called from one at a time.
type MemoryGuard struct {
	// Log receives a line when memory becomes short and when there is enough again.
	Log *zap.Logger
	// SetHeap sets the memory limit of the Go runtime in bytes, see [HeapLimiter]. If it is
	// nil, the limit is not changed.
	SetHeap func(limit int64)

	read  func(MemoryLimit) (usage, bool) // nil means readUsage
	free  func()                          // nil means debug.FreeOSMemory
	trim  atomic.Bool                     // Trim was called since the last poll
	usage atomic.Pointer[usage]           // the result of the last Check; nil without a limit
	full  atomic.Bool
}

var errMemoryFull = errors.New("the memory that the process may take is nearly used up")

// Overload returns an error while new connections must be refused. It is fast, because it uses
// the result of the last Check.
func (g *MemoryGuard) Overload() error {
	if g.full.Load() {
		return errMemoryFull
	}
	return nil
}

// Usage returns the result of the last Check.
func (g *MemoryGuard) Usage() MemoryUsage {
	u := g.usage.Load()
	if u == nil {
		return MemoryUsage{}
	}
	return MemoryUsage{Used: u.used, Limit: u.limit, Full: g.full.Load()}
}

// Trim says that something large was replaced, such as the content of a file. Within two seconds,
// and once there was no further call for one second, Run collects the garbage and returns the freed
// memory to the system. By itself the Go runtime would keep it.
func (g *MemoryGuard) Trim() { g.trim.Store(true) }

// Run calls Check once a second, with the current limit, until ctx is done.
func (g *MemoryGuard) Run(ctx context.Context, limit func() MemoryLimit) {
	tick := time.NewTicker(memoryPoll)
	defer tick.Stop()
	pace, wanted := newGarbagePace(), false
	free := g.free
	if free == nil {
		free = debug.FreeOSMemory
	}
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
			was := wanted
			if wanted = g.trim.Swap(false); was && !wanted {
				free()
			}
			if pace.adjust() {
				g.Trim()
			}
			g.Check(limit())
		}
	}
}

// Check measures how much of the limit is used now.
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

// judge decides whether there is memory for connections, and logs when that changes.
func (g *MemoryGuard) judge(u usage) {
	switch share := u.share(); {
	case share >= memoryFull && g.full.CompareAndSwap(false, true):
		g.Log.Error("memory is nearly used up: new connections are refused, sessions continue",
			zap.Int64("used", u.used), zap.Int64("limit", u.limit))
	case share <= memoryFree && g.full.CompareAndSwap(true, false):
		g.Log.Info("memory is available again: new connections are accepted", zap.Int64("used", u.used), zap.Int64("limit", u.limit))
	}
}

// HeapLimiter returns the function that sets the memory limit of the Go runtime, or nil if the
// operator has set it (GOMEMLIMIT).
func HeapLimiter() func(limit int64) {
	if debug.SetMemoryLimit(-1) != math.MaxInt64 {
		return nil
	}
	return func(limit int64) { debug.SetMemoryLimit(limit) }
}

// heapLimit returns the limit of the Go runtime for a limit of the process, or 0 for none.
func heapLimit(limit int64) int64 {
	if limit == 0 {
		return math.MaxInt64
	}
	return int64(float64(limit) * heapShare)
}

// usage is the used memory and its limit, both in bytes.
type usage struct{ used, limit int64 }

// share returns the used part of the limit: 1 is all of it.
func (u usage) share() float64 {
	if u.limit <= 0 {
		return 0
	}
	return float64(u.used) / float64(u.limit)
}

// readUsage returns how much of the limit is used, or false if there is none.
func readUsage(limit MemoryLimit) (usage, bool) {
	switch {
	case limit.Auto:
		return cgroups{os.DirFS("/")}.usage()
	case limit.Size > 0:
		return usage{used: RuntimeMemory(), limit: limit.Size}, true
	}
	return usage{}, false
}

// RuntimeMemory returns the memory that the Go runtime has obtained from the system, in bytes.
func RuntimeMemory() int64 {
	const total, released = "/memory/classes/total:bytes", "/memory/classes/heap/released:bytes"
	samples := []metrics.Sample{{Name: total}, {Name: released}}
	metrics.Read(samples)
	return int64(samples[0].Value.Uint64() - samples[1].Value.Uint64())
}
