package host

import (
	"os"
	"runtime/debug"
	"runtime/metrics"
)

// garbageRoom is how much garbage may accumulate before it is collected, in bytes. By default
// Go lets as much accumulate as is in use, which doubles the memory of a fleet's sessions.
// Sessions live for months and the relay allocates nothing, so collecting earlier costs almost
// nothing: with garbageRoom a TLS session takes 6.0 KiB instead of 8.1.
const garbageRoom = 4 << 20

// Bounds of garbageRoom in percent of the memory in use (see [debug.SetGCPercent]). Below the
// lower bound, collecting would cost more processor time than the memory is worth, because each
// cycle scans everything in use.
const minGarbage, maxGarbage = 50, 100

// garbagePace adapts the pace of garbage collection to the memory in use.
type garbagePace struct {
	percent int // in force, 0 if the operator has set it (GOGC)
	sample  []metrics.Sample
}

func newGarbagePace() *garbagePace {
	if os.Getenv("GOGC") != "" {
		return &garbagePace{}
	}
	p := &garbagePace{percent: maxGarbage, sample: []metrics.Sample{{Name: "/gc/heap/live:bytes"}}}
	debug.SetGCPercent(p.percent)
	return p
}

// adjust uses the result of the last cycle. Setting the pace stops the process for a moment, so
// it is set only if it changes by a tenth or more.
func (p *garbagePace) adjust() {
	if p.percent == 0 {
		return
	}
	metrics.Read(p.sample)
	percent := garbagePercent(p.sample[0].Value.Uint64())
	if d := percent - p.percent; d >= 10 || d <= -10 {
		p.percent = percent
		debug.SetGCPercent(percent)
	}
}

func garbagePercent(inUse uint64) int {
	return int(min(max(garbageRoom*100/max(inUse, 1), minGarbage), maxGarbage))
}
