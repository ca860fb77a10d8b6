//go:build integration

package integration

import (
	"bytes"
	"context"
	"errors"
	"os"
	"os/exec"
	"strings"
	"sync"
	"testing"
	"time"
)

// output collects what a process writes and lets others wait for it.
type output struct {
	mu   sync.Mutex
	text bytes.Buffer
	more chan struct{} // closed by the next write
}

func newOutput() *output { return &output{more: make(chan struct{})} }

func (o *output) Write(b []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	close(o.more)
	o.more = make(chan struct{})
	return o.text.Write(b)
}

func (o *output) snapshot() (text string, more <-chan struct{}) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.text.String(), o.more
}

func (o *output) String() string {
	text, _ := o.snapshot()
	return text
}

// take returns what has been written in whole lines, and forgets it.
func (o *output) take() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	b := o.text.Bytes()
	n := strings.LastIndexByte(string(b), '\n') + 1
	return string(o.text.Next(n))
}

// process is a program that runs in the background.
type process struct {
	cmd            *exec.Cmd
	stdout, stderr *output
	exited         chan struct{}
	status         int // once exited is closed; -1 after a signal
}

// launch starts a program and sees to it that it does not outlive the test.
func launch(t testing.TB, environ []string, argv ...string) *process {
	t.Helper()
	return launchWith(t, nil, environ, argv...)
}

// launchWith hands files down to the program, from descriptor 3 on.
func launchWith(t testing.TB, files []*os.File, environ []string, argv ...string) *process {
	t.Helper()
	p := &process{cmd: exec.Command(argv[0], argv[1:]...), stdout: newOutput(), stderr: newOutput(), exited: make(chan struct{})}
	p.cmd.Env, p.cmd.Stdout, p.cmd.Stderr, p.cmd.ExtraFiles = environ, p.stdout, p.stderr, files
	// Children of its own may outlive it for a while, with the output in their hands.
	p.cmd.WaitDelay = 5 * time.Second
	if err := p.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() {
		defer close(p.exited)
		_ = p.cmd.Wait()
		p.status = p.cmd.ProcessState.ExitCode()
	}()
	t.Cleanup(p.kill)
	return p
}

func (p *process) signal(s os.Signal) { _ = p.cmd.Process.Signal(s) }

// kill ends the process as a power failure would: without a word.
func (p *process) kill() {
	p.signal(os.Kill)
	<-p.exited
}

// wait returns the exit status.
func (p *process) wait(t testing.TB, limit time.Duration) int {
	t.Helper()
	select {
	case <-p.exited:
		return p.status
	case <-time.After(limit):
		t.Fatalf("%s still runs after %v\n%s%s", p.cmd.Args[0], limit, p.stdout, p.stderr)
		return 0
	}
}

// await waits until done is true of what the process has written to o.
func (p *process) await(t testing.TB, o *output, what string, done func(text string) bool) {
	t.Helper()
	limit := time.After(patience)
	for {
		text, more := o.snapshot()
		if done(text) {
			return
		}
		select {
		case <-more:
		case <-p.exited:
			// Its last words may have come between the look and the end.
			if text, _ := o.snapshot(); !done(text) {
				t.Fatalf("%s ended with status %d without %s\n%s%s", p.cmd.Args[0], p.status, what, p.stdout, p.stderr)
			}
			return
		case <-limit:
			t.Fatalf("no %s from %s\n%s%s", what, p.cmd.Args[0], p.stdout, p.stderr)
		}
	}
}

// result is how a command ended.
type result struct {
	status         int
	stdout, stderr string
}

func (r result) all() string { return r.stdout + r.stderr }

// command is a program that runs to its end.
type command struct {
	dir     string
	environ []string // nil means that of the test
	argv    []string
}

func (c command) run(t testing.TB) result {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 2*patience)
	defer cancel()
	cmd := exec.CommandContext(ctx, c.argv[0], c.argv[1:]...)
	var stdout, stderr bytes.Buffer
	cmd.Dir, cmd.Env, cmd.Stdout, cmd.Stderr = c.dir, c.environ, &stdout, &stderr
	err := cmd.Run()
	var exit *exec.ExitError
	if ctx.Err() != nil || err != nil && !errors.As(err, &exit) {
		t.Fatalf("%s: %v\n%s%s", c.argv[0], err, &stdout, &stderr)
	}
	return result{cmd.ProcessState.ExitCode(), stdout.String(), stderr.String()}
}

func run(t testing.TB, argv ...string) result {
	t.Helper()
	return command{argv: argv}.run(t)
}
