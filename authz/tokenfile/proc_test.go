package tokenfile

import (
	"flag"
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"sync"
	"testing"

	"go.uber.org/goleak"
)

// childEnv makes the test binary create tokens: PATH,NAME,COUNT.
const childEnv = "TOKENFILE_TEST_CREATE"

func TestMain(m *testing.M) {
	if os.Getenv(childEnv) != "" {
		os.Exit(createMany())
	}
	// Every edit waits for the disk; the command line may ask for more.
	if err := flag.Set("rapid.checks", "25"); err != nil {
		panic(err)
	}
	goleak.VerifyTestMain(m)
}

// createMany is the child process: it creates tokens and revokes every second one.
func createMany() int {
	parts := strings.Split(os.Getenv(childEnv), ",")
	count, _ := strconv.Atoi(parts[2])
	for i := range count {
		made, err := Create(parts[0], CreateOptions{Name: parts[1]})
		if err == nil && i%2 == 1 {
			_, err = Revoke(parts[0], made.ID)
		}
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 1
		}
		fmt.Println(made.ID, i%2 == 0)
	}
	return 0
}

// TestConcurrentProcessesLoseNothing lets processes write to one file at once.
func TestConcurrentProcessesLoseNothing(t *testing.T) {
	const processes, each = 6, 12
	path := tokenPath(t)
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	outputs := make([]string, processes)
	var wg sync.WaitGroup
	for p := range processes {
		wg.Go(func() {
			cmd := exec.CommandContext(t.Context(), self)
			cmd.Env = append(os.Environ(), fmt.Sprintf("%s=%s,device-%d,%d", childEnv, path, p, each))
			out, err := cmd.CombinedOutput()
			if err != nil {
				t.Errorf("process %d: %v: %s", p, err, out)
			}
			outputs[p] = string(out)
		})
	}
	wg.Wait()
	entries, err := List(path)
	if err != nil {
		t.Fatal(err)
	}
	if len(entries) != processes*each/2 {
		t.Errorf("%d entries, want %d", len(entries), processes*each/2)
	}
	all := strings.Join(outputs, "")
	for _, e := range entries {
		if !strings.Contains(all, e.ID+" true\n") {
			t.Errorf("%s is in the file, but was not created or was revoked", e.ID)
		}
	}
	if strings.Count(all, " true\n") != len(entries) {
		t.Errorf("%d tokens were made and kept, %d are in the file", strings.Count(all, " true\n"), len(entries))
	}
}
