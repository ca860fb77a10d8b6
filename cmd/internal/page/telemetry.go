package page

import (
	"cmp"
	"context"
	"errors"
	"html/template"
	"net/http"
	"slices"
	"time"

	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/cmd/internal/page/chart"
	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/cmd/internal/telemetry"
)

// Telemetry is the part of a store that the page reads.
type Telemetry interface {
	telemetry.Reader
	telemetry.Children
}

const (
	// keysAtOnce is how many telemetry keys a page shows.
	keysAtOnce = 24
	// graphsAtOnce is how many pages with graphs are made at once, and graphTime is how long the
	// store may take for one. To draw a long period with many messages, the store has to read a
	// lot.
	graphsAtOnce = 2
	graphTime    = 8 * time.Second
	// longestValue is how much of a value is shown, in bytes.
	longestValue = 300
	// childrenAtOnce is how many devices behind a gateway a page names.
	childrenAtOnce = 200
)

// timeRange is a choice of the time that graphs show.
type timeRange struct {
	Name, Title string
	span, step  time.Duration
	Current     bool
}

// timeRanges returns the choices. The first is chosen if the query has none.
func timeRanges() []timeRange {
	const day = 24 * time.Hour
	return []timeRange{
		{Name: "hour", Title: "Hour", span: time.Hour, step: 20 * time.Second},
		{Name: "day", Title: "Day", span: day, step: 8 * time.Minute},
		{Name: "week", Title: "Week", span: 7 * day, step: time.Hour},
		{Name: "month", Title: "Month", span: 30 * day, step: 4 * time.Hour},
	}
}

// deviceTelemetry is what the page with the telemetry of a device shows.
type deviceTelemetry struct {
	Subject    string
	Ranges     []timeRange
	Range      string
	Pages      pages // of keys
	Latest     []value
	Attributes []value
	Graphs     []keyGraph
	// Gateway is the gateway before the device, if there is one. Children are the first devices
	// behind this one, and MoreChildren says that there are others.
	Gateway      string
	Children     []string
	MoreChildren bool
	// Slow says that the graphs were left out, because reading takes too long.
	Slow bool
}

// Steady reports whether the graphs are kept up to date. Graphs of a long period are not, because
// the store would have to read a lot again and again.
func (d deviceTelemetry) Steady() bool { return d.Range == "hour" }

// value is a value of a key.
type value struct {
	Key, Value string
	At         time.Time
	Cut        bool // there is more than is shown
}

// keyGraph is the picture of one key.
type keyGraph struct {
	Key string
	SVG template.HTML
}

func (p *Page) deviceTelemetry(r *request) (any, error) {
	d := deviceTelemetry{Subject: r.query.Get("subject"), Ranges: timeRanges()}
	if d.Subject == "" {
		return nil, &statusError{http.StatusBadRequest, "Name the device: /telemetry/device?subject=NAME."}
	}
	chosen := max(0, slices.IndexFunc(d.Ranges, func(t timeRange) bool { return t.Name == r.query.Get("range") }))
	d.Ranges[chosen].Current = true
	d.Range = d.Ranges[chosen].Name
	numbers, err := d.values(r, p.Telemetry)
	if err == nil {
		err = d.family(r, p.Telemetry)
	}
	if err == nil && (!r.live || d.Steady()) && len(numbers) > 0 {
		err = p.drawKeys(r, &d, d.Ranges[chosen], numbers)
	}
	if errors.Is(err, telemetry.ErrStore) || errors.Is(err, telemetry.ErrQuery) {
		return nil, &statusError{http.StatusServiceUnavailable, "The telemetry cannot be read: " + err.Error() + "."}
	}
	return d, err
}

// values reads the newest values of the keys on this page and the attributes. It returns the keys
// whose newest values are numbers.
func (d *deviceTelemetry) values(r *request, store telemetry.Reader) (numbers []string, err error) {
	keys, err := telemetry.Keys(r, store, d.Subject)
	if err != nil {
		return nil, err
	}
	d.Pages = newPages("/telemetry/device", r.query, len(keys), keysAtOnce)
	keys = keys[d.Pages.First:d.Pages.End]
	if len(keys) > 0 {
		latest, err := telemetry.Latest(r, store, d.Subject, keys...)
		if err != nil {
			return nil, err
		}
		for _, key := range keys {
			if point, ok := latest[key]; ok {
				d.Latest = append(d.Latest, newValue(telemetry.KeyPoint{Key: key, Point: point}))
				if _, ok := point.Value.Float(); ok {
					numbers = append(numbers, key)
				}
			}
		}
	}
	attributes, err := telemetry.Attributes(r, store, d.Subject, telemetry.ClientScope)
	for _, a := range attributes {
		d.Attributes = append(d.Attributes, newValue(a))
	}
	return numbers, err
}

// family finds the gateway before the device or the devices behind it.
func (d *deviceTelemetry) family(r *request, store telemetry.Children) error {
	var child bool
	if d.Gateway, _, child = telemetry.SplitID(d.Subject); child {
		return nil
	}
	d.Gateway = ""
	for name, err := range store.ChildrenOf(r, d.Subject) {
		if err != nil {
			return err
		}
		if d.MoreChildren = len(d.Children) == childrenAtOnce; d.MoreChildren {
			break
		}
		d.Children = append(d.Children, name)
	}
	return nil
}

// Child returns the name of a device behind this one.
func (d deviceTelemetry) Child(name string) string { return telemetry.ChildID(d.Subject, name) }

func newValue(p telemetry.KeyPoint) value {
	text := p.Value.String()
	v := value{Key: p.Key, At: time.UnixMilli(p.TS), Cut: len(text) > longestValue}
	v.Value = text[:min(len(text), longestValue)]
	return v
}

// drawKeys draws the means of the keys over the time.
func (p *Page) drawKeys(r *request, d *deviceTelemetry, t timeRange, keys []string) error {
	ctx, cancel := context.WithTimeout(r, graphTime)
	defer cancel()
	select {
	case p.graphs <- struct{}{}:
		defer func() { <-p.graphs }()
	case <-ctx.Done():
		d.Slow = true
		return nil
	}
	start, end := r.now.Add(-t.span), r.now
	points, err := telemetry.Points(ctx, p.Telemetry, telemetry.Query{
		Device: d.Subject, Keys: keys, Start: start.UnixMilli(), End: end.UnixMilli() + 1, Aggregate: "AVG", Interval: t.step.Milliseconds(),
	})
	if ctx.Err() != nil && r.Err() == nil {
		d.Slow = true
		return nil
	}
	if err != nil {
		return err
	}
	for _, key := range keys {
		d.Graphs = append(d.Graphs, keyGraph{key, drawKey(key, points[key], t, start, end)})
	}
	return nil
}

// drawKey draws one key.
func drawKey(key string, points []telemetry.Point, t timeRange, start, end time.Time) template.HTML {
	c := chart.Chart{Title: key, From: start, To: end, Loose: true, Format: chart.Plain, Gap: usualGap(points, t.step)}
	line := chart.Line{Name: key}
	for _, point := range points {
		if v, ok := point.Value.Float(); ok {
			c.Times = append(c.Times, time.UnixMilli(point.TS))
			line.Values = append(line.Values, v)
		}
	}
	c.Lines = []chart.Line{line}
	return c.SVG()
}

// usualGap returns the longest time between two points that belong to one line: a few times what is
// usual for the device, because devices send at their own pace.
func usualGap(points []telemetry.Point, step time.Duration) time.Duration {
	var gaps []int64
	for i := 1; i < len(points); i++ {
		gaps = append(gaps, points[i].TS-points[i-1].TS)
	}
	if len(gaps) == 0 {
		return 0
	}
	slices.Sort(gaps)
	return max(3*step, 3*time.Duration(gaps[len(gaps)/2])*time.Millisecond)
}

// Link returns the path of the same page with another time of the graphs.
func (d deviceTelemetry) Link(t timeRange) string {
	q := make(map[string][]string)
	q["subject"] = []string{d.Subject}
	q["range"] = []string{t.Name}
	return pageLink("/telemetry/device", q, cmp.Or(d.Pages.Page, 1))
}
