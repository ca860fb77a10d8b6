//go:build linux

package main

import (
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
	if err := printTable(&b, read, 0.1); err != nil {
		t.Fatal(err)
	}
	want := `| | mqtt-auth-proxy | nginx |
|---|---|---|
| idle, TLS: us | 4.00 | – |
| paced, plain: us | **10.0** (0.500–20.0) | – |
| paced, TLS: us | – | 3.00 |
| p50, plain: us | – | 1,235 |

Medians of up to 3 rounds in turns, the range in parentheses. Half of all ranges are narrower than 195 % of their median, nine in ten than 195 %. While`
	if got := b.String(); !strings.HasPrefix(got, want) ||
		!strings.Contains(got, "mqtt-auth-proxy 1.proxy, nginx 1.nginx.\n1 figures are left out, since other processes took more than 10 %") {
		t.Errorf("table is\n%s\nwant\n%s", got, want)
	}
	if err := printTable(&b, read[:1], 0); err == nil {
		t.Error("a table of nothing is printed")
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
