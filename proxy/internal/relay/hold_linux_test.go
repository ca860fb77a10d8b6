package relay

import (
	"fmt"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// The garbage collector asks a loop that holds its thread to stop, and the loop does so
// at the first signal. It takes a few signals for each collection; if the loop forgot
// them, the collector would send thousands where both have to share one processor.
func TestHeldLoopStopsForCollector(t *testing.T) {
	out := make(chan []byte)
	go func() {
		defer close(out)
		runtime.LockOSThread() // and never unlocked: the thread ends with its affinity
		var one unix.CPUSet
		if err := unix.SchedGetaffinity(0, &one); err != nil {
			t.Error(err)
			return
		}
		for cpu := 0; one.Count() > 1; cpu++ {
			one.Clear(cpu)
		}
		if err := unix.SchedSetaffinity(0, &one); err != nil {
			t.Error(err)
			return
		}
		b, err := childCommand(t, "stops").Output()
		if err != nil {
			t.Error(err)
		}
		out <- b
	}()
	most, err := strconv.Atoi(strings.TrimSpace(string(<-out)))
	if err != nil || most == 0 || most > 40 {
		t.Errorf("the loop was interrupted %d times during one collection, %v; want a few", most, err)
	}
}

// countStops prints how often a loop that holds its thread was interrupted during a
// collection, at most.
func countStops() error {
	runtime.GOMAXPROCS(2)
	l, err := newLoop(&Pump{HoldThread: true})
	if err != nil {
		return err
	}
	var stop atomic.Bool
	stopped := make(chan struct{})
	go func() {
		defer close(stopped)
		for !stop.Load() {
			l.collect(holdTime)
		}
	}()
	var interrupts []int64
	for range 200 {
		before := l.interrupts.Load()
		runtime.GC()
		interrupts = append(interrupts, l.interrupts.Load()-before)
	}
	stop.Store(true)
	<-stopped
	_, err = fmt.Println(slices.Max(interrupts))
	return err
}

// BenchmarkInterrupts is [BenchmarkStartEnd] with a loop that holds its thread. It reports how
// often a pair made the runtime interrupt the loop, which is far less than once as long as the
// loop stops at the first signal.
func BenchmarkInterrupts(b *testing.B) {
	p := &Pump{HoldThread: true}
	startAndEnd(b, p)
	interrupts := int64(0)
	for _, l := range p.loops {
		interrupts += l.interrupts.Load()
	}
	b.ReportMetric(float64(interrupts)/float64(b.N), "signals/op")
}

// A loop holds its thread while messages are frequent, and not for single messages and their
// answers.
func TestLoopHoldsForSteadyTrafficOnly(t *testing.T) {
	for _, c := range []struct {
		name string
		gaps []time.Duration
		want bool
	}{
		{"100 messages a second", []time.Duration{10 * time.Millisecond}, true},
		{"100 messages a second with answers", []time.Duration{time.Millisecond, 9 * time.Millisecond}, true},
		{"10 messages a second", []time.Duration{100 * time.Millisecond}, false},
		{"10 messages a second with answers", []time.Duration{time.Millisecond, 99 * time.Millisecond}, false},
		{"one message a minute with its answers", []time.Duration{time.Millisecond, time.Millisecond, time.Minute}, false},
	} {
		l, now := &loop{pump: &Pump{}}, time.Now()
		for i := range 30 {
			for _, gap := range c.gaps {
				now = now.Add(gap)
				l.pace.note(now)
				if held := l.holdTime() > 0; held != c.want && i >= 20 {
					t.Errorf("%s: holds %v after a gap of %v", c.name, held, gap)
				}
			}
		}
	}
}
