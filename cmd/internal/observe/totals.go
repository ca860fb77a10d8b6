package observe

import (
	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"

	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/proxy"
)

// Totals are counts of all listeners together since the start.
type Totals struct {
	// Opened is how many sessions have begun, and Refused how many connections were refused.
	Opened  float64
	Refused map[proxy.Reason]float64
	// Connect counts the times from accept to the CONNACK of sessions that began. The bucket with
	// the index i has those of more than 2^((i-1)/4) seconds and at most 2^(i/4) seconds.
	Connect map[int]uint64
}

// Totals returns the counts of all listeners together.
func (o *Observer) Totals() Totals {
	t := Totals{Refused: make(map[proxy.Reason]float64), Connect: make(map[int]uint64)}
	o.metrics.listeners.Range(func(_, value any) bool {
		l := value.(*listenerMetrics)
		for _, c := range l.opened {
			t.Opened += valueOf(c)
		}
		for reason, c := range l.refused {
			t.Refused[reason] += valueOf(c)
		}
		t.addTimes(l.connect)
		return true
	})
	return t
}

// valueOf returns the value of a counter.
func valueOf(c prometheus.Counter) float64 {
	var m dto.Metric
	if c.Write(&m) != nil {
		return 0
	}
	return m.GetCounter().GetValue()
}

// quarters is the schema of the native histograms with the factor 1.2: four buckets double the
// bound.
const quarters = 2

// addTimes adds the times of a native histogram. Its buckets are written as spans of indexes, and
// the count of each as the difference to the one before.
func (t *Totals) addTimes(h prometheus.Observer) {
	var m dto.Metric
	metric, ok := h.(prometheus.Metric)
	if !ok || metric.Write(&m) != nil || m.GetHistogram().GetSchema() != quarters {
		return
	}
	index, next, count := 0, 0, int64(0)
	for _, span := range m.GetHistogram().GetPositiveSpan() {
		index += int(span.GetOffset())
		for range span.GetLength() {
			count += m.GetHistogram().GetPositiveDelta()[next]
			t.Connect[index] += uint64(count)
			index++
			next++
		}
	}
}
