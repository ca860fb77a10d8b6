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
)

// row identifies a line of the table.
type row struct{ work, metric, unit, transport string }

// cell identifies a cell of the table.
type cell struct {
	row
	target string
}

// printTable prints medians, ranges and the noise. It leaves out records during which other
// processes used more than part of the machine, except those of memory, which others do not affect.
func printTable(w io.Writer, records []record, noise float64) error {
	all := len(records)
	records = slices.DeleteFunc(slices.Clone(records), func(r record) bool { return r.Others > noise && r.Work != "idle" })
	if len(records) == 0 {
		return fmt.Errorf("%d figures were measured, and nothing is left to print", all)
	}
	values := map[cell][]float64{}
	for _, r := range records {
		c := cell{r.row(), r.Target}
		values[c] = append(values[c], r.Value)
	}
	columns := slices.DeleteFunc(targets(), func(t target) bool {
		return !slices.ContainsFunc(records, func(r record) bool { return r.Target == t.name })
	})
	var b bytes.Buffer
	b.WriteString("| |")
	for _, t := range columns {
		fmt.Fprintf(&b, " %s |", t.title)
	}
	b.WriteString("\n|---|" + strings.Repeat("---|", len(columns)) + "\n")
	for _, row := range rows(records) {
		fmt.Fprintf(&b, "| %s |", row)
		for _, t := range columns {
			fmt.Fprintf(&b, " %s |", spread(values[cell{row, t.name}]))
		}
		b.WriteString("\n")
	}
	b.WriteString("\n" + notes(records, values, columns))
	if left := all - len(records); left > 0 {
		fmt.Fprintf(&b, "%d figures are left out, since other processes took more than %.0f %% of the machine.\n", left, 100*noise)
	}
	_, err := w.Write(b.Bytes())
	return err
}

func (r record) row() row { return row{r.Work, r.Metric, r.Unit, r.Transport} }

func (r row) String() string {
	transport := map[string]string{"plain": "plain", "tls": "TLS"}[r.transport]
	return fmt.Sprintf("%s, %s: %s", strings.TrimPrefix(r.metric, "connect, "), transport, r.unit)
}

// rows returns every row once: works in their order, metrics as they came, plain
// before TLS.
func rows(records []record) []row {
	names := workNames()
	var metrics []row // without a transport
	var all []row
	for _, r := range records {
		metric := r.row()
		metric.transport = ""
		if !slices.Contains(metrics, metric) {
			metrics = append(metrics, metric)
		}
		if !slices.Contains(all, r.row()) {
			all = append(all, r.row())
		}
	}
	rank := func(r row) int {
		r.transport = ""
		return slices.Index(metrics, r)
	}
	slices.SortStableFunc(all, func(a, b row) int {
		return cmp.Or(cmp.Compare(slices.Index(names, a.work), slices.Index(names, b.work)),
			cmp.Compare(rank(a), rank(b)), cmp.Compare(a.transport, b.transport))
	})
	return all
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
	fmt.Fprintf(&b, "Medians of up to %d rounds in turns, the range in parentheses. ", rounds)
	if len(spreads) > 0 {
		fmt.Fprintf(&b, "Half of all ranges are narrower than %.0f %% of their median, nine in ten than %.0f %%. ", median(spreads), quantile(spreads, 0.9))
	}
	fmt.Fprintf(&b, "While measuring, other processes took %.1f %% of the machine (at most %.1f %%), other virtual machines %.1f %% (at most %.1f %%).\n",
		median(others), slices.Max(others), median(steal), slices.Max(steal))
	fmt.Fprintf(&b, "Measured %s on %s. ", records[len(records)-1].Time.Format("2006-01-02"), machineName())
	for i, t := range columns {
		if i > 0 {
			b.WriteString(", ")
		}
		fmt.Fprintf(&b, "%s %s", t.title, strings.Join(versions(records, t.name), " and "))
	}
	b.WriteString(".\n")
	return b.String()
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
