//go:build linux

package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"runtime"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// patience is how long to wait for something that should happen at once.
const patience = 20 * time.Second

// tail keeps the last lines that a process has written.
type tail struct {
	mu   sync.Mutex
	text []byte
}

func (t *tail) Write(b []byte) (int, error) {
	const most = 4 << 10
	t.mu.Lock()
	defer t.mu.Unlock()
	t.text = append(t.text, b...)
	t.text = t.text[max(0, len(t.text)-most):]
	return len(b), nil
}

func (t *tail) String() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return string(bytes.TrimSpace(t.text))
}

// process is a program that runs in the background until it is killed.
type process struct {
	cmd    *exec.Cmd
	words  *tail
	exited chan struct{}
}

// launch says how to start a program.
type launch struct {
	argv        []string
	environment []string     // in addition to that of this process
	processors  *unix.CPUSet // on which the program runs; nil for all
	stdout      io.Writer    // may be nil
}

// start runs the program, which is killed when this process ends.
func (l launch) start(ctx context.Context) (*process, error) {
	p := &process{cmd: exec.CommandContext(ctx, l.argv[0], l.argv[1:]...), words: &tail{}, exited: make(chan struct{})}
	// The program's children are killed with it, and it is killed with this process.
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	p.cmd.Cancel = func() error { return syscall.Kill(-p.cmd.Process.Pid, syscall.SIGKILL) }
	p.cmd.Stderr, p.cmd.Stdout = p.words, p.words
	if l.stdout != nil {
		p.cmd.Stdout = l.stdout
	}
	p.cmd.Env = append(os.Environ(), l.environment...)
	if err := startOn(l.processors, p.cmd); err != nil {
		return nil, err
	}
	go func() {
		defer close(p.exited)
		_ = p.cmd.Wait()
	}()
	return p, nil
}

// startOn starts a command on some processors: a process inherits them from the thread that
// creates it.
func startOn(processors *unix.CPUSet, cmd *exec.Cmd) error {
	if processors == nil {
		return cmd.Start()
	}
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	var before unix.CPUSet
	if err := unix.SchedGetaffinity(0, &before); err != nil {
		return err
	}
	if err := unix.SchedSetaffinity(0, processors); err != nil {
		return err
	}
	return errors.Join(cmd.Start(), unix.SchedSetaffinity(0, &before))
}

// split divides the processors of this process: the last one is for the target, the others are for
// load, sink and token service. With a single processor both are nil.
func split() (target, others *unix.CPUSet, err error) {
	all, last := new(unix.CPUSet), new(unix.CPUSet)
	if err := unix.SchedGetaffinity(0, all); err != nil || all.Count() < 2 {
		return nil, nil, err
	}
	for cpu, left := 0, all.Count(); left > 0; cpu++ {
		if !all.IsSet(cpu) {
			continue
		}
		if left--; left == 0 {
			last.Set(cpu)
			all.Clear(cpu)
		}
	}
	return last, all, nil
}

func (p *process) kill() {
	_ = p.cmd.Cancel()
	<-p.exited
}

func (p *process) pid() int { return p.cmd.Process.Pid }

// serves waits until an address accepts connections.
func (p *process) serves(ctx context.Context, address string) error {
	limit := time.After(patience)
	for {
		var d net.Dialer
		if conn, err := d.DialContext(ctx, "tcp", address); err == nil {
			return conn.Close()
		}
		select {
		case <-p.exited:
			return fmt.Errorf("%s ended at its start: %s", p.cmd.Args[0], p.words)
		case <-limit:
			return fmt.Errorf("%s does not accept connections: %s", p.cmd.Args[0], p.words)
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(2 * time.Millisecond):
		}
	}
}

// ourselves runs this tool again as one of its parts.
func ourselves(args ...string) ([]string, error) {
	self, err := os.Executable()
	return append([]string{self}, args...), err
}

// find returns the path of a program, which may be in a directory that is not in a user's PATH.
func find(program string) (string, error) {
	for _, name := range []string{program, "/usr/sbin/" + program, "/usr/local/sbin/" + program} {
		if path, err := exec.LookPath(name); err == nil {
			return path, nil
		}
	}
	return "", exec.ErrNotFound
}

// ports hands out free ports below those that the system assigns to connections, so that no
// connection takes a port after it was chosen.
type ports struct{ last int }

func (p *ports) address() (string, error) {
	const first, count = 12000, 18000
	for range count {
		p.last++
		address := fmt.Sprintf("127.0.0.1:%d", first+(os.Getpid()*61+p.last)%count)
		if ln, err := net.Listen("tcp", address); err == nil {
			return address, ln.Close()
		}
	}
	return "", errors.New("no free port")
}
