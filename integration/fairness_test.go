//go:build integration && linux

package integration

import (
	"bufio"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/integration/harness"
)

// TestFairness: a session that moves data at full speed, up or down, plain or over TLS,
// hardly slows down the round trips of 100 quiet sessions. The tool bench measures that
// in turns without and with the fast session, and the same directly at the broker: on few
// processors, that difference shows how much load and broker slow each other down.
//
// It does not run in parallel with other stories.
func TestFairness(t *testing.T) {
	tool, raw := filepath.Join(t.TempDir(), "bench"), filepath.Join(t.TempDir(), "raw.jsonl")
	if r := harness.Run(t, "go", "build", "-o", tool, "./bench"); r.Status != 0 {
		t.Fatal(r.Stderr)
	}
	for _, transport := range []string{"plain", "tls"} {
		t.Run(transport, func(t *testing.T) {
			var faults []string
			for attempt := range 5 { // other processes may use the machine meanwhile
				raw := fmt.Sprintf("%s-%d", raw, attempt)
				r := harness.Run(t, tool, "-rows", "fair", "-targets", "proxy", "-transports", transport, "-rounds", "1", "-proxy", harness.Binary(), "-o", raw)
				if r.Status != 0 {
					t.Fatalf("status %d\n%s", r.Status, r.Stderr)
				}
				if faults = unfair(t, readFigures(t, raw)); len(faults) == 0 {
					return
				}
			}
			t.Error(strings.Join(faults, "\n"))
		})
	}
}

// unfair returns what is wrong with the figures for one transport.
func unfair(t testing.TB, figures benchFigures) (faults []string) {
	for _, way := range []string{"up", "down"} {
		withBulk, unit := "QoS 1 p50, 100 sessions next to bulk "+way, "times that before"
		ratio := figures.get(t, benchFigure{withBulk, unit})
		straight := figures.get(t, benchFigure{withBulk + ", straight to the sink", unit})
		bulk := figures.get(t, benchFigure{"bulk " + way + " next to 100 sessions", "MB/s"})
		t.Logf("bulk %s: %.2f times as long, straight to the broker %.2f; %.0f MB/s", way, ratio, straight, bulk)
		// Sessions that had to wait for the bulk itself would wait hundreds of times as long. Smaller
		// differences are for the benchmark, since a busy machine slows down one measurement and not
		// the next.
		if most := max(10, 2*straight); ratio > most {
			faults = append(faults, fmt.Sprintf("bulk %s: the quiet ones wait %.2f times as long, want at most %.2f", way, ratio, most))
		}
		if bulk < 1 {
			faults = append(faults, fmt.Sprintf("bulk %s flowed at %.1f MB/s, too little to be in anybody's way", way, bulk))
		}
	}
	return faults
}

// benchFigure names a result of the comparison.
type benchFigure struct{ Metric, Unit string }

type benchFigures map[benchFigure]float64

func readFigures(t testing.TB, name string) benchFigures {
	t.Helper()
	f, err := os.Open(name)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	figures := benchFigures{}
	lines := bufio.NewScanner(f)
	for lines.Scan() {
		var r struct {
			benchFigure
			Value float64
		}
		if err := json.Unmarshal(lines.Bytes(), &r); err != nil {
			t.Fatal(err)
		}
		figures[r.benchFigure] = r.Value
	}
	if err := lines.Err(); err != nil {
		t.Fatal(err)
	}
	return figures
}

func (f benchFigures) get(t testing.TB, name benchFigure) float64 {
	t.Helper()
	value, ok := f[name]
	if !ok || value <= 0 {
		t.Fatalf("%v is %v, want a result", name, value)
	}
	return value
}
