package harness

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"
)

// Memory returns the proportional set size of the program in bytes: the memory that would
// be free if the program ended.
func Memory(t testing.TB, p *Proxy) int64 {
	t.Helper()
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/smaps_rollup", p.Cmd.Process.Pid))
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(text)) {
		if fields := strings.Fields(line); len(fields) == 3 && fields[0] == "Pss:" {
			n, err := strconv.ParseInt(fields[1], 10, 64)
			if err != nil {
				t.Fatal(err)
			}
			return n << 10
		}
	}
	t.Fatalf("no Pss in %s", text)
	return 0
}

// ProcessorTime returns the processor time that a process and its children have used, exact to
// 10 ms for each of them.
func ProcessorTime(t testing.TB, p *Process) time.Duration {
	t.Helper()
	pids := []string{strconv.Itoa(p.Cmd.Process.Pid)}
	children, err := filepath.Glob("/proc/" + pids[0] + "/task/*/children")
	if err != nil || len(children) == 0 {
		t.Fatalf("process %s has ended: %v", pids[0], err)
	}
	for _, list := range children {
		// A thread may end meanwhile.
		text, _ := os.ReadFile(list)
		pids = append(pids, strings.Fields(string(text))...)
	}
	var all time.Duration
	for _, pid := range pids {
		// What a child has used that ends meanwhile is in its parent's time of ended children.
		text, _ := os.ReadFile("/proc/" + pid + "/stat")
		all += processorTime(string(text))
	}
	return all
}

// processorTime returns what /proc/PID/stat says, with the children that have ended.
func processorTime(stat string) (all time.Duration) {
	const user, last, tick = 11, 14, 10 * time.Millisecond // after the name, see proc(5)
	fields := strings.Fields(stat[strings.LastIndexByte(stat, ')')+1:])
	for i := user; i <= last && i < len(fields); i++ {
		n, _ := strconv.ParseInt(fields[i], 10, 64)
		all += time.Duration(n) * tick
	}
	return all
}

// Descriptors returns the number of files that the program has open.
func Descriptors(t testing.TB, p *Proxy) int {
	t.Helper()
	entries, err := os.ReadDir(fmt.Sprintf("/proc/%d/fd", p.Cmd.Process.Pid))
	if err != nil {
		t.Fatal(err)
	}
	return len(entries)
}
