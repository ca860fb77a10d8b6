//go:build integration && linux

package integration

import (
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/integration/harness"
)

// TestComparison: the tool bench does every kind of work on every target. No test can
// tell whether its figures are right.
func TestComparison(t *testing.T) {
	t.Parallel()
	for _, tool := range []string{"haproxy", "nginx", "strace"} {
		harness.Need(t, tool)
	}
	tool, raw := filepath.Join(t.TempDir(), "bench"), filepath.Join(t.TempDir(), "raw.jsonl")
	if r := harness.Run(t, "go", "build", "-o", tool, "./bench"); r.Status != 0 {
		t.Fatal(r.Stderr)
	}
	r := harness.Run(t, tool, "-quick", "-rows", "all", "-rounds", "1", "-sessions", "20", "-proxy", harness.Binary(), "-o", raw)
	if r.Status != 0 {
		t.Fatalf("status %d\n%s", r.Status, r.Stderr)
	}
	lines := strings.Split(r.Stdout, "\n")
	if want := "| | mqtt-auth-proxy | HAProxy | nginx | bare Go relay | ratio |"; lines[0] != want {
		t.Errorf("table begins with %q, want %q", lines[0], want)
	}
	const rows = 2*2 + 2*4 /* connect */ + 2 + 2*3 /* storm */ + 5 /* paced */ + 2 /* ping */ + 3*2 /* flat */ + 3*2*2*2 /* bulk */ +
		2*3 /* latency */ + 3 /* quiet */ + 2*2*5 /* fair */ + 2*4 /* held */ + 4*(2+1+1) /* idle */ + 2 /* gc */ + 2 /* signals */ + 1 /* calls */
	found := 0
	for _, line := range lines[2:] {
		if !strings.HasPrefix(line, "| ") || strings.HasPrefix(line, "| system call ") {
			continue
		}
		found++
		cells := strings.Split(line, "|")
		measured := 0
		for _, cell := range cells[2:6] {
			if strings.TrimSpace(cell) != "–" {
				measured++
			}
		}
		if want := measuredTargets(cells[1]); measured != want {
			t.Errorf("%d targets were measured, want %d: %s", measured, want, line)
		}
	}
	if found != rows {
		t.Errorf("table has %d rows, want %d\n%s", found, rows, r.Stdout)
	}
	if again := harness.Run(t, tool, "-rounds", "0", "-o", raw); again.Stdout != r.Stdout {
		t.Errorf("the table of the raw results differs from that of the run:\n%s%s", again.Stdout, again.Stderr)
	}
}

// measuredTargets returns how many targets a row has figures of.
func measuredTargets(row string) int {
	is := func(parts ...string) bool {
		return slices.ContainsFunc(parts, func(part string) bool { return strings.Contains(row, part) })
	}
	switch {
	case is("mapped topics", "topic rules", "one processor", "bundled broker"):
		return 1 // variants of the proxy
	case is("next to 20 ", "100 sessions alone"):
		return 1 // only the proxy has limits
	case is("token service", "collector", "signals"):
		return 2 // HAProxy asks a service as well, and the relay has a collector
	}
	return 4
}
