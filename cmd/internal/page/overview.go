package page

import (
	"cmp"
	"html/template"
	"math"
	"slices"
	"strings"
	"time"

	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/cmd/internal/admin"
	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/cmd/internal/page/chart"
	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/cmd/internal/page/history"
)

// The series of the history that the overview draws, in addition to those of the times of connects.
const (
	SeriesSessions    = "sessions"
	SeriesConnects    = "connects"
	SeriesBytesUp     = "bytes up"
	SeriesBytesDown   = "bytes down"
	SeriesMessagesIn  = "messages in"  // only with the bundled broker
	SeriesMessagesOut = "messages out" // only with the bundled broker
	SeriesMemory      = "memory"
	// SeriesRefused begins the name of the series of a reason.
	SeriesRefused = "refused "
)

// overview is what the overview shows.
type overview struct {
	Status admin.Status
	Day    bool // the graphs are of a day instead of an hour
	Tiles  []tile
	Graphs []graph
	Health []health
}

// tile is one number.
type tile struct{ Title, Value, Note string }

// graph is one picture.
type graph struct {
	Title  string
	Unit   string
	Legend []string // the names of the lines, in order
	SVG    template.HTML
}

// health is a line about one part of the proxy.
type health struct {
	Part string
	// State is good, warn or bad, and Text says it in a word.
	State, Text string
	Detail      string
	// Since is when the state began, or when the part was last read.
	Since time.Time
	// End is when a certificate expires.
	End time.Time
	// Change is what an operator can do, and Path the page that does it.
	Change, Path string
}

func (p *Page) overview(r *request) (any, error) {
	o := overview{Status: p.API.Status(), Day: r.query.Get("range") == "day"}
	w := p.History.Hour()
	if o.Day {
		w = p.History.Day()
	}
	o.Tiles = tiles(o.Status, p.History.Hour())
	o.Graphs = graphs(w, r.now)
	o.Health = healthOf(o.Status, r.now)
	return o, nil
}

// tiles returns the most important numbers as they are now. w is the last hour.
func tiles(s admin.Status, w *history.Window) []tile {
	var refused float64
	for _, name := range w.Names() {
		if strings.HasPrefix(name, SeriesRefused) {
			for _, v := range w.Series(name) {
				if !math.IsNaN(v) {
					refused += v * w.Step.Seconds()
				}
			}
		}
	}
	all := []tile{
		{"Sessions", number(s.Sessions), number(s.Connections) + " connections"},
		{"Connects", perSecond(w.Last(SeriesConnects)), "in the last 10 seconds"},
		{"Refused", number(math.Round(refused)), "in the last hour"},
		{"Connect time", secondsOf(w.Last(history.Median)), "median; 99 %: " + secondsOf(w.Last(history.Percentile99))},
		{"To the broker", bytesPerSecond(w.Last(SeriesBytesUp)), "to devices: " + bytesPerSecond(w.Last(SeriesBytesDown))},
	}
	if in := w.Last(SeriesMessagesIn); !math.IsNaN(in) {
		all = append(all, tile{"Messages", perSecond(in), "to devices: " + perSecond(w.Last(SeriesMessagesOut))})
	}
	return all
}

func perSecond(v float64) string {
	if math.IsNaN(v) {
		return "–"
	}
	return chart.Number(v) + "/s"
}

func bytesPerSecond(v float64) string {
	if math.IsNaN(v) {
		return "–"
	}
	return chart.Bytes(v) + "/s"
}

func secondsOf(v float64) string {
	if math.IsNaN(v) {
		return "–"
	}
	return chart.Seconds(v)
}

// graphs returns the pictures of a window.
func graphs(w *history.Window, now time.Time) []graph {
	all := []graph{
		draw(w, now, "Sessions", "", chart.Chart{}, SeriesSessions),
		draw(w, now, "Connects", "per second", chart.Chart{}, SeriesConnects),
		draw(w, now, "Refused connections", "per second, by reason", chart.Chart{}, refusedMost(w)...),
		draw(w, now, "Connect time", "median and 99 %", chart.Chart{Format: chart.Seconds}, history.Median, history.Percentile99),
		draw(w, now, "Bytes", "per second, to the broker and to devices", chart.Chart{Format: chart.Bytes, Base: 1024}, SeriesBytesUp, SeriesBytesDown),
	}
	if w.Series(SeriesMessagesIn) != nil {
		all = append(all, draw(w, now, "Messages", "per second, from and to devices", chart.Chart{}, SeriesMessagesIn, SeriesMessagesOut))
	}
	if w.Series(SeriesMemory) != nil {
		all = append(all, draw(w, now, "Memory", "of the process", chart.Chart{Format: chart.Bytes, Base: 1024}, SeriesMemory))
	}
	return all
}

// draw draws series of a window. like has the form of the values.
func draw(w *history.Window, now time.Time, title, unit string, like chart.Chart, series ...string) graph {
	g := graph{Title: title, Unit: unit}
	like.Title, like.Times, like.From, like.To, like.Gap = title, w.Times, now.Add(-w.Span), now, 5*w.Step/2
	for _, name := range series {
		label := strings.TrimPrefix(name, SeriesRefused)
		switch name {
		case history.Percentile99:
			label = "99 %"
		case SeriesBytesUp, SeriesMessagesIn:
			label = "from devices"
		case SeriesBytesDown, SeriesMessagesOut:
			label = "to devices"
		}
		like.Lines = append(like.Lines, chart.Line{Name: label, Values: w.Series(name)})
		if len(series) > 1 || strings.HasPrefix(name, SeriesRefused) {
			g.Legend = append(g.Legend, label)
		}
	}
	g.SVG = like.SVG()
	return g
}

// mostReasons is how many reasons the graph of refusals has.
const mostReasons = 5

// refusedMost returns the series of the most frequent reasons, in the order of their names.
func refusedMost(w *history.Window) []string {
	sums := make(map[string]float64)
	var names []string
	for _, name := range w.Names() {
		if !strings.HasPrefix(name, SeriesRefused) {
			continue
		}
		for _, v := range w.Series(name) {
			if !math.IsNaN(v) {
				sums[name] += v
			}
		}
		if sums[name] > 0 {
			names = append(names, name)
		}
	}
	slices.SortStableFunc(names, func(a, b string) int { return cmp.Compare(sums[b], sums[a]) })
	names = names[:min(len(names), mostReasons)]
	slices.Sort(names)
	return names
}
