//go:build linux

// Command bench measures the proxy next to HAProxy, nginx and a bare Go relay on the same work
// and prints one table. See README.md.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"slices"
	"strconv"
	"strings"
	"syscall"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, os.Args[1:], os.Stdout, os.Stderr); err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

// run is the program. It starts itself again for the parts that need a separate process.
func run(ctx context.Context, args []string, stdout, stderr io.Writer) error {
	if len(args) > 0 {
		switch args[0] {
		case "sink":
			return runSink(stdout)
		case "service":
			return runService(stdout)
		case "relay":
			return runRelay(args[1:])
		case "load":
			return runLoad(args[1:], stdout)
		}
	}
	o, err := parseOptions(args, stderr)
	if err != nil {
		if errors.Is(err, flag.ErrHelp) {
			return nil
		}
		return err
	}
	b := &bench{options: o, progress: stderr}
	if o.rounds > 0 {
		if err := b.measure(ctx); err != nil {
			return err
		}
	}
	if o.file != "" {
		if b.records, err = readRecords(o.file); err != nil {
			return err
		}
	}
	if err := printTable(stdout, b.records, o.noise/100, false); err != nil || !o.update {
		return err
	}
	return updateDocuments(b.records, o.noise/100)
}

// options are the flags of the command line.
type options struct {
	targets, transports []string
	work                []string // nil for what is usual
	sessions            []int
	rounds              int
	quick, update       bool
	binary, file        string
	noise               float64
}

func parseOptions(args []string, stderr io.Writer) (options, error) {
	var o options
	f := flag.NewFlagSet("bench", flag.ContinueOnError)
	f.SetOutput(stderr)
	targets := f.String("targets", strings.Join(targetNames(), ","), "what to measure")
	work := f.String("rows", "usual", "which `WORK` to measure it on: usual, all, or names from "+strings.Join(workNames(), ","))
	transports := f.String("transports", "plain,tls", "between client and target")
	sessions := f.String("sessions", "9000", "how many sessions are idle at once, at most 9000")
	f.IntVar(&o.rounds, "rounds", 5, "how often everything is measured, in turns; 0 only prints the table of -o")
	f.BoolVar(&o.update, "update", false, "write the table into the documents that have it, see update.go")
	f.BoolVar(&o.quick, "quick", false, "do only a little of everything, to test the tool; the figures mean nothing")
	f.StringVar(&o.binary, "proxy", "bin/mqtt-auth-proxy", "the program under test, a `FILE`")
	f.StringVar(&o.file, "o", "", "append raw results to this `FILE`, JSON Lines, and print the table of everything in it")
	f.Float64Var(&o.noise, "noise", 100, "leave out of the table what was measured, but for memory, while other processes took more than this `percentage` of the machine")
	if err := f.Parse(args); err != nil {
		return o, err
	}
	if f.NArg() > 0 {
		return o, fmt.Errorf("unexpected argument %q", f.Arg(0))
	}
	var err error
	if o.targets, err = choose("targets", *targets, targetNames()); err != nil {
		return o, err
	}
	switch *work {
	case "usual":
	case "all":
		o.work = workNames()
	default:
		if o.work, err = choose("rows", *work, workNames()); err != nil {
			return o, err
		}
	}
	if o.transports, err = choose("transports", *transports, []string{"plain", "tls"}); err != nil {
		return o, err
	}
	for number := range strings.SplitSeq(*sessions, ",") {
		n, err := strconv.Atoi(number)
		if err != nil || n <= baseSessions || n > mostSessions {
			return o, fmt.Errorf("-sessions %s: want numbers from %d to %d", *sessions, baseSessions+1, mostSessions)
		}
		o.sessions = append(o.sessions, n)
	}
	return o, nil
}

// choose splits a list of names and returns them in the order of all.
func choose(flag, list string, all []string) ([]string, error) {
	chosen := strings.Split(list, ",")
	for _, name := range chosen {
		if !slices.Contains(all, name) {
			return nil, fmt.Errorf("-%s: no %q, there are %s", flag, name, strings.Join(all, ", "))
		}
	}
	return slices.DeleteFunc(all, func(name string) bool { return !slices.Contains(chosen, name) }), nil
}

// runLoad does one job, which it reads as JSON, and prints the outcome.
func runLoad(args []string, out io.Writer) error {
	var j job
	if err := json.Unmarshal([]byte(strings.Join(args, " ")), &j); err != nil {
		return fmt.Errorf("read the job: %w", err)
	}
	result, err := j.do()
	if err != nil {
		return err
	}
	return json.NewEncoder(out).Encode(result)
}
