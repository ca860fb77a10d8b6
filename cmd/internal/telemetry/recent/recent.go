// Package recent holds the newest values of devices that a store has committed but has not yet
// written to its table of newest values. A store writes them there many at a time, because a
// device sends the same keys again and again.
//
// A reader takes [Values.Of] first and reads the table then. It misses nothing, because the
// store removes values only after the commit that has put them into the table.
package recent

import (
	"iter"
	"maps"
	"slices"
	"strings"
	"sync"

	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/cmd/internal/telemetry"
	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/cmd/internal/telemetry/payload"
)

// Points are the newest values of one device by their keys.
type Points map[string]telemetry.Point

// Values are the newest values of many devices. The zero Values is empty. One goroutine may
// change them while any number read.
type Values struct {
	mu      sync.Mutex
	devices map[string]Points
	size    int
}

// Len returns how many keys of all devices there are.
func (v *Values) Len() int {
	v.mu.Lock()
	defer v.mu.Unlock()
	return v.size
}

// Add takes up the values of a message, unless there are newer ones.
func (v *Values) Add(device string, m payload.Message) {
	v.mu.Lock()
	defer v.mu.Unlock()
	keys := v.devices[device]
	if keys == nil {
		keys = make(Points)
		if v.devices == nil {
			v.devices = make(map[string]Points)
		}
		v.devices[device] = keys
	}
	for _, f := range m.Fields {
		old, known := keys[f.Key]
		switch {
		case !known:
			// A copy, because the key would keep the whole payload in memory.
			keys[strings.Clone(f.Key)] = telemetry.Point{TS: m.TS, Value: f.Value.Clone()}
			v.size++
		case m.TS >= old.TS:
			keys[f.Key] = telemetry.Point{TS: m.TS, Value: f.Value.Clone()}
		}
	}
}

// Of returns a copy of the values of a device.
func (v *Values) Of(device string) Points {
	v.mu.Lock()
	defer v.mu.Unlock()
	return maps.Clone(v.devices[device])
}

// All returns the values themselves. Only the goroutine that changes them may call it, and it
// must not use the result after the next change.
func (v *Values) All() map[string]Points { return v.devices }

// Clear removes all values.
func (v *Values) Clear() {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.devices, v.size = nil, 0
}

// Merge returns the points of a table and those of p, of each key the newer one. Keys limit
// those of p; without any, all count. It changes p.
func (p Points) Merge(table iter.Seq2[telemetry.KeyPoint, error], keys ...string) iter.Seq2[telemetry.KeyPoint, error] {
	return func(yield func(telemetry.KeyPoint, error) bool) {
		for t, err := range table {
			if r, ok := p[t.Key]; ok && err == nil && r.TS >= t.TS {
				continue
			}
			delete(p, t.Key)
			if !yield(t, err) || err != nil {
				return
			}
		}
		for key, point := range p {
			if len(keys) > 0 && !slices.Contains(keys, key) {
				continue
			}
			if !yield(telemetry.KeyPoint{Key: key, Point: point}, nil) {
				return
			}
		}
	}
}

// MergeKeys returns the keys of a table and those of p, each once.
func (p Points) MergeKeys(table iter.Seq2[string, error]) iter.Seq2[string, error] {
	return func(yield func(string, error) bool) {
		for key := range p {
			if !yield(key, nil) {
				return
			}
		}
		for key, err := range table {
			if _, known := p[key]; known && err == nil {
				continue
			}
			if !yield(key, err) || err != nil {
				return
			}
		}
	}
}
