package host

import (
	"os"
	"runtime/debug"
	"runtime/metrics"
)

// garbageRoom is how much garbage may accumulate before it is collected, in bytes. By default
// Go lets as much accumulate as is in use, which doubles the memory of a fleet's sessions.
// Sessions live for months and the relay allocates nothing, so collecting earlier costs almost
// nothing. Connecting does allocate: with a quarter of garbageRoom a TLS connect costs a tenth more.
const garbageRoom = 16 << 20

// Bounds of garbageRoom in percent of the memory in use (see [debug.SetGCPercent]). Below the
// lower bound, collecting would cost more processor time than the memory is worth, because each
// cycle scans everything in use.
const minGarbage, maxGarbage = 50, 200

// garbagePace adapts the pace of garbage collection to the memory in use.
type garbagePace struct {
	percent   int    // in force, 0 if the operator has set it (GOGC)
	allocated uint64 // by the last adjust, in bytes
	sample    []metrics.Sample
}

func newGarbagePace() *garbagePace {
	if os.Getenv("GOGC") != "" {
		return &garbagePace{}
	}
	p := &garbagePace{percent: maxGarbage, sample: []metrics.Sample{{Name: "/gc/heap/live:bytes"}, {Name: "/gc/heap/allocs:bytes"}}}
	debug.SetGCPercent(p.percent)
	return p
}

// adjust uses the result of the last cycle. Setting the pace stops the process for a moment, so
// it is set only if it changes by a tenth or more.
//
// It reports whether the process has allocated so much since the last call that the garbage may be
// worth a cycle: more than a quarter of what is in use. Many devices have connected then, for
// example, and once they are idle their garbage would stay for minutes.
func (p *garbagePace) adjust() (much bool) {
	if p.percent == 0 {
		return false
	}
	metrics.Read(p.sample)
	inUse, allocated := p.sample[0].Value.Uint64(), p.sample[1].Value.Uint64()
	percent := garbagePercent(inUse)
	if d := percent - p.percent; d >= 10 || d <= -10 {
		p.percent = percent
		debug.SetGCPercent(percent)
	}
	much = allocated-p.allocated > max(garbageRoom/4, inUse/4)
	p.allocated = allocated
	return much
}

func garbagePercent(inUse uint64) int {
	return int(min(max(garbageRoom*100/max(inUse, 1), minGarbage), maxGarbage))
}
