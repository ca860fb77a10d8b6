package harness

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

// Output collects what a process writes, and lets tests wait for it.
type Output struct {
	mu   sync.Mutex
	text bytes.Buffer
	more chan struct{} // closed by the next write
}

// NewOutput returns an empty Output.
func NewOutput() *Output { return &Output{more: make(chan struct{})} }

func (o *Output) Write(b []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	close(o.more)
	o.more = make(chan struct{})
	return o.text.Write(b)
}

func (o *Output) snapshot() (text string, more <-chan struct{}) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.text.String(), o.more
}

func (o *Output) String() string {
	text, _ := o.snapshot()
	return text
}

// Take removes and returns the whole lines that have been written.
func (o *Output) Take() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	b := o.text.Bytes()
	n := strings.LastIndexByte(string(b), '\n') + 1
	return string(o.text.Next(n))
}

// Process is a program that runs in the background.
type Process struct {
	Cmd            *exec.Cmd
	Stdout, Stderr *Output
	Exited         chan struct{}
	status         int // once exited is closed; -1 after a signal
}

// Launch starts a program, which is killed when the test ends.
func Launch(t testing.TB, environ []string, argv ...string) *Process {
	t.Helper()
	return launchWith(t, nil, environ, argv...)
}

// launchWith is Launch for a program that inherits files, from descriptor 3 on.
func launchWith(t testing.TB, files []*os.File, environ []string, argv ...string) *Process {
	t.Helper()
	p := start(t, files, environ, argv...)
	t.Cleanup(p.Kill)
	return p
}

// start is launchWith for a program that the caller ends.
func start(t testing.TB, files []*os.File, environ []string, argv ...string) *Process {
	t.Helper()
	p := &Process{Cmd: exec.Command(argv[0], argv[1:]...), Stdout: NewOutput(), Stderr: NewOutput(), Exited: make(chan struct{})}
	p.Cmd.Env, p.Cmd.Stdout, p.Cmd.Stderr, p.Cmd.ExtraFiles = environ, p.Stdout, p.Stderr, files
	// Its children may outlive it for a while and hold its output open.
	p.Cmd.WaitDelay = 5 * time.Second
	if err := p.Cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() {
		defer close(p.Exited)
		_ = p.Cmd.Wait()
		p.status = p.Cmd.ProcessState.ExitCode()
	}()
	return p
}

// Signal sends a signal to the process, if it runs.
func (p *Process) Signal(s os.Signal) { _ = p.Cmd.Process.Signal(s) }

// Kill ends the process with SIGKILL and waits for its end.
func (p *Process) Kill() {
	p.Signal(os.Kill)
	<-p.Exited
}

// Wait returns the exit status.
func (p *Process) Wait(t testing.TB, limit time.Duration) int {
	t.Helper()
	select {
	case <-p.Exited:
		return p.status
	case <-time.After(limit):
		t.Fatalf("%s still runs after %v\n%s%s", p.Cmd.Args[0], limit, p.Stdout, p.Stderr)
		return 0
	}
}

// Await waits until done reports true for all that the process has written to o. what
// names the condition in error messages.
func (p *Process) Await(t testing.TB, o *Output, what string, done func(text string) bool) {
	t.Helper()
	limit := time.After(Patience)
	for {
		text, more := o.snapshot()
		if done(text) {
			return
		}
		select {
		case <-more:
		case <-p.Exited:
			// It may have written more between the check and its end.
			if text, _ := o.snapshot(); !done(text) {
				t.Fatalf("%s ended with status %d without %s\n%s%s", p.Cmd.Args[0], p.status, what, p.Stdout, p.Stderr)
			}
			return
		case <-limit:
			t.Fatalf("no %s from %s\n%s%s", what, p.Cmd.Args[0], p.Stdout, p.Stderr)
		}
	}
}

// Result is the outcome of a command.
type Result struct {
	Status         int
	Stdout, Stderr string
	Processor      time.Duration // time of processors, of the command and its children
}

// Output returns all that the command has printed.
func (r Result) Output() string { return r.Stdout + r.Stderr }

// Command is a program that runs until it ends by itself.
type Command struct {
	Dir   string
	Env   []string // nil stands for the environment of the test
	Args  []string
	Stdin string
}

// Run runs a command with the environment of the test.
func (c Command) Run(t testing.TB) Result {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 2*Patience)
	defer cancel()
	cmd := exec.CommandContext(ctx, c.Args[0], c.Args[1:]...)
	var stdout, stderr bytes.Buffer
	cmd.Dir, cmd.Env, cmd.Stdout, cmd.Stderr = c.Dir, c.Env, &stdout, &stderr
	cmd.Stdin = strings.NewReader(c.Stdin)
	err := cmd.Run()
	var exit *exec.ExitError
	if ctx.Err() != nil || err != nil && !errors.As(err, &exit) {
		t.Fatalf("%s: %v\n%s%s", c.Args[0], err, &stdout, &stderr)
	}
	return Result{cmd.ProcessState.ExitCode(), stdout.String(), stderr.String(), cmd.ProcessState.UserTime() + cmd.ProcessState.SystemTime()}
}

func Run(t testing.TB, argv ...string) Result {
	t.Helper()
	return Command{Args: argv}.Run(t)
}
