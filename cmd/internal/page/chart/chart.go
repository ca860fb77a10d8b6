// Package chart draws lines over time as SVG, for a page without scripts.
//
//	svg := chart.Chart{
//		Title: "Sessions", From: hourAgo, To: now, Gap: 25 * time.Second,
//		Times: times, Lines: []chart.Line{{Name: "sessions", Values: values}},
//	}.SVG()
//
// The picture has axes with round numbers, a title and a description for screen readers, and the
// values as tooltips. It has no style of its own: the classes chart-grid, chart-label, chart-hit,
// line-1 to line-6 and dot are for the style sheet of the page. Every text may come from an
// attacker.
package chart

import (
	"fmt"
	"html/template"
	"math"
	"strconv"
	"strings"
	"time"
)

// Chart is a picture of at most 6 lines.
type Chart struct {
	Title    string
	From, To time.Time
	// Gap is the longest time between two values that are connected by a line; 0 connects all.
	Gap time.Duration
	// Times are in ascending order, and each line has one value for each of them.
	Times []time.Time
	Lines []Line
	// Format writes a value; if it is nil, [Number] does.
	Format func(float64) string
	// Base is what the ticks are multiples of: 1000, or 1024 for bytes. 0 means 1000.
	Base float64
	// Loose means that the vertical axis need not begin at zero.
	Loose bool
}

// Line is one line of a chart. A value that is NaN interrupts it.
type Line struct {
	Name   string
	Values []float64
}

// The size of the picture and of the room for the labels, in units of the view box.
const (
	width, height = 420.0, 176.0
	left, right   = 52.0, 10.0
	top, bottom   = 10.0, 22.0
	plotWidth     = width - left - right
	plotHeight    = height - top - bottom
)

const (
	maxLines   = 6
	hits       = 60 // columns with a tooltip
	valueTicks = 4  // about
	timeTicks  = 6  // at most
	day        = 24 * time.Hour
)

// SVG returns the picture.
func (c Chart) SVG() template.HTML {
	if c.Format == nil {
		c.Format = Number
	}
	c.Lines = c.Lines[:min(len(c.Lines), maxLines)]
	axis := c.axis()
	var b strings.Builder
	fmt.Fprintf(&b, `<svg class="chart" viewBox="0 0 %g %g" role="img"><title>%s</title><desc>%s</desc>`,
		width, height, template.HTMLEscapeString(c.Title), template.HTMLEscapeString(c.description()))
	c.drawValueAxis(&b, axis)
	c.drawTimeAxis(&b)
	for i, l := range c.Lines {
		c.drawLine(&b, axis, i, l)
	}
	if first, end := c.inside(); first == end {
		fmt.Fprintf(&b, `<text class="chart-label" x="%g" y="%g" text-anchor="middle">no values yet</text>`, left+plotWidth/2, top+plotHeight/2)
	}
	c.drawHits(&b)
	b.WriteString(`</svg>`)
	return template.HTML(b.String()) // every text in it is escaped
}

// axis is the vertical axis.
type axis struct{ low, high, step float64 }

// y returns the place of a value.
func (a axis) y(v float64) float64 { return top + plotHeight*(1-(v-a.low)/(a.high-a.low)) }

// axis returns an axis that has room for all values.
func (c Chart) axis() axis {
	low, high := math.Inf(1), math.Inf(-1)
	for _, l := range c.Lines {
		for _, v := range l.Values {
			if usable(v) {
				low, high = min(low, v), max(high, v)
			}
		}
	}
	if low > high {
		low, high = 0, 1
	}
	if !c.Loose {
		low, high = min(low, 0), max(high, 0)
	}
	if low == high {
		high = low + max(1, math.Abs(low)/10)
	}
	step := roundStep((high-low)/valueTicks, c.Base)
	return axis{low: math.Floor(low/step) * step, high: math.Ceil(high/step) * step, step: step}
}

// usable reports whether a value can be drawn.
func usable(v float64) bool { return !math.IsNaN(v) && math.Abs(v) < 1e300 }

// roundStep returns the smallest of 1, 2 and 5 times a power of ten, or for bytes a power of two,
// that is at least step.
func roundStep(step, base float64) float64 {
	if base == 1024 {
		return max(1, math.Pow(2, math.Ceil(math.Log2(step))))
	}
	power := math.Pow(10, math.Floor(math.Log10(step)))
	for _, m := range []float64{1, 2, 5} {
		if m*power >= step*(1-1e-9) {
			return m * power
		}
	}
	return 10 * power
}

func (c Chart) drawValueAxis(b *strings.Builder, a axis) {
	for i := 0; i <= int(math.Round((a.high-a.low)/a.step)); i++ {
		v := a.low + float64(i)*a.step
		y := a.y(v)
		fmt.Fprintf(b, `<path class="chart-grid" d="M%g %.1fH%g"/><text class="chart-label" x="%g" y="%.1f" text-anchor="end">%s</text>`,
			left, y, width-right, left-6, y+4, template.HTMLEscapeString(c.Format(v)))
	}
}

// x returns the place of a time.
func (c Chart) x(t time.Time) float64 {
	span := c.To.Sub(c.From)
	if span <= 0 {
		return left
	}
	return left + plotWidth*float64(t.Sub(c.From))/float64(span)
}

func (c Chart) drawTimeAxis(b *strings.Builder) {
	layout, step := "15:04", timeStep(c.To.Sub(c.From))
	if step >= day {
		layout = "2 Jan"
	}
	for t := c.From.UTC().Truncate(step).Add(step); !t.After(c.To) && step > 0; t = t.Add(step) {
		x := c.x(t)
		if x < left+8 || x > width-right-8 {
			continue // its label would be cut off
		}
		fmt.Fprintf(b, `<path class="chart-grid" d="M%.1f %gv4"/><text class="chart-label" x="%.1f" y="%g" text-anchor="middle">%s</text>`,
			x, height-bottom, x, height-5, t.Format(layout))
	}
}

// timeStep returns the time between two ticks.
func timeStep(span time.Duration) time.Duration {
	for _, step := range []time.Duration{
		time.Second, 5 * time.Second, 10 * time.Second, 30 * time.Second, time.Minute, 2 * time.Minute, 5 * time.Minute, 10 * time.Minute,
		15 * time.Minute, 30 * time.Minute, time.Hour, 2 * time.Hour, 4 * time.Hour, 6 * time.Hour, 12 * time.Hour, day, 2 * day, 7 * day,
	} {
		if span <= timeTicks*step {
			return step
		}
	}
	return (span / timeTicks).Truncate(day)
}

// inside returns the index of the first value that is not before From, and that of the first one
// after To.
func (c Chart) inside() (first, end int) {
	for first < len(c.Times) && c.Times[first].Before(c.From) {
		first++
	}
	for end = first; end < len(c.Times) && !c.Times[end].After(c.To); end++ {
	}
	return first, end
}

// drawLine draws the pieces of a line. A piece of one value is a dot.
func (c Chart) drawLine(b *strings.Builder, a axis, n int, l Line) {
	var path, dots strings.Builder
	first, end := c.inside()
	end = min(end, len(l.Values))
	joined := func(i int) bool { // with the value before
		return i > first && usable(l.Values[i-1]) && (c.Gap == 0 || c.Times[i].Sub(c.Times[i-1]) <= c.Gap)
	}
	for i := first; i < end; i++ {
		if !usable(l.Values[i]) {
			continue
		}
		x, y := c.x(c.Times[i]), a.y(l.Values[i])
		last := i+1 == end || !usable(l.Values[i+1]) || !joined(i+1)
		switch {
		case joined(i):
			fmt.Fprintf(&path, "L%.1f %.1f", x, y)
		case last:
			fmt.Fprintf(&dots, "M%.1f %.1fh0", x, y)
		default:
			fmt.Fprintf(&path, "M%.1f %.1f", x, y)
		}
	}
	fmt.Fprintf(b, `<path class="line line-%d" d="%s"/>`, n+1, path.String())
	if dots.Len() > 0 {
		fmt.Fprintf(b, `<path class="line line-%d dot" d="%s"/>`, n+1, dots.String())
	}
}

// drawHits draws columns that cannot be seen and that show the values as tooltips.
func (c Chart) drawHits(b *strings.Builder) {
	first, end := c.inside()
	if first == end {
		return
	}
	step := max(1, (end-first+hits-1)/hits)
	edge := c.x(c.Times[first])
	for i := first; i < end; i += step {
		last := min(i+step, end) - 1
		next := c.x(c.Times[last])
		if last+1 < end {
			next = (next + c.x(c.Times[last+1])) / 2
		}
		fmt.Fprintf(b, `<rect class="chart-hit" x="%.1f" y="%g" width="%.1f" height="%g"><title>%s</title></rect>`,
			edge, top, max(2, next-edge), plotHeight, template.HTMLEscapeString(c.valuesAt(last)))
		edge = next
	}
}

// valuesAt returns the values of all lines at a time.
func (c Chart) valuesAt(i int) string {
	layout := "15:04"
	if c.To.Sub(c.From) > day {
		layout = "2 Jan 15:04"
	}
	text := c.Times[i].UTC().Format(layout)
	for _, l := range c.Lines {
		if i < len(l.Values) && usable(l.Values[i]) {
			text += "\n" + l.Name + ": " + c.Format(l.Values[i])
		}
	}
	return text
}

// description says in words what the picture shows.
func (c Chart) description() string {
	var all []string
	for _, l := range c.Lines {
		last, most := math.NaN(), math.Inf(-1)
		for _, v := range l.Values {
			if usable(v) {
				last, most = v, max(most, v)
			}
		}
		if usable(last) {
			all = append(all, fmt.Sprintf("%s: now %s, at most %s.", l.Name, c.Format(last), c.Format(most)))
		}
	}
	if len(all) == 0 {
		return "There are no values yet."
	}
	return strings.Join(all, " ")
}

// Number writes a value with three digits and, if it is large, the prefix k, M, G or T.
func Number(v float64) string {
	for _, unit := range []struct {
		size float64
		name string
	}{{1e12, "T"}, {1e9, "G"}, {1e6, "M"}, {1e3, "k"}} {
		if math.Abs(v) >= unit.size*0.9995 {
			return digits(v/unit.size) + unit.name
		}
	}
	return digits(v)
}

// Plain writes a value with six digits and without a prefix, for values of which the reader knows
// the unit and the chart does not.
func Plain(v float64) string {
	rounded, _ := strconv.ParseFloat(strconv.FormatFloat(v, 'g', 6, 64), 64) // cannot fail
	if size := math.Abs(rounded); size != 0 && (size < 1e-4 || size >= 1e7) {
		return strconv.FormatFloat(rounded, 'g', -1, 64)
	}
	return strconv.FormatFloat(rounded, 'f', -1, 64)
}

// Bytes writes a number of bytes.
func Bytes(v float64) string {
	for _, unit := range []struct {
		size float64
		name string
	}{{1 << 40, " TiB"}, {1 << 30, " GiB"}, {1 << 20, " MiB"}, {1 << 10, " KiB"}} {
		if math.Abs(v) >= unit.size*0.9995 {
			return digits(v/unit.size) + unit.name
		}
	}
	return digits(v) + " B"
}

// Seconds writes a duration.
func Seconds(v float64) string {
	switch {
	case v == 0:
		return "0"
	case math.Abs(v) < 1e-3:
		return digits(v*1e6) + " µs"
	case math.Abs(v) < 1:
		return digits(v*1e3) + " ms"
	case math.Abs(v) < 100:
		return digits(v) + " s"
	}
	return digits(v/60) + " min"
}

// digits writes v with three significant digits, or all digits before the point.
func digits(v float64) string {
	if math.Abs(v) >= 100 {
		return strconv.FormatFloat(v, 'f', 0, 64)
	}
	rounded, _ := strconv.ParseFloat(strconv.FormatFloat(v, 'g', 3, 64), 64) // cannot fail
	if rounded != 0 && math.Abs(rounded) < 1e-4 {
		return strconv.FormatFloat(rounded, 'g', -1, 64)
	}
	return strconv.FormatFloat(rounded, 'f', -1, 64)
}
