//go:build linux

package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// tree returns a process and all its descendants.
func tree(pid int) ([]int, error) {
	all := []int{pid}
	lists, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/children", pid))
	if err != nil || len(lists) == 0 {
		return nil, fmt.Errorf("process %d is gone: %w", pid, os.ErrProcessDone)
	}
	for _, list := range lists {
		text, err := os.ReadFile(list)
		if err != nil {
			return nil, err
		}
		for field := range strings.FieldsSeq(string(text)) {
			child, err := strconv.Atoi(field)
			if err != nil {
				return nil, err
			}
			below, err := tree(child)
			if err != nil {
				return nil, err
			}
			all = append(all, below...)
		}
	}
	return all, nil
}

// sum adds up the results of f for a process and all its descendants.
func sum[N ~int | ~int64](pid int, f func(pid int) (N, error)) (N, error) {
	all, err := tree(pid)
	if err != nil {
		return 0, err
	}
	var total N
	for _, pid := range all {
		n, err := f(pid)
		if err != nil {
			return 0, err
		}
		total += n
	}
	return total, nil
}

// processorTime returns the processor time of all threads of a process, including those that have
// ended, in user and kernel mode.
func processorTime(pid int) (time.Duration, error) {
	// The clock of another process, as clock_getcpuclockid(3) makes it up.
	const scheduled = 2
	var ts unix.Timespec
	if err := unix.ClockGettime(int32(^pid<<3|scheduled), &ts); err != nil {
		return 0, fmt.Errorf("processor time of %d: %w", pid, err)
	}
	return time.Duration(ts.Nano()), nil
}

// memory returns the proportional set size of a process in bytes: the memory that would be free if
// the process ended.
func memory(pid int) (int64, error) {
	name := fmt.Sprintf("/proc/%d/smaps_rollup", pid)
	text, err := os.ReadFile(name)
	if err != nil {
		return 0, err
	}
	for line := range strings.Lines(string(text)) {
		if fields := strings.Fields(line); len(fields) == 3 && fields[0] == "Pss:" {
			n, err := strconv.ParseInt(fields[1], 10, 64)
			return n << 10, err
		}
	}
	return 0, fmt.Errorf("no Pss in %s", name)
}

// descriptors returns how many files a process has open.
func descriptors(pid int) (int, error) {
	entries, err := os.ReadDir(fmt.Sprintf("/proc/%d/fd", pid))
	return len(entries), err
}

// machine has the time that all processors have spent since the start, in ticks.
type machine struct{ busy, stolen, total int64 }

func readMachine() (machine, error) {
	text, err := os.ReadFile("/proc/stat")
	if err != nil {
		return machine{}, err
	}
	line, _, _ := strings.Cut(string(text), "\n")
	fields := strings.Fields(line)
	if len(fields) < 9 {
		return machine{}, fmt.Errorf("/proc/stat begins with %q", line)
	}
	var m machine
	// user nice system idle iowait irq softirq steal
	for i, field := range fields[1:9] {
		n, err := strconv.ParseInt(field, 10, 64)
		if err != nil {
			return machine{}, fmt.Errorf("/proc/stat: %w", err)
		}
		m.total += n
		switch i {
		case 3, 4:
		case 7:
			m.stolen += n
		default:
			m.busy += n
		}
	}
	return m, nil
}

// noise is what may have disturbed a measurement: the share of the machine that other virtual
// machines used, and the share of processes that are not part of the benchmark.
type noise struct {
	Steal  float64 `json:"steal"`
	Others float64 `json:"others"`
}

// noiseSince returns the noise since before; own is the processor time of the benchmark's
// processes.
func noiseSince(before machine, own time.Duration) (noise, error) {
	now, err := readMachine()
	if err != nil || now.total == before.total {
		return noise{}, err
	}
	const ticksPerSecond = 100 // for every architecture that Go runs on
	total := float64(now.total - before.total)
	others := float64(now.busy-before.busy) - own.Seconds()*ticksPerSecond
	return noise{Steal: float64(now.stolen-before.stolen) / total, Others: max(0, others/total)}, nil
}
