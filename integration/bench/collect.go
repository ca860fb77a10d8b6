//go:build linux

package main

import (
	"fmt"
	"io"
	"net/http"
	"os"
	"os/signal"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"time"
)

// collect describes how to make the garbage collector of a Go program run: by a request for a heap
// profile or, if the program has none, by SIGUSR1.
type collect struct{ Profile, TokenFile string }

// profile is the way for the proxy, which creates the file with its token while it starts.
func (s settings) profile() collect {
	return collect{"http://" + s.Admin + "/debug/pprof/heap", filepath.Join(s.Dir, "admin-token")}
}

// collectOnSignal runs the collector when SIGUSR1 arrives.
func collectOnSignal() {
	asked := make(chan os.Signal, 1)
	signal.Notify(asked, syscall.SIGUSR1)
	for range asked {
		runtime.GC()
	}
}

// collect runs the target's collector repeatedly while sessions are idle, and reports the cost of
// one cycle, sweeping included: the processor time in addition to that of an idle target. The
// program's own trace would show more, because it counts the wall clock time of idle processors.
func (l *load) collect() error {
	devices, err := l.open(0, l.Sessions)
	if err != nil {
		return err
	}
	if err := ping(devices); err != nil {
		return err
	}
	<-time.After(l.calm)
	var cycles []float64
	for range l.cycles {
		without, err := l.ask("")
		if err != nil {
			return err
		}
		with, err := l.ask("?gc=1")
		if err != nil {
			return err
		}
		cycles = append(cycles, microseconds(with-without, 1)/1000)
	}
	l.report(fmt.Sprintf("%d sessions, collector", l.Sessions), "ms CPU/cycle", median(cycles))
	return ping(devices)
}

// ask returns the processor time that the target needs for a heap profile.
func (l *load) ask(query string) (time.Duration, error) {
	computed, _, err := l.spend(func() (err error) {
		switch {
		case l.Collect.Profile != "":
			err = l.Collect.profile(query)
		case query != "":
			err = syscall.Kill(l.TargetProcess, syscall.SIGUSR1)
		}
		<-time.After(l.calm / 20) // a signal is not answered
		return err
	})
	return computed, err
}

func (c collect) profile(query string) error {
	token, err := os.ReadFile(c.TokenFile)
	if err != nil {
		return err
	}
	r, err := http.NewRequest(http.MethodGet, c.Profile+query, nil)
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
