//go:build linux

package main

import (
	"fmt"
	"io"
	"net/http"
	"os"
	"os/signal"
	"path/filepath"
	"regexp"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// collect is how the collector of a Go program is made to run: by asking for a heap
// profile, or by SIGUSR1 if that cannot be had.
type collect struct{ Profile, TokenFile string }

// profile is how the proxy's is. The file comes into being while it starts.
func (s settings) profile() collect {
	return collect{"http://" + s.Admin + "/debug/pprof/heap?gc=1", filepath.Join(s.Dir, "admin-token")}
}

// collectOnSignal is the other side of SIGUSR1.
func collectOnSignal() {
	asked := make(chan os.Signal, 1)
	signal.Notify(asked, syscall.SIGUSR1)
	for range asked {
		runtime.GC()
	}
}

// collect has the target's collector run again and again while sessions are idle. What
// that costs the target says itself; see addCycles.
func (l *load) collect() error {
	devices, err := l.open(0, l.Sessions)
	if err != nil {
		return err
	}
	if err := ping(devices); err != nil {
		return err
	}
	<-time.After(l.calm)
	for range l.cycles {
		if err := l.Collect.once(l.TargetProcess); err != nil {
			return err
		}
		<-time.After(l.calm / 20)
	}
	return ping(devices)
}

func (c collect) once(pid int) error {
	if c.Profile == "" {
		return syscall.Kill(pid, syscall.SIGUSR1)
	}
	token, err := os.ReadFile(c.TokenFile)
	if err != nil {
		return err
	}
	r, err := http.NewRequest(http.MethodGet, c.Profile, nil)
	if err != nil {
		return err
	}
	r.Header.Set("Authorization", "Bearer "+strings.TrimSpace(string(token)))
	resp, err := http.DefaultClient.Do(r)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("ask for a heap profile: %s", resp.Status)
	}
	_, err = io.Copy(io.Discard, resp.Body)
	return err
}

// addCycles reports what the cycles cost that were asked for. trace is what the
// target has printed with GODEBUG=gctrace=1, see the package runtime.
func (o *outcome) addCycles(sessions int, trace string) error {
	cycles, err := readCycles(trace)
	if err != nil {
		return err
	}
	if len(cycles) == 0 {
		return fmt.Errorf("no cycle of the collector in %q", trace)
	}
	o.Figures = append(o.Figures, figure{fmt.Sprintf("%d sessions, collector", sessions), "ms CPU/cycle", median(cycles)})
	return nil
}

// readCycles returns the processor time in milliseconds of each cycle that was asked
// for.
func readCycles(trace string) (cycles []float64, err error) {
	// gc 7 @5.1s 0%: 0.05+9.1+0.01 ms clock, 0.1+0.2/8.9/1.1+0.02 ms cpu, ... 2 P (forced)
	for _, m := range regexp.MustCompile(`(?m)^gc \d+ .* ms clock, ([0-9./+]+) ms cpu, .*\(forced\)$`).FindAllStringSubmatch(trace, -1) {
		var total float64
		for part := range strings.FieldsFuncSeq(m[1], func(r rune) bool { return r == '+' || r == '/' }) {
			n, err := strconv.ParseFloat(part, 64)
			if err != nil {
				return nil, fmt.Errorf("cycle of the collector: %w", err)
			}
			total += n
		}
		cycles = append(cycles, total)
	}
	return cycles, nil
}
