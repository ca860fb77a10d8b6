// Package memory tells how much memory the process may take and how much is taken.
//
// On Linux the limits are those of the control groups that the process is in, its
// own and those around it, as a container or a service manager sets them (v2:
// memory.max and memory.high, v1: memory.limit_in_bytes):
//
//	usage, ok := memory.Groups{Root: os.DirFS("/")}.Read()
//
// The kernel ends the process at the limit without a word, and all sessions with
// it. Whoever stops taking on work before that loses nothing. What counts is the
// working set: page cache that the kernel would give up first is not part of it.
//
// Where there is no control group [Own] is what Go has taken from the system.
package memory

import "runtime/metrics"

// Usage is what is taken of a limit, both in bytes.
type Usage struct{ Used, Limit int64 }

// Share is the part of the limit that is taken: 1 is all of it.
func (u Usage) Share() float64 {
	if u.Limit <= 0 {
		return 0
	}
	return float64(u.Used) / float64(u.Limit)
}

// Own returns what the Go runtime holds of the system's memory, in bytes.
func Own() int64 {
	const total, released = "/memory/classes/total:bytes", "/memory/classes/heap/released:bytes"
	samples := []metrics.Sample{{Name: total}, {Name: released}}
	metrics.Read(samples)
	return int64(samples[0].Value.Uint64() - samples[1].Value.Uint64())
}
