//go:build integration

package integration

import (
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"
)

// binary is the program under test, withRace whether it has the race detector.
// TestMain alone sets them.
var (
	binary   string
	withRace bool
)

// patience is how long a story waits for something that ought to come at once.
const patience = 20 * time.Second

func TestMain(m *testing.M) {
	if spec := os.Getenv(soakVariable); spec != "" {
		os.Exit(runSoakSink(spec))
	}
	if spec := os.Getenv(stormVariable); spec != "" {
		os.Exit(runStorm(spec))
	}
	flag.StringVar(&binary, "proxy.binary", "", "test this `FILE` instead of building the program")
	flag.BoolVar(&withRace, "proxy.race", false, "build the program with the race detector, which needs a C compiler")
	flag.Parse()
	os.Exit(runStories(m))
}

func runStories(m *testing.M) int {
	if binary != "" {
		return m.Run()
	}
	dir, err := os.MkdirTemp("", "mqtt-auth-proxy")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer os.RemoveAll(dir)
	binary = filepath.Join(dir, "mqtt-auth-proxy")
	if err := build(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return m.Run()
}

func build() error {
	args := []string{"build", "-trimpath", "-o", binary}
	cmd := exec.Command("go", append(args, "../cmd/mqtt-auth-proxy")...)
	if withRace {
		cmd = exec.Command("go", append(args, "-race", "../cmd/mqtt-auth-proxy")...)
		cmd.Env = append(os.Environ(), "CGO_ENABLED=1")
	}
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("build the program: %w\n%s", err, out)
	}
	return nil
}

// need returns the path of a tool that Go does not bring, or lacks it.
func need(t testing.TB, tool string) string {
	t.Helper()
	path, err := exec.LookPath(tool)
	if err == nil {
		return path
	}
	// Brokers are installed where users do not look.
	for _, dir := range []string{"/usr/sbin", "/usr/local/sbin", "/opt/homebrew/sbin"} {
		if path, err := exec.LookPath(filepath.Join(dir, tool)); err == nil {
			return path
		}
	}
	lack(t, tool)
	return ""
}

// lack ends a story that cannot be told without a tool: it is skipped, and fails
// where CI=true says that everything must be there.
func lack(t testing.TB, tool string) {
	t.Helper()
	if os.Getenv("CI") == "true" {
		t.Fatalf("%s is missing: ./integration/install brings it", tool)
	}
	t.Skipf("%s is missing: ./integration/install brings it", tool)
}
