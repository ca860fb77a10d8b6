//go:build linux

package main

import (
	"bytes"
	"cmp"
	"fmt"
	"io"
	"math"
	"os"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"
)

// row identifies a line of the table.
type row struct {
	work, metric, unit, transport string
	variant                       variant
}

// cell identifies a cell of the table.
type cell struct {
	row
	target string
}

// round identifies a round of a run.
type round struct {
	run    time.Time
	number int
}

// printTable prints medians, ranges and the noise. It leaves out records during which other
// processes used more than part of the machine, except those of memory, which others do not affect.
// In short it has only rows with a ratio.
func printTable(w io.Writer, records []record, noise float64, short bool) error {
	all := len(records)
	records = slices.DeleteFunc(slices.Clone(records), func(r record) bool { return r.Others > noise && r.Work != "idle" })
	if len(records) == 0 {
		return fmt.Errorf("%d figures were measured, and nothing is left to print", all)
	}
	values, inRounds := map[cell][]float64{}, map[cell]map[round]float64{}
	for _, r := range records {
		c := cell{r.row(), r.Target}
		values[c] = append(values[c], r.Value)
		if inRounds[c] == nil {
			inRounds[c] = map[round]float64{}
		}
		inRounds[c][round{r.Time, r.Round}] = r.Value
	}
	columns := slices.DeleteFunc(targets(), func(t target) bool {
		return !slices.ContainsFunc(records, func(r record) bool { return r.Target == t.name })
	})
	var b bytes.Buffer
	b.WriteString("| |")
	for _, t := range columns {
		fmt.Fprintf(&b, " %s |", t.title)
	}
	b.WriteString(" ratio |\n|---|" + strings.Repeat("---|", len(columns)+1) + "\n")
	for _, row := range rows(records) {
		times := ratio(row, inRounds)
		if short && times == "–" {
			continue
		}
		fmt.Fprintf(&b, "| %s |", row)
		for _, t := range columns {
			fmt.Fprintf(&b, " %s |", spread(values[cell{row, t.name}]))
		}
		fmt.Fprintf(&b, " %s |\n", times)
	}
	words := notes(records, values, columns)
	if left := all - len(records); left > 0 {
		words += fmt.Sprintf(" %d figures are left out, since other processes took more than %.0f %% of the machine.", left, 100*noise)
	}
	b.WriteString("\n" + wrap(words, 100))
	_, err := w.Write(b.Bytes())
	return err
}

// ratio returns how often the proxy takes what the peer of the row takes, in each round.
func ratio(r row, values map[cell]map[round]float64) string {
	peer := r.peer()
	against := cell{r, peer}
	if peer == "proxy" || values[against] == nil {
		against.variant = usual
	}
	if strings.HasSuffix(r.unit, "/s") || values[against] == nil || against == (cell{r, "proxy"}) {
		return "–" // more may be better, or there is nothing to compare with
	}
	var ratios []float64
	for in, value := range values[cell{r, "proxy"}] {
		if other := values[against][in]; other > 0 {
			ratios = append(ratios, value/other)
		}
	}
	if len(ratios) == 0 {
		return "–"
	}
	name := "without"
	for _, t := range targets() {
		if t.name == peer && peer != "proxy" {
			name = t.title
		}
	}
	return spread(ratios) + " × " + name
}

// peer returns the target to which the proxy is compared in a row.
func (r row) peer() string {
	if i := position(r); i >= 0 {
		return plan()[i].peer
	}
	return ""
}

func (r record) row() row { return row{r.Work, r.Metric, r.Unit, r.Transport, r.Variant} }

func (r row) String() string {
	kind := map[string]string{"plain": "plain", "tls": "TLS"}[r.transport]
	if r.variant != usual {
		kind += ", " + string(r.variant)
	}
	return fmt.Sprintf("%s, %s: %s", r.metric, kind, r.unit)
}

// rows returns every row once: works in their order, metrics as they came, plain before TLS, the
// usual variant before the others.
func rows(records []record) []row {
	names := workNames()
	var metrics []row // without transport and variant
	var all []row
	for _, r := range records {
		metric := r.row()
		metric.transport, metric.variant = "", usual
		if !slices.Contains(metrics, metric) {
			metrics = append(metrics, metric)
		}
		if !slices.Contains(all, r.row()) {
			all = append(all, r.row())
		}
	}
	rank := func(r row) int {
		r.transport, r.variant = "", usual
		return slices.Index(metrics, r)
	}
	slices.SortStableFunc(all, func(a, b row) int {
		return cmp.Or(cmp.Compare(slices.Index(names, a.work), slices.Index(names, b.work)),
			cmp.Compare(rank(a), rank(b)), cmp.Compare(position(a), position(b)))
	})
	return all
}

// position returns where in the plan a row is.
func position(r row) int {
	return slices.IndexFunc(plan(), func(it item) bool {
		return it.work == r.work && it.transport == r.transport && it.variant == r.variant
	})
}

// spread returns a median with the range in parentheses.
func spread(values []float64) string {
	switch len(values) {
	case 0:
		return "–"
	case 1:
		return number(values[0])
	}
	return fmt.Sprintf("**%s** (%s–%s)", number(median(values)), number(slices.Min(values)), number(slices.Max(values)))
}

func median(values []float64) float64 {
	sorted := slices.Sorted(slices.Values(values))
	return (sorted[(len(sorted)-1)/2] + sorted[len(sorted)/2]) / 2
}

// number formats a number with three significant digits.
func number(v float64) string {
	if math.Abs(v) >= 1000 {
		return thousands(int64(math.Round(v)))
	}
	decimals := 2
	if v != 0 {
		decimals = max(0, 2-int(math.Floor(math.Log10(math.Abs(v)))))
	}
	return strconv.FormatFloat(v, 'f', min(decimals, 3), 64)
}

func thousands(n int64) string {
	s := strconv.FormatInt(n, 10)
	for i := len(s) - 3; i > 0 && s[i-1] != '-'; i -= 3 {
		s = s[:i] + "," + s[i:]
	}
	return s
}

// notes returns what was compared, on what machine, and how noisy it was.
func notes(records []record, values map[cell][]float64, columns []target) string {
	var steal, others, spreads []float64
	onlyIdle := !slices.ContainsFunc(records, func(r record) bool { return r.Work != "idle" })
	for _, r := range records {
		if r.Work != "idle" || onlyIdle { // noise does not affect memory
			steal, others = append(steal, 100*r.Steal), append(others, 100*r.Others)
		}
	}
	rounds := 0
	for _, v := range values {
		rounds = max(rounds, len(v))
		if m := median(v); len(v) > 1 && m != 0 {
			spreads = append(spreads, 100*(slices.Max(v)-slices.Min(v))/math.Abs(m))
		}
	}
	var b strings.Builder
	fmt.Fprintf(&b, "Medians of up to %d rounds in turns, the range in parentheses; ratios are those of each round. ", rounds)
	if len(spreads) > 0 {
		fmt.Fprintf(&b, "Half of all ranges are narrower than %.0f %% of their median, nine in ten than %.0f %%. ", median(spreads), quantile(spreads, 0.9))
	}
	fmt.Fprintf(&b, "While measuring, other processes took %.1f %% of the machine (at most %.1f %%), other virtual machines %.1f %% (at most %.1f %%). ",
		median(others), slices.Max(others), median(steal), slices.Max(steal))
	fmt.Fprintf(&b, "Measured %s on %s. ", records[len(records)-1].Time.Format("2006-01-02"), machineName())
	for i, t := range columns {
		if i > 0 {
			b.WriteString(", ")
		}
		fmt.Fprintf(&b, "%s %s", t.title, strings.Join(versions(records, t.name), " and "))
	}
	b.WriteString(".")
	return b.String()
}

// wrap breaks text into lines of at most so many characters.
func wrap(text string, width int) string {
	var b strings.Builder
	column := 0
	for word := range strings.FieldsSeq(text) {
		length := utf8.RuneCountInString(word)
		switch {
		case column == 0:
		case column+1+length > width:
			b.WriteByte('\n')
			column = 0
		default:
			b.WriteByte(' ')
			column++
		}
		b.WriteString(word)
		column += length
	}
	return b.String() + "\n"
}

// versions returns all versions of a target in the records.
func versions(records []record, target string) []string {
	var all []string
	for _, r := range records {
		if r.Target == target && !slices.Contains(all, r.Version) {
			all = append(all, r.Version)
		}
	}
	return all
}

func machineName() string {
	model := "unknown processor"
	if text, err := os.ReadFile("/proc/cpuinfo"); err == nil {
		for line := range strings.Lines(string(text)) {
			if name, value, _ := strings.Cut(line, ":"); strings.TrimSpace(name) == "model name" {
				model = strings.TrimSpace(value)
				break
			}
		}
	}
	release, err := os.ReadFile("/proc/sys/kernel/osrelease")
	if err != nil {
		release = []byte("unknown")
	}
	return fmt.Sprintf("%d cores of %s, Linux %s", runtime.NumCPU(), model, strings.TrimSpace(string(release)))
}
