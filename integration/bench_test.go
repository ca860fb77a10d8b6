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
	harness.Need(t, "haproxy")
	harness.Need(t, "nginx")
	tool, raw := filepath.Join(t.TempDir(), "bench"), filepath.Join(t.TempDir(), "raw.jsonl")
	if r := harness.Run(t, "go", "build", "-o", tool, "./bench"); r.Status != 0 {
		t.Fatal(r.Stderr)
	}
	r := harness.Run(t, tool, "-quick", "-rounds", "1", "-sessions", "20", "-proxy", harness.Binary(), "-o", raw)
	if r.Status != 0 {
		t.Fatalf("status %d\n%s", r.Status, r.Stderr)
	}
	lines := strings.Split(r.Stdout, "\n")
	if want := "| | mqtt-auth-proxy | mqtt-auth-proxy, bundled broker | mqtt-auth-proxy, mapped topics | HAProxy | HAProxy, splicing | nginx | bare Go relay |"; lines[0] != want {
		t.Errorf("table begins with %q, want %q", lines[0], want)
	}
	const rows = 2*(3+1+1) /* idle */ + 2*1 /* paced */ + 2*2 /* flat */ + 2*2*2*2 /* bulk */ + 2 + 4 /* connect */ + 2*3 /* latency */ +
		2*1 /* quiet */ + 2*2*5 /* fair */ + 2*4 /* held */ + 2*1 /* gc */
	withMap := []string{"| 20 idle sessions", "| the program with", "| 5,000/s", "| flat out", "| up, ", "| down, "}
	found := 0
	for _, line := range lines[2:] {
		if !strings.HasPrefix(line, "| ") {
			continue
		}
		found++
		missing := 2 // HAProxy only splices in bulk, and the bundled broker is only measured after quiet
		switch {
		case strings.Contains(line, "collector"):
			missing = 4 // only Go programs have one
		case strings.Contains(line, "next to 20 "), strings.Contains(line, "100 sessions alone"):
			missing = 5 // only the proxy has limits
		case strings.HasPrefix(line, "| up, ") && strings.Contains(line, "plain"), strings.HasPrefix(line, "| down, ") && strings.Contains(line, "plain"),
			strings.Contains(line, "of quiet"):
			missing = 1
		}
		if !slices.ContainsFunc(withMap, func(work string) bool { return strings.HasPrefix(line, work) }) {
			missing++
		}
		if got := strings.Count(line, "–"); got != missing {
			t.Errorf("%d cells are empty, want %d: %s", got, missing, line)
		}
	}
	if found != rows {
		t.Errorf("table has %d rows, want %d\n%s", found, rows, r.Stdout)
	}
	if again := harness.Run(t, tool, "-rounds", "0", "-o", raw); again.Stdout != r.Stdout {
		t.Errorf("the table of the raw results differs from that of the run:\n%s%s", again.Stdout, again.Stderr)
	}
}
