// Command mqtt-auth-proxy checks the access tokens of MQTT devices in front of a broker.
// README.md in this directory is the operator's manual.
//
// The package is the command line. The running program is package
// [github.com/mqtt-auth-proxy/mqtt-auth-proxy/cmd/internal/service].
package main

import (
	"context"
	"fmt"
	"io"
	"log"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/cmd/internal/observe"
)

func main() {
	os.Exit(run(os.Args[1:]))
}

// run is the program. It returns the exit status.
func run(args []string) int {
	p := &program{stdout: os.Stdout, stderr: os.Stderr, environ: os.Environ()}
	defer p.flush()
	root := p.rootCommand()
	root.SetArgs(args)
	if err := root.ExecuteContext(context.Background()); err != nil {
		fmt.Fprintln(p.stderr, errorText(err))
		return 1
	}
	return 0
}

// detach makes a command that serves devices independent of the reader of its output. A reader that
// ends must not end the program (a write to a pipe without a reader raises SIGPIPE), and one that
// stalls must not block it. Every other command may depend on its reader.
func (p *program) detach() {
	signal.Ignore(syscall.SIGPIPE)
	if f, ok := p.stderr.(*os.File); ok {
		p.stderr = ownStderr(f)
	}
	out, err := observe.NewOutput(p.stdout), observe.NewOutput(p.stderr)
	p.stdout, p.stderr, p.detached = out, err, []*observe.Output{out, err}
}

// flushTimeout is how long the readers may take to read the last output of the program.
const flushTimeout = time.Second

// flush writes what is left of the output of a detached program.
func (p *program) flush() {
	for _, o := range p.detached {
		o.Close(flushTimeout)
	}
}

// redirectStandardLog sends what libraries log by package log to w.
func redirectStandardLog(w io.Writer) {
	log.SetFlags(0)
	log.SetOutput(w)
}
