package history

import (
	"fmt"
	"math"
	"testing"
	"time"
)

var start = time.Date(2026, 11, 30, 12, 0, 0, 0, time.UTC)

// fill adds n readings whose level counts up and whose total grows by 20 in each step.
func fill(h *History, n int) {
	for i := range n {
		h.Add(Reading{
			At:     start.Add(time.Duration(i) * Step),
			Levels: map[string]float64{"sessions": float64(i)},
			Totals: map[string]float64{"connects": float64(20 * i)},
		})
	}
}

func TestHourHasTheLast360Samples(t *testing.T) {
	var h History
	fill(&h, 1000)
	w := h.Hour()
	if len(w.Times) != 360 {
		t.Fatalf("%d samples, want 360", len(w.Times))
	}
	for i, at := range w.Times {
		n := 1000 - 360 + i
		if want := start.Add(time.Duration(n) * Step); !at.Equal(want) {
			t.Fatalf("sample %d is of %v, want %v", i, at, want)
		}
		if got := w.Series("sessions")[i]; got != float64(n) {
			t.Fatalf("sample %d: %v sessions, want %d", i, got, n)
		}
		if got := w.Series("connects")[i]; got != 2 {
			t.Fatalf("sample %d: %v connects a second, want 2", i, got)
		}
	}
}

func TestDayHasMeansOfFiveMinutes(t *testing.T) {
	var h History
	fill(&h, 61) // the first reading is where the first sample begins
	w := h.Day()
	if len(w.Times) != 2 || !w.Times[1].Equal(start.Add(10*time.Minute)) {
		t.Fatalf("samples at %v, want two, the last after 10 minutes", w.Times)
	}
	if got := w.Series("sessions"); got[0] != 15.5 || got[1] != 45.5 {
		t.Errorf("sessions %v, want 15.5 and 45.5", got)
	}
	if got := w.Last("connects"); got != 2 {
		t.Errorf("%v connects a second, want 2", got)
	}
}

func TestSeriesThatBeginsLaterIsMissingBefore(t *testing.T) {
	var h History
	fill(&h, 3)
	h.Add(Reading{At: start.Add(3 * Step), Levels: map[string]float64{"new": 7}})
	w := h.Hour()
	if got := w.Series("new"); len(got) != 3 || !math.IsNaN(got[0]) || got[2] != 7 {
		t.Errorf("%v, want nothing twice and 7", got)
	}
	if got := w.Last("sessions"); !math.IsNaN(got) {
		t.Errorf("the series that ended has %v", got)
	}
}

func TestQuantilesAreThoseSinceTheLastSample(t *testing.T) {
	var h History
	h.Add(Reading{At: start, Times: Buckets{40: 1e6}})
	h.Add(Reading{At: start.Add(Step), Times: Buckets{-40: 980, -20: 20, 40: 1e6}})
	w := h.Hour()
	// The bucket -40 ends at 2^-10 seconds, the bucket -20 at 2^-5.
	if p50, p99 := w.Last(Median), w.Last(Percentile99); p50 > 1./1024 || p50 < .8/1024 || p99 > 1./32 || p99 < .8/32 {
		t.Errorf("median %v, 99th percentile %v", p50, p99)
	}
	h.Add(Reading{At: start.Add(2 * Step), Times: Buckets{-40: 980, -20: 20, 40: 1e6}})
	if got := h.Hour().Last(Median); !math.IsNaN(got) {
		t.Errorf("median %v of no connects", got)
	}
}

func TestClockThatIsSetBackStartsASample(t *testing.T) {
	var h History
	fill(&h, 5)
	h.Add(Reading{At: start.Add(-time.Hour), Totals: map[string]float64{"connects": 100}})
	h.Add(Reading{At: start.Add(-time.Hour + Step), Totals: map[string]float64{"connects": 130}})
	if got := h.Hour().Last("connects"); got != 3 {
		t.Errorf("%v connects a second, want 3", got)
	}
}

func TestMemoryIsBounded(t *testing.T) {
	var h History
	levels := make(map[string]float64)
	for i := range MaxSeries + 20 {
		levels[fmt.Sprintf("series-%d", i)] = 1
	}
	for i := range 400 * dayReadings {
		h.Add(Reading{At: start.Add(time.Duration(i) * Step), Levels: levels})
	}
	bytes := 0
	for _, g := range []ring{h.hour, h.day} {
		bytes += 8 * cap(g.times)
		for _, list := range g.series {
			bytes += 4 * cap(list)
		}
	}
	if bytes > 512<<10 {
		t.Errorf("the samples take %d bytes", bytes)
	}
}

func BenchmarkAdd(b *testing.B) {
	var h History
	levels := make(map[string]float64)
	for i := range 50 {
		levels[fmt.Sprintf("series-%d", i)] = 1
	}
	for i := range b.N {
		h.Add(Reading{At: start.Add(time.Duration(i) * Step), Levels: levels})
	}
}
