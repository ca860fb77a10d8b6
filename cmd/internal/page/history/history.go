// Package history keeps what the program has counted in the last hour and the last day, for the
// graphs of the page. It keeps it in memory, in rings of a fixed size.
//
//	var h history.History
//	for range every10Seconds {
//		h.Add(history.Reading{At: time.Now(), Levels: ..., Totals: ..., Times: ...})
//	}
//	hour := h.Hour()
//	sessions := hour.Series("sessions")
//
// A level, such as the number of sessions, is kept as it is. A total, such as the number of
// connections ever accepted, is kept as its increase per second. For durations, such as those of
// connects, the median and the 99th percentile are kept as the series [Median] and [Percentile99].
//
// A History has at most [MaxSeries] series and takes less than 512 KiB.
package history

import (
	"math"
	"slices"
	"sync"
	"time"
)

// Step is how often a reading is to be added.
const Step = 10 * time.Second

// MaxSeries is the largest number of series of a History. Further series are left out.
const MaxSeries = 100

// The series of times, in seconds.
const (
	Median       = "median"
	Percentile99 = "percentile99"
)

// Reading is what the program counts at one moment. The History keeps its maps.
type Reading struct {
	At time.Time
	// Levels are values as they are now, by the name of their series.
	Levels map[string]float64
	// Totals are counts since the start of the program. They never decrease.
	Totals map[string]float64
	// Times is how many durations there have been since the start.
	Times Buckets
}

// Buckets counts durations: the bucket with the index i has those of more than 2^((i-1)/4)
// seconds and at most 2^(i/4) seconds.
type Buckets map[int]uint64

// History keeps readings. The zero value is empty and ready to use. Its methods may be called from
// many goroutines.
type History struct {
	mu        sync.Mutex
	hour, day ring
}

// The sizes of the rings. Every dayReadings-th reading ends a sample of the day.
const (
	hourSamples = 360
	daySamples  = 288
	dayReadings = 30
)

// Add adds a reading. The caller adds one every [Step].
func (h *History) Add(r Reading) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.hour.add(r, hourSamples, 1)
	h.day.add(r, daySamples, dayReadings)
}

// Hour returns the samples of the last hour, one for each reading.
func (h *History) Hour() *Window {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.hour.window(time.Hour, Step)
}

// Day returns the samples of the last day, one for each five minutes.
func (h *History) Day() *Window {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.day.window(24*time.Hour, dayReadings*Step)
}

// ring has the last samples of every series. All its slices have the same length.
type ring struct {
	times  []int64 // in milliseconds since 1970
	series map[string][]float32
	next   int // where the next sample goes when the ring is full

	base   Reading // the last reading of the last sample
	levels map[string]float64
	n      int // readings since base, whose sum is in levels
}

// add adds a reading to the sample that is being collected, which readings of them complete.
func (g *ring) add(r Reading, size, readings int) {
	if g.base.At.IsZero() || r.At.Before(g.base.At) {
		g.base, g.levels, g.n = r, nil, 0 // the first one, or the clock was set back
		return
	}
	if g.levels == nil {
		g.levels = make(map[string]float64, len(r.Levels))
	}
	for name, v := range r.Levels {
		g.levels[name] += v
	}
	if g.n++; g.n < readings {
		return
	}
	g.put(g.sample(r), r.At, size)
	g.base, g.levels, g.n = r, nil, 0
}

// sample returns the values of the sample that ends with r.
func (g *ring) sample(r Reading) map[string]float64 {
	values := g.levels
	for name := range values {
		values[name] /= float64(g.n)
	}
	if seconds := r.At.Sub(g.base.At).Seconds(); seconds > 0 {
		for name, total := range r.Totals {
			values[name] = max(0, total-g.base.Totals[name]) / seconds
		}
	}
	values[Median] = r.Times.quantile(g.base.Times, 0.5)
	values[Percentile99] = r.Times.quantile(g.base.Times, 0.99)
	return values
}

// put stores the values of a sample.
func (g *ring) put(values map[string]float64, at time.Time, size int) {
	if g.series == nil {
		g.series = make(map[string][]float32)
	}
	for name := range values {
		if g.series[name] == nil && len(g.series) < MaxSeries {
			g.series[name] = slices.Repeat([]float32{missing()}, len(g.times))
		}
	}
	if len(g.times) < size {
		g.times = append(g.times, 0)
		for name, list := range g.series {
			g.series[name] = append(list, missing())
		}
		g.next = len(g.times) - 1
	}
	g.times[g.next] = at.UnixMilli()
	for name, list := range g.series {
		list[g.next] = missing()
		if v, ok := values[name]; ok {
			list[g.next] = float32(v)
		}
	}
	g.next = (g.next + 1) % size
}

// missing returns the value of a series where it has none.
func missing() float32 { return float32(math.NaN()) }

// Window has the samples of a span of time that ends with the newest one.
type Window struct {
	// Span is the length of the window, and Step the time between two samples.
	Span, Step time.Duration
	// Times are the times of the samples, the oldest first.
	Times  []time.Time
	series map[string][]float64
}

// window returns the samples in the order of their times.
func (g *ring) window(span, step time.Duration) *Window {
	w := &Window{Span: span, Step: step, series: make(map[string][]float64, len(g.series))}
	first := 0 // of the samples, the oldest
	if g.next < len(g.times) {
		first = g.next
	}
	for i := range g.times {
		w.Times = append(w.Times, time.UnixMilli(g.times[(first+i)%len(g.times)]))
	}
	for name, list := range g.series {
		values := make([]float64, len(list))
		for i := range list {
			values[i] = float64(list[(first+i)%len(list)])
		}
		w.series[name] = values
	}
	return w
}

// Series returns the values of a series, one for each of Times and NaN where there is none. It
// returns nil if there is no such series.
func (w *Window) Series(name string) []float64 { return w.series[name] }

// Names returns the names of all series, sorted.
func (w *Window) Names() []string {
	names := make([]string, 0, len(w.series))
	for name := range w.series {
		names = append(names, name)
	}
	slices.Sort(names)
	return names
}

// Last returns the newest value of a series, or NaN if there is none.
func (w *Window) Last(name string) float64 {
	list := w.series[name]
	if len(list) == 0 {
		return math.NaN()
	}
	return list[len(list)-1]
}

// quantile returns the q-quantile of the durations that b has and before has not, in seconds. It
// is the middle of a bucket, and NaN if there are none.
func (b Buckets) quantile(before Buckets, q float64) float64 {
	var sum uint64
	indexes := make([]int, 0, len(b))
	for i, n := range b {
		if n > before[i] {
			indexes = append(indexes, i)
			sum += n - before[i]
		}
	}
	slices.Sort(indexes)
	var passed uint64
	for _, i := range indexes {
		if passed += b[i] - before[i]; float64(passed) >= q*float64(sum) {
			return math.Pow(2, (float64(i)-0.5)/4)
		}
	}
	return math.NaN()
}
