package harness

import (
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// Port returns the port of an address.
func Port(address string) string { return address[strings.LastIndexByte(address, ':')+1:] }

// program is the path of the program under test, and withRace says whether it has the
// race detector. Only Main sets them.
var (
	program  string
	withRace bool
)

// Binary returns the path of the program under test.
func Binary() string { return program }

// Race reports whether the program was built with the race detector.
func Race() bool { return withRace }

// Patience is how long a story waits for what should happen at once. On a busy machine brokers and
// databases take long to start.
const Patience = time.Minute

// Main parses the flags, builds the program and runs the tests of a package. It
// returns the exit status for TestMain.
func Main(m *testing.M) int {
	flag.StringVar(&program, "proxy.binary", "", "test this `FILE` instead of building the program")
	flag.BoolVar(&withRace, "proxy.race", false, "build the program with the race detector, which needs a C compiler")
	flag.Parse()
	if program != "" {
		return m.Run()
	}
	dir, err := os.MkdirTemp("", "mqtt-auth-proxy")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer os.RemoveAll(dir)
	program = filepath.Join(dir, "mqtt-auth-proxy")
	if err := build(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return m.Run()
}

func build() error {
	const source = "github.com/mqtt-auth-proxy/mqtt-auth-proxy/cmd/mqtt-auth-proxy"
	args := []string{"build", "-trimpath", "-o", program}
	if withRace {
		args = append(args, "-race")
	}
	cmd := exec.Command("go", append(args, source)...)
	if withRace {
		cmd.Env = append(os.Environ(), "CGO_ENABLED=1")
	}
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("build the program: %w\n%s", err, out)
	}
	return nil
}

// Need returns the path of a tool that does not come with Go. Without it the test is
// skipped, or fails where CI=true.
func Need(t testing.TB, tool string) string {
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
	Skip(t, tool+" is missing: ./integration/install brings it")
	return ""
}

// NeedFile returns the path of a file that ./integration/install brings, as Need does.
// The path may be a pattern of filepath.Match.
func NeedFile(t testing.TB, path string) string {
	t.Helper()
	found, err := filepath.Glob(path)
	if err != nil {
		t.Fatal(err)
	}
	if len(found) == 0 {
		Skip(t, path+" is missing: ./integration/install brings it")
	}
	return found[0]
}

// Skip skips a test that cannot run on this machine. Where CI=true says that nothing may
// be left out, the test fails.
func Skip(t testing.TB, why string) {
	t.Helper()
	if os.Getenv("CI") == "true" {
		t.Fatal(why)
	}
	t.Skip(why)
}

// WithdrawalLimit is how long a session may live on after its token was withdrawn. Slack is what a
// busy machine may add to that, and to other times that a story compares. Both together are less
// than the ten seconds after which a file is read even if it seems not to have changed.
const (
	WithdrawalLimit = time.Second
	Slack           = 8 * time.Second
)
