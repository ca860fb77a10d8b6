// Command mqtt-auth-proxy checks the access tokens of MQTT devices in front of a
// broker. README.md beside this file is the operator's manual.
package main

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/cmd/internal/observe"
)

func main() {
	os.Exit(run(os.Args[1:]))
}

// run is the program; it returns the exit status.
func run(args []string) int {
	signals := make(chan os.Signal, 2)
	signal.Notify(signals, os.Interrupt, syscall.SIGTERM, syscall.SIGHUP)
	defer signal.Stop(signals)
	p := &program{stdout: os.Stdout, stderr: os.Stderr, environ: os.Environ(), signals: signals}
	defer p.lastWords()
	root := p.rootCommand()
	root.SetArgs(args)
	if err := root.ExecuteContext(context.Background()); err != nil {
		fmt.Fprintln(p.stderr, errorText(err))
		return 1
	}
	return 0
}

// detach makes the program independent of who reads its output, for a command that
// serves: a reader that ends must not end it (a write to a pipe without one raises
// SIGPIPE), and one that stalls must not hold anything up. Every other command is
// done once its output has been read.
func (p *program) detach() {
	signal.Ignore(syscall.SIGPIPE)
	if f, ok := p.stderr.(*os.File); ok {
		p.stderr = ownStderr(f)
	}
	out, err := observe.NewOutput(p.stdout), observe.NewOutput(p.stderr)
	p.stdout, p.stderr, p.detached = out, err, []*observe.Output{out, err}
}

// patience is how long a reader may take for the last words of the program.
const patience = time.Second

// lastWords writes what a detached program still has to say.
func (p *program) lastWords() {
	for _, o := range p.detached {
		o.Close(patience)
	}
}
