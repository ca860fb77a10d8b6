package service

import (
	"os"
	"runtime/debug"
	"runtime/metrics"
)

// garbageRoom is how much garbage may gather before it is collected, in bytes, if that
// is within the bounds. Go's own rule is as much as there is in use: a fleet's sessions
// would then cost twice what they hold.
const garbageRoom = 4 << 20

// Bounds of what garbageRoom means in percent of the memory in use (see
// [debug.SetGCPercent]). Below the lower one collecting would cost more processor
// time than the memory is worth: each cycle looks at everything in use.
const minGarbage, maxGarbage = 50, 100

// collector fits the pace of garbage collection to the memory in use. The zero value
// leaves the pace as it is.
type collector struct {
	percent int // in force, 0 if it is the operator's (GOGC)
	sample  []metrics.Sample
}

func newCollector() *collector {
	if os.Getenv("GOGC") != "" {
		return &collector{}
	}
	c := &collector{percent: maxGarbage, sample: []metrics.Sample{{Name: "/gc/heap/live:bytes"}}}
	debug.SetGCPercent(c.percent)
	return c
}

// tune takes up what the last cycle has found. Setting the pace stops the process for
// a moment, so it is done only when it makes a difference.
func (c *collector) tune() {
	if c.percent == 0 {
		return
	}
	metrics.Read(c.sample)
	percent := garbagePercent(c.sample[0].Value.Uint64())
	if d := percent - c.percent; d >= 10 || d <= -10 {
		c.percent = percent
		debug.SetGCPercent(percent)
	}
}

func garbagePercent(inUse uint64) int {
	return int(min(max(garbageRoom*100/max(inUse, 1), minGarbage), maxGarbage))
}
