//go:build linux

package main

import (
	"bufio"
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// tracer returns the command line that runs a target and writes each of its signals to a file. The
// program stops only at these calls, so that it runs as it does alone.
func tracer(dir string) (argv []string, trace string, err error) {
	program, err := find("strace")
	trace = filepath.Join(dir, "trace")
	return []string{program, "--seccomp-bpf", "-f", "-qq", "-e", "trace=tgkill", "-e", "signal=none", "-o", trace}, trace, err
}

// signals counts the signals that a Go program sends to its own threads while devices connect for
// some seconds: the collector's way to stop a goroutine that does not stop by itself.
func (l *load) signals() error {
	visits := func(d time.Duration) (number int, err error) {
		for until := time.Now().Add(d); err == nil && (number == 0 || time.Now().Before(until)); number += 10 * visitors {
			err = each(10*visitors, visitors, func(i int) error { return visitAs(l.Address, l.config, i) })
		}
		return number, err
	}
	if _, err := visits(l.warm); err != nil {
		return err
	}
	before, err := os.ReadFile(l.Trace)
	if err != nil {
		return err
	}
	number, err := visits(l.long)
	if err != nil {
		return err
	}
	after, err := os.ReadFile(l.Trace)
	if err != nil {
		return err
	}
	l.report("connect", "signals", float64(bytes.Count(after[len(before):], []byte("tgkill(")))/float64(number))
	return nil
}

// calls counts the system calls of a connect by kind, 8 at a time next to 50 idle sessions.
func (l *load) calls() error {
	const idle, atOnce = 50, 8
	devices, err := l.open(0, idle)
	if err != nil {
		return err
	}
	visit := func(i int) error { return visitAs(l.Address, l.config, i) }
	if err := each(l.size.connects/10, atOnce, visit); err != nil {
		return err
	}
	counts, err := l.traced(func() error { return each(l.size.connects, atOnce, visit) })
	if err != nil {
		return err
	}
	kinds := slices.Sorted(func(yield func(string) bool) {
		for kind, n := range counts {
			if n >= l.size.connects/20 && !yield(kind) {
				return
			}
		}
	})
	total := 0
	for _, n := range counts {
		total += n
	}
	l.report("system calls of a connect", "calls", float64(total)/float64(l.size.connects))
	for _, kind := range kinds {
		l.report("system call "+kind, "of a connect", float64(counts[kind])/float64(l.size.connects))
	}
	return ping(devices)
}

// traced returns how often the target called the system while f ran, by name.
func (l *load) traced(f func() error) (map[string]int, error) {
	argv := []string{"-f", "-c", "-U", "name,calls"}
	all, err := tree(l.TargetProcess)
	if err != nil {
		return nil, err
	}
	for _, pid := range all {
		argv = append(argv, "-p", strconv.Itoa(pid))
	}
	program, err := find("strace")
	if err != nil {
		return nil, err
	}
	var out bytes.Buffer
	strace := exec.Command(program, argv...)
	strace.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	strace.Stderr = &out
	if err := strace.Start(); err != nil {
		return nil, err
	}
	<-time.After(l.warm) // until it is attached
	err = f()
	<-time.After(l.warm)
	if failed := strace.Process.Signal(os.Interrupt); failed != nil {
		return nil, failed
	}
	_ = strace.Wait()
	if err != nil {
		return nil, err
	}
	return parseCalls(out.Bytes())
}

// parseCalls reads the table of strace -c -U name,calls.
func parseCalls(text []byte) (map[string]int, error) {
	counts := map[string]int{}
	for lines := bufio.NewScanner(bytes.NewReader(text)); lines.Scan(); {
		fields := strings.Fields(lines.Text())
		if len(fields) != 2 || fields[0] == "total" {
			continue
		}
		if n, err := strconv.Atoi(fields[1]); err == nil {
			counts[fields[0]] = n
		}
	}
	if len(counts) == 0 {
		return nil, fmt.Errorf("strace has counted nothing: %s", bytes.TrimSpace(text))
	}
	return counts, nil
}
