package postgres

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/cmd/internal/telemetry"
	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/cmd/internal/telemetry/payload"
)

// place is a device and a time, at which there are any number of rows.
type place struct {
	device string
	ts     int64
}

func (p place) compare(q place) int {
	return cmp.Or(strings.Compare(p.device, q.device), cmp.Compare(p.ts, q.ts))
}

// stored is a row of the table telemetry as it is or as it is to be.
type stored struct {
	n       int32
	data    string
	size    int64 // bytes that data has in the table
	fresh   bool  // is not in the table
	changed bool  // is in the table with other data
	claimed bool  // is taken for the outcome of a message of this group
}

// plan computes the rows after a group is stored, from the existing ones.
type plan struct {
	rows map[place][]stored // at each place, the newest last
	// unsure says that messages of the group may be among the rows already.
	unsure bool
	// growth is by how many bytes the rows at places grow, less than 0 if they shrink. Attributes
	// are at the time forever.
	growth map[place]int64
}

// add plans the messages of a group, and sets refused for requests that can never be stored.
func (p *plan) add(group []*request) {
	for _, r := range group {
		if r.refused == nil && len(r.rows) > 0 {
			r.refused = p.messages(r)
		}
	}
}

// messages stores the messages of a request, or none of them and returns an error.
func (p *plan) messages(r *request) error {
	if len(r.rows) == 1 {
		return p.message(place{r.device, r.rows[0].TS}, r.rows[0])
	}
	before := make(map[place][]stored)
	for _, m := range r.rows {
		at := place{r.device, m.TS}
		if _, saved := before[at]; !saved {
			before[at] = slices.Clone(p.rows[at])
		}
		if err := p.message(at, m); err != nil {
			for at, rows := range before {
				p.rows[at] = rows
			}
			return err
		}
	}
	return nil
}

// message stores m as a row of its own. If m has the device's own time and there are rows of
// that time, it replaces values in them instead.
func (p *plan) message(at place, m row) error {
	rows := p.rows[at]
	if len(rows) > 0 && !m.Arrived {
		return p.merge(rows, m)
	}
	if p.unsure && m.Arrived {
		i := slices.IndexFunc(rows, func(s stored) bool { return !s.fresh && !s.claimed && s.data == m.data })
		if i >= 0 {
			rows[i].claimed = true
			return nil
		}
	}
	next := int32(0)
	if len(rows) > 0 {
		next = rows[len(rows)-1].n + 1
	}
	p.rows[at] = append(rows, stored{n: next, data: m.data, fresh: true})
	return nil
}

// mergedRows is in how many rows of one time a message replaces values. There are more only if
// a device sends that many messages in a millisecond.
const mergedRows = 64

// merge adds m to the newest of the rows and removes its keys from the others.
func (p *plan) merge(rows []stored, m row) error {
	last := len(rows) - 1
	rest := make([]string, last)
	replaced := make(map[string]bool, len(m.Fields))
	for _, f := range m.Fields {
		replaced[f.Key] = true
	}
	for i := range rows[:last] {
		fields, err := decode(rows[i].data)
		if err != nil {
			return err
		}
		fields = slices.DeleteFunc(fields, func(f payload.Field) bool { return replaced[f.Key] })
		rest[i] = string(payload.AppendObject(nil, fields))
	}
	fields, err := decode(rows[last].data)
	if err != nil {
		return err
	}
	data := string(payload.AppendObject(nil, payload.Merge(fields, m.Fields)))
	if len(data) > max(telemetry.MaxPayload, len(m.data)) {
		return &telemetry.PayloadError{Reason: "too many values for one timestamp"}
	}
	for i, text := range append(rest, data) {
		if text != rows[i].data {
			rows[i].data, rows[i].changed = text, !rows[i].fresh
		}
	}
	return nil
}

// grow counts bytes by which what is at a place grows.
func (p *plan) grow(at place, bytes int64) {
	if p.growth == nil {
		p.growth = make(map[place]int64)
	}
	p.growth[at] += bytes
}

// errDamaged is wrapped by errors about rows that this package does not write.
var errDamaged = errors.New("stored data is malformed")

func decode(data string) ([]payload.Field, error) {
	fields, err := payload.DecodeObject(data)
	if err != nil {
		return nil, damaged(err)
	}
	return fields, nil
}

// damaged does not wrap err, which would look like a refused payload.
func damaged(err error) error {
	return explain(fmt.Errorf("%w: %s", errDamaged, err.Error()))
}

// arrays are the columns of rows.
type arrays struct {
	devices []string
	times   []int64
	numbers []int32
	data    []string
}

func (a *arrays) add(at place, s stored) {
	a.devices, a.times = append(a.devices, at.device), append(a.times, at.ts)
	a.numbers, a.data = append(a.numbers, s.n), append(a.data, s.data)
}

// changes returns the rows to be inserted and those to be updated. They are in order, so that
// stores that lock the same rows do so one after the other.
func (p *plan) changes() (inserts, updates arrays) {
	places := make([]place, 0, len(p.rows))
	for at := range p.rows {
		places = append(places, at)
	}
	slices.SortFunc(places, place.compare)
	for _, at := range places {
		for _, s := range p.rows[at] {
			switch {
			case s.fresh:
				inserts.add(at, s)
				p.grow(at, telemetry.MessageBytes(s.data))
			case s.changed:
				updates.add(at, s)
				p.grow(at, int64(len(s.data))-s.size)
			}
		}
	}
	return inserts, updates
}
