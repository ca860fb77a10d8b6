package sqlite

import (
	"bufio"
	"context"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/cmd/internal/telemetry"
)

// publisherEnv holds the database path of a test binary that publishes.
const publisherEnv = "TELEMETRY_TEST_PUBLISHER"

const publisherDevices = 4

// publishUntilKilled prints a line for each message once it is stored.
func publishUntilKilled(path string) {
	s, err := Open(context.Background(), Options{Path: path})
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	var (
		publishers sync.WaitGroup
		output     sync.Mutex
	)
	for device := range publisherDevices {
		publishers.Go(func() {
			for i := 1; ; i++ {
				data := fmt.Appendf(nil, `{"ts":%d,"values":{"n":%d}}`, i, i)
				if err := intake(s).Telemetry(context.Background(), fmt.Sprint(device), data); err != nil {
					fmt.Fprintln(os.Stderr, err)
					os.Exit(1)
				}
				output.Lock()
				fmt.Println(device, i)
				output.Unlock()
			}
		})
	}
	publishers.Wait()
}

func TestAcknowledgedSurvivesKill(t *testing.T) {
	path := filepath.Join(t.TempDir(), "t.db")
	last := make([]int64, publisherDevices)
	for round := range 3 {
		acknowledged := killPublisher(t, path, 300)
		s := open(t, Options{Path: path})
		for device, n := range acknowledged {
			last[device] = max(last[device], n)
			checkSurvived(t, s, fmt.Sprint(device), last[device])
		}
		checkUsage(t, s)
		if err := s.Close(); err != nil {
			t.Fatalf("round %d: %v", round, err)
		}
	}
}

// killPublisher runs a publisher, kills it after some acknowledgements and
// returns the last one of each device.
func killPublisher(t *testing.T, path string, after int) []int64 {
	t.Helper()
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), publisherEnv+"="+path)
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	last := make([]int64, publisherDevices)
	lines := 0
	for scanner := bufio.NewScanner(out); scanner.Scan(); lines++ {
		var device, n int64
		if _, err := fmt.Sscan(scanner.Text(), &device, &n); err != nil {
			break // the line that was cut off
		}
		last[device] = max(last[device], n)
		if lines == after {
			checkInUse(t, path, cmd.Process.Pid)
			if err := cmd.Process.Kill(); err != nil {
				t.Fatal(err)
			}
		}
	}
	if err := cmd.Wait(); err == nil || lines < after {
		t.Fatalf("publisher ended by itself after %d lines", lines)
	}
	return last
}

// TestOneOwner: two stores on one file would delete each other's notes of what the
// table latest has not seen, and neither would see what the other acknowledges.
// TestAcknowledgedSurvivesKill holds the same for two processes, and that a process
// that was killed leaves no lock behind.
func TestOneOwner(t *testing.T) {
	s := open(t, Options{})
	checkInUse(t, s.opts.Path, os.Getpid())
	publish(t, s, "d", `{"ts":1,"values":{"a":1}}`)
	check(t, "latest", latest(t, s, "d"), `a=1@1`)
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	s = open(t, Options{Path: s.opts.Path})
	check(t, "latest of the next owner", latest(t, s, "d"), `a=1@1`)
}

// TestOwnerWithoutName: the lock decides, and not the content of the file.
func TestOwnerWithoutName(t *testing.T) {
	path := filepath.Join(t.TempDir(), "t.db")
	write(t, path+".lock", []byte("4711\n"))
	s := open(t, Options{Path: path})
	checkInUse(t, path, os.Getpid())
	write(t, s.opts.Path+".lock", nil)
	if _, err := Open(t.Context(), Options{Path: path}); err == nil || !strings.Contains(err.Error(), "in use by another process") {
		t.Errorf("error %v does not say that the database is in use", err)
	}
}

// checkInUse checks that a second store is refused with the name of the owner.
func checkInUse(t *testing.T, path string, pid int) {
	t.Helper()
	s, err := Open(t.Context(), Options{Path: path})
	if err == nil {
		t.Fatal("opened a database that is in use", s.Close())
	}
	if want := fmt.Sprintf("%s: it is in use by process %d: stop that process first", path, pid); !strings.Contains(err.Error(), want) {
		t.Errorf("error %q does not say %q", err, want)
	}
}

// checkUsage checks that the bytes that are counted are those that there are.
func checkUsage(t *testing.T, s *Store) {
	t.Helper()
	if counted, stored := bytesOf(t, s, countedBytes), bytesOf(t, s, storedBytes); !maps.Equal(counted, stored) {
		t.Errorf("%v are counted, %v are stored", counted, stored)
	}
}

// checkSurvived checks that messages 1 to n are there, and that the newest
// value is that of the newest message, which may be a later one.
func checkSurvived(t *testing.T, s *Store, device string, n int64) {
	t.Helper()
	points, err := telemetry.Points(t.Context(), s, telemetry.Query{Device: device, Keys: []string{"n"}, Start: 1, End: 1 << 40, Limit: 200_000, Order: "ASC"})
	if err != nil {
		t.Fatal(err)
	}
	list := points["n"]
	if int64(len(list)) < n {
		t.Fatalf("device %s: %d messages, %d were acknowledged", device, len(list), n)
	}
	if len(list) == 0 { // A device may have had no turn before the kill.
		return
	}
	for i, p := range list {
		if value, ok := p.Value.Long(); p.TS != int64(i+1) || !ok || value != p.TS {
			t.Fatalf("device %s: message %d is %s", device, i+1, showPoint(p))
		}
	}
	check(t, "latest of "+device, latest(t, s, device), "n="+showPoint(list[len(list)-1]))
}
