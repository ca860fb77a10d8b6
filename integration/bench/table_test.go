//go:build linux

package main

import (
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

func recordOf(work, transport, target, metric string, value float64, n noise) record {
	return record{
		Time: time.Date(2026, 11, 28, 12, 0, 0, 0, time.UTC), Work: work, Transport: transport, Target: target, Version: "1." + target,
		figure: figure{metric, "us", value}, noise: n,
	}
}

func TestTable(t *testing.T) {
	quiet, loud := noise{Steal: 0.01, Others: 0.02}, noise{Others: 0.5}
	records := []record{
		recordOf("latency", "plain", "nginx", "p50", 1234.5, quiet),
		recordOf("paced", "tls", "nginx", "paced", 3, quiet),
		recordOf("paced", "plain", "proxy", "paced", 20, quiet),
		recordOf("paced", "plain", "proxy", "paced", 10, quiet),
		recordOf("paced", "plain", "proxy", "paced", 0.5, quiet),
		recordOf("paced", "plain", "proxy", "paced", 99, loud),
		recordOf("idle", "tls", "proxy", "idle", 4, loud),
	}
	// A file in between loses nothing.
	name := filepath.Join(t.TempDir(), "raw")
	for _, part := range [][]record{records[:2], records[2:]} {
		if err := appendRecords(name, part); err != nil {
			t.Fatal(err)
		}
	}
	read, err := readRecords(name)
	if err != nil || !slices.Equal(read, records) {
		t.Fatalf("read %v, %v, want %v", read, err, records)
	}
	var b strings.Builder
	if err := printTable(&b, read, 0.1, false); err != nil {
		t.Fatal(err)
	}
	want := `| | mqtt-auth-proxy | nginx | ratio |
|---|---|---|---|
| paced, plain: us | **10.0** (0.500–20.0) | – | – |
| paced, TLS: us | – | 3.00 | – |
| p50, plain: us | – | 1,235 | – |
| idle, TLS: us | 4.00 | – | – |

Medians of up to 3 rounds in turns, the range in parentheses; ratios are those of each round. Half
of all ranges are narrower than 195 % of their median, nine in ten than 195 %. While`
	words := strings.Join(strings.Fields(b.String()), " ")
	if got := b.String(); !strings.HasPrefix(got, want) ||
		!strings.Contains(words, "mqtt-auth-proxy 1.proxy, nginx 1.nginx. 1 figures are left out, since other processes took more than 10 % of the machine.") {
		t.Errorf("table is\n%s\nwant\n%s", got, want)
	}
	if err := printTable(&b, read[:1], 0, false); err == nil {
		t.Error("a table of nothing is printed")
	}
}

// TestRatios: the proxy is compared to the peer of the row in the same round of the same run, a
// variant that the peer does not have to the peer as usual, and more of a rate is not worse.
func TestRatios(t *testing.T) {
	var records []record
	add := func(minute, round int, work, target string, v variant, unit string, value float64) {
		r := recordOf(work, "plain", target, work, value, noise{})
		r.Time = r.Time.Add(time.Duration(minute) * time.Minute)
		r.Round, r.Variant, r.Unit = round, v, unit
		records = append(records, r)
	}
	for minute, values := range [][2]float64{{1, 2}, {3, 1}} {
		add(minute, 0, "connect", "proxy", usual, "us", values[0])
		add(minute, 0, "connect", "haproxy", usual, "us", values[1])
		add(minute, 1, "connect", "haproxy", usual, "us", 4)
		add(minute, 1, "connect", "proxy", usual, "us", 4)
		add(minute, 1, "connect", "nginx", usual, "us", 1000)
		add(minute, 0, "connect", "proxy", oneProcessor, "us", 8)
		add(minute, 0, "connect", "proxy", usual, "connects/s", 8)
		add(minute, 0, "connect", "haproxy", usual, "connects/s", 8)
		add(minute, 0, "paced", "proxy", usual, "us", 2)
		add(minute, 0, "paced", "proxy", mapped, "us", 3)
		add(minute, 0, "ping", "proxy", usual, "us", 3)
		add(minute, 0, "ping", "haproxy", usual, "us", 0)
	}
	var b strings.Builder
	if err := printTable(&b, records, 1, false); err != nil {
		t.Fatal(err)
	}
	var got []string
	for line := range strings.Lines(b.String()) {
		if cells := strings.Split(line, "|"); len(cells) > 2 {
			got = append(got, strings.TrimSpace(cells[1])+" "+strings.TrimSpace(cells[len(cells)-2]))
		}
	}
	want := []string{
		" ratio", "--- ---",
		"connect, plain: us **1.00** (0.500–3.00) × HAProxy",
		"connect, plain, one processor: us **6.00** (4.00–8.00) × HAProxy",
		"connect, plain: connects/s –",
		"paced, plain: us –",
		"paced, plain, mapped topics: us **1.50** (1.50–1.50) × without",
		"ping, plain: us –",
	}
	if !slices.Equal(got, want) {
		t.Errorf("ratios are\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}

// TestDocumentsTakeTheTable: each table of a document gets the works that it names, and keeps what
// it has if nothing of that was measured.
func TestDocumentsTakeTheTable(t *testing.T) {
	records := []record{
		recordOf("paced", "tls", "nginx", "p1", 3, noise{}),
		recordOf("ping", "tls", "nginx", "p2", 3, noise{}),
	}
	got, err := replaceTables([]byte(`before
<!-- make compare: paced,flat -->
old
<!-- end -->
between
<!-- make compare: idle -->
kept
<!-- end -->
<!-- make compare in short: ping -->
<!-- end -->
`), records, 1)
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{
		"before\n<!-- make compare: paced,flat -->\n\n| | nginx | ratio |\n|---|---|---|\n| p1, TLS: us | 3.00 | – |\n\nMedians",
		"nginx 1.nginx.\n\n<!-- end -->\nbetween\n<!-- make compare: idle -->\nkept\n<!-- end -->\n",
		"<!-- make compare in short: ping -->\n\n| | nginx | ratio |\n|---|---|---|\n\nMedians",
	} {
		if !strings.Contains(string(got), want) {
			t.Errorf("the document is\n%s\nwithout\n%s", got, want)
		}
	}
	if strings.Contains(string(got), "old") {
		t.Error("the old table is still there")
	}
	if _, err := replaceTables([]byte("# No table"), records, 1); err == nil {
		t.Error("a document without a table is taken")
	}
	for _, name := range documents() {
		text, err := os.ReadFile(filepath.Join("..", "..", name))
		if err != nil {
			t.Fatal(err)
		}
		if _, err := replaceTables(text, records, 1); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestPlan: every work of the plan exists, every row has its place, and no peer is missing.
func TestPlan(t *testing.T) {
	var able []string
	for _, w := range works() {
		able = append(able, w.name)
	}
	for i, it := range plan() {
		if !slices.Contains(able, it.work) {
			t.Errorf("%s is no work", it.work)
		}
		if position(row{work: it.work, transport: it.transport, variant: it.variant}) != i {
			t.Errorf("%s, %s, %q is planned twice", it.work, it.transport, it.variant)
		}
		if it.peer != "" && !slices.Contains(targetNames(), it.peer) {
			t.Errorf("%s is compared to %q", it.work, it.peer)
		}
	}
	for _, name := range able {
		if !slices.Contains(workNames(), name) {
			t.Errorf("%s is not planned", name)
		}
	}
}

func TestSystemCallsAreRead(t *testing.T) {
	got, err := parseCalls([]byte("strace: Process 7 attached\nsyscall              calls\n---------------- ---------\nread                     6\nepoll_ctl               12\n---------------- ---------\ntotal                   18\n"))
	if want := map[string]int{"read": 6, "epoll_ctl": 12}; err != nil || !maps.Equal(got, want) {
		t.Errorf("read %v, %v, want %v", got, err, want)
	}
	if _, err := parseCalls([]byte("strace: attach: Operation not permitted")); err == nil {
		t.Error("a failure is taken for counts")
	}
}

func TestNumbers(t *testing.T) {
	for v, want := range map[float64]string{
		0: "0.00", 0.0421: "0.042", 0.5: "0.500", 1.234: "1.23", 12.34: "12.3", 999.4: "999", 1000: "1,000", -1234567: "-1,234,567", -0.25: "-0.250",
	} {
		if got := number(v); got != want {
			t.Errorf("%v is written %s, want %s", v, got, want)
		}
	}
}

// TestMeter: a process and its child are both measured.
func TestMeter(t *testing.T) {
	child := exec.Command("sleep", "60")
	if err := child.Start(); err != nil {
		t.Fatal(err)
	}
	defer child.Wait()
	defer child.Process.Kill()
	self := os.Getpid()
	all, err := tree(self)
	if err != nil || !slices.Contains(all, self) || !slices.Contains(all, child.Process.Pid) {
		t.Errorf("tree of %d is %v, %v, want %d in it", self, all, err, child.Process.Pid)
	}
	alone, err := processorTime(self)
	both, err2 := sum(self, processorTime)
	if err != nil || err2 != nil || alone <= 0 || both <= alone {
		t.Errorf("computed %v, with the child %v: %v, %v", alone, both, err, err2)
	}
	if n, err := memory(self); err != nil || n < 1<<20 {
		t.Errorf("memory %d, %v", n, err)
	}
	if n, err := descriptors(self); err != nil || n < 3 {
		t.Errorf("descriptors %d, %v", n, err)
	}
}
