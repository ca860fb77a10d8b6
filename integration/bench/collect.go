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

// collect is how the collector of a Go program is made to run: by asking for a heap
// profile, or by SIGUSR1 if that cannot be had.
type collect struct{ Profile, TokenFile string }

// profile is how the proxy's is. The file comes into being while it starts.
func (s settings) profile() collect {
	return collect{"http://" + s.Admin + "/debug/pprof/heap", filepath.Join(s.Dir, "admin-token")}
}

// collectOnSignal is the other side of SIGUSR1.
func collectOnSignal() {
	asked := make(chan os.Signal, 1)
	signal.Notify(asked, syscall.SIGUSR1)
	for range asked {
		runtime.GC()
	}
}

// collect has the target's collector run again and again while sessions are idle, and
// reports what one cycle costs, sweeping included: what the target computes more than
// without it. What the program's own trace says is more: it takes what idle processors
// are lent for by the clock on the wall.
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

// ask returns how long the target computes for a heap profile.
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
