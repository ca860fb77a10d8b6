//go:build linux

package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// bench measures targets in turns.
type bench struct {
	options
	progress       io.Writer
	began          time.Time
	dir            string // certificate, tokens and configs
	ports          ports
	target, others *unix.CPUSet // processors
	versions       map[string]string
	records        []record
}

func (b *bench) measure(ctx context.Context) (err error) {
	b.began = time.Now()
	if b.dir, err = os.MkdirTemp("", "bench"); err != nil {
		return err
	}
	defer os.RemoveAll(b.dir)
	if err := writeCredentials(b.dir); err != nil {
		return err
	}
	if b.target, b.others, err = split(); err != nil {
		return err
	}
	if b.target == nil {
		fmt.Fprintln(b.progress, "There is a single processor, so that target, load and sink disturb each other.")
	}
	present, err := b.locate()
	if err != nil {
		return err
	}
	items, err := b.possible()
	if err != nil {
		return err
	}
	for round := range b.rounds {
		for _, it := range items {
			if it.once && round > 0 {
				continue
			}
			// The order changes in each round, in case it matters.
			for i := range present {
				t := present[(i+round)%len(present)]
				if !slices.Contains(it.targets, t.name) {
					continue
				}
				if err := b.one(ctx, round, it, t); err != nil {
					return fmt.Errorf("%s, %s, %s: %w", it.work, it.transport, t.name, err)
				}
			}
		}
	}
	return nil
}

// locate finds the chosen targets that are installed.
func (b *bench) locate() ([]target, error) {
	b.versions = map[string]string{}
	var present []target
	for _, t := range targets() {
		if !slices.Contains(b.targets, t.name) {
			continue
		}
		version, err := t.locate(b.options)
		if err != nil {
			if t.name == "proxy" || os.Getenv("CI") == "true" {
				return nil, fmt.Errorf("%s: %w (make build, integration/install)", t.title, err)
			}
			fmt.Fprintf(b.progress, "%s is left out: %v (integration/install)\n", t.title, err)
			continue
		}
		b.versions[t.name] = version
		present = append(present, t)
	}
	return present, nil
}

// possible returns the chosen items without those for which strace is missing.
func (b *bench) possible() ([]item, error) {
	items := b.items()
	if _, err := find("strace"); err != nil {
		traced := func(it item) bool { return it.work == "signals" || it.work == "calls" }
		if slices.ContainsFunc(items, traced) {
			if os.Getenv("CI") == "true" {
				return nil, fmt.Errorf("strace: %w (integration/install)", err)
			}
			fmt.Fprintf(b.progress, "The rows signals and calls are left out: strace: %v (integration/install)\n", err)
		}
		items = slices.DeleteFunc(items, traced)
	}
	return items, nil
}

// one measures one item on one target, with a new process for each part.
func (b *bench) one(ctx context.Context, round int, it item, t target) error {
	if !t.holds(it.sessions, it.transport) {
		fmt.Fprintf(b.progress, "%s cannot hold %d sessions within a limit of 20,000 files\n", t.title, it.sessions)
		return nil
	}
	on, others := b.target, b.others
	if it.shared {
		on, others = nil, nil
	}
	sink, broker, err := startPart(ctx, others, "sink")
	if err != nil {
		return err
	}
	defer sink.kill()
	s, err := b.settings(it, broker)
	if err != nil {
		return err
	}
	j := job{
		Work: it.work, TLS: it.transport == "tls", Address: s.Plain, Sink: broker,
		SinkPID: sink.pid(), Sessions: it.sessions, Quick: b.quick,
	}
	if it.variant == tokenService {
		service, address, err := startPart(ctx, others, "service")
		if err != nil {
			return err
		}
		defer service.kill()
		s.Service, j.Service = address, address
	}
	l := launch{processors: on}
	if it.variant == oneProcessor {
		l.environment = []string{"GOMAXPROCS=1"}
	}
	var wrap []string
	if it.work == "signals" {
		if wrap, j.Trace, err = tracer(b.dir); err != nil {
			return err
		}
	}
	p, err := t.start(ctx, s, l, wrap...)
	if err != nil {
		return err
	}
	defer p.kill()
	j.TargetProcess = p.pid()
	if j.TLS {
		j.Address = s.TLS
		if j.Certificate, err = os.ReadFile(filepath.Join(b.dir, "cert.pem")); err != nil {
			return err
		}
	}
	if t.collect != nil {
		j.Collect = t.collect(s)
	}
	result, err := j.hand(ctx, others)
	if err != nil {
		return fmt.Errorf("%w: %s", err, p.words)
	}
	return b.keep(round, it, t, result)
}

// startPart starts a part of this tool that prints its address first.
func startPart(ctx context.Context, on *unix.CPUSet, name string) (*process, string, error) {
	argv, err := ourselves(name)
	if err != nil {
		return nil, "", err
	}
	r, w, err := os.Pipe()
	if err != nil {
		return nil, "", err
	}
	defer r.Close()
	p, err := launch{argv: argv, processors: on, stdout: w}.start(ctx)
	w.Close()
	if err != nil {
		return nil, "", err
	}
	var address string
	if _, err := fmt.Fscan(r, &address); err != nil {
		p.kill()
		return nil, "", fmt.Errorf("start the %s: %w: %s", name, err, p.words)
	}
	return p, address, nil
}

func (b *bench) settings(it item, broker string) (s settings, err error) {
	s = settings{
		Dir: b.dir, Broker: broker, Splice: it.work == "bulk",
		Bundled: it.variant == bundled, Mapped: it.variant == mapped, Ruled: it.variant == ruled,
	}
	for _, address := range []*string{&s.Plain, &s.TLS, &s.Admin} {
		if *address, err = b.ports.address(); err != nil {
			return s, err
		}
	}
	return s, nil
}

// hand passes the job to another process.
func (j job) hand(ctx context.Context, on *unix.CPUSet) (result outcome, err error) {
	ctx, cancel := context.WithTimeout(ctx, 3*time.Minute)
	defer cancel()
	argv, err := ourselves("load")
	if err != nil {
		return result, err
	}
	text, err := json.Marshal(j)
	if err != nil {
		return result, err
	}
	var out bytes.Buffer
	p, err := launch{argv: append(argv, string(text)), processors: on, stdout: &out}.start(ctx)
	if err != nil {
		return result, err
	}
	<-p.exited
	if !p.cmd.ProcessState.Success() {
		return result, errors.Join(ctx.Err(), fmt.Errorf("load: %v: %s", p.cmd.ProcessState, p.words))
	}
	return result, json.Unmarshal(out.Bytes(), &result)
}

// keep records an outcome and shows it.
func (b *bench) keep(round int, it item, t target, result outcome) error {
	var records []record
	var shown []string
	for _, f := range result.Figures {
		records = append(records, record{
			Time: b.began.UTC().Truncate(time.Second), Round: round,
			Work: it.work, Transport: it.transport, Variant: it.variant,
			Target: t.name, Version: b.versions[t.name], figure: f, noise: result.Noise,
		})
		if !strings.HasPrefix(f.Metric, "system call ") {
			shown = append(shown, number(f.Value)+" "+f.Unit)
		}
	}
	b.records = append(b.records, records...)
	name := it.work
	if it.variant != usual {
		name += ", " + string(it.variant)
	}
	fmt.Fprintf(b.progress, "%v: round %d of %d, %s, %s, %s: %s; steal %.1f %%, others %.1f %%\n",
		time.Since(b.began).Round(time.Second), round+1, b.rounds, name, it.transport, t.title,
		strings.Join(shown, ", "), 100*result.Noise.Steal, 100*result.Noise.Others)
	if b.file == "" {
		return nil
	}
	return appendRecords(b.file, records)
}
