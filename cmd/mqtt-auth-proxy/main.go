// Command mqtt-auth-proxy checks the access tokens of MQTT devices in front of a
// broker. README.md beside this file is the operator's manual.
package main

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"syscall"
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
	root := p.rootCommand()
	root.SetArgs(args)
	if err := root.ExecuteContext(context.Background()); err != nil {
		fmt.Fprintln(os.Stderr, errorText(err))
		return 1
	}
	return 0
}
