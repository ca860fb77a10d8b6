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
)

// bench measures targets in turns.
type bench struct {
	options
	progress io.Writer
	dir      string // certificate and tokens
	ports    ports
	versions map[string]string
	records  []record
}

// item is one thing to measure in every round.
type item struct {
	work, transport string
	sessions        int
}

func (b *bench) measure(ctx context.Context) (err error) {
	if b.dir, err = os.MkdirTemp("", "bench"); err != nil {
		return err
	}
	defer os.RemoveAll(b.dir)
	if err := writeCredentials(b.dir); err != nil {
		return err
	}
	present, err := b.locate()
	if err != nil {
		return err
	}
	for round := range b.rounds {
		for _, it := range b.items() {
			// The order changes in each round, in case it matters.
			for i := range present {
				t := present[(i+round)%len(present)]
				if !t.does(it.work, it.transport) {
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
			fmt.Fprintf(b.progress, "%s is left out: %v\n", t.title, err)
			continue
		}
		b.versions[t.name] = version
		present = append(present, t)
	}
	return present, nil
}

func (b *bench) items() []item {
	var all []item
	for _, w := range b.work {
		for _, transport := range b.transports {
			if w != "idle" && w != "gc" {
				all = append(all, item{w, transport, 0})
				continue
			}
			for _, n := range b.sessions {
				all = append(all, item{w, transport, n})
			}
		}
	}
	return all
}

// one measures one item on one target, with a new process for each part.
func (b *bench) one(ctx context.Context, round int, it item, t target) error {
	if !t.holds(it.sessions, it.transport) {
		fmt.Fprintf(b.progress, "%s cannot hold %d sessions within a limit of 20,000 files\n", t.title, it.sessions)
		return nil
	}
	sink, broker, err := startSink(ctx)
	if err != nil {
		return err
	}
	defer sink.kill()
	s, err := b.settings(t, broker)
	if err != nil {
		return err
	}
	p, err := t.start(ctx, s)
	if err != nil {
		return err
	}
	defer p.kill()
	j := job{
		Work: it.work, TLS: it.transport == "tls", Address: s.Plain, Sink: broker,
		TargetProcess: p.pid(), SinkPID: sink.pid(), Sessions: it.sessions, Quick: b.quick,
	}
	if j.TLS {
		j.Address = s.TLS
		if j.Certificate, err = os.ReadFile(filepath.Join(b.dir, "cert.pem")); err != nil {
			return err
		}
	}
	if t.collect != nil {
		j.Collect = t.collect(s)
	}
	result, err := j.hand(ctx)
	if err != nil {
		return fmt.Errorf("%w: %s", err, p.words)
	}
	return b.keep(round, it, t, result)
}

func startSink(ctx context.Context) (*process, string, error) {
	argv, err := ourselves("sink")
	if err != nil {
		return nil, "", err
	}
	r, w, err := os.Pipe()
	if err != nil {
		return nil, "", err
	}
	defer r.Close()
	p, err := start(ctx, w, argv...)
	w.Close()
	if err != nil {
		return nil, "", err
	}
	var address string
	if _, err := fmt.Fscan(r, &address); err != nil {
		p.kill()
		return nil, "", fmt.Errorf("start the sink: %w: %s", err, p.words)
	}
	return p, address, nil
}

func (b *bench) settings(t target, broker string) (s settings, err error) {
	s = settings{Dir: b.dir, Broker: broker, Threads: b.threads, Splice: t.splice, Bundled: t.bundled, Mapped: t.mapped}
	for _, address := range []*string{&s.Plain, &s.TLS, &s.Admin} {
		if *address, err = b.ports.address(); err != nil {
			return s, err
		}
	}
	return s, nil
}

// hand passes the job to another process.
func (j job) hand(ctx context.Context) (result outcome, err error) {
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
	p, err := start(ctx, &out, append(argv, string(text))...)
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
			Time: time.Now().UTC().Truncate(time.Second), Work: it.work, Transport: it.transport,
			Target: t.name, Version: b.versions[t.name], figure: f, noise: result.Noise,
		})
		shown = append(shown, number(f.Value)+" "+f.Unit)
	}
	b.records = append(b.records, records...)
	fmt.Fprintf(b.progress, "round %d of %d, %s, %s, %s: %s; steal %.1f %%, others %.1f %%\n", round+1, b.rounds,
		it.work, it.transport, t.title, strings.Join(shown, ", "), 100*result.Noise.Steal, 100*result.Noise.Others)
	if b.file == "" {
		return nil
	}
	return appendRecords(b.file, records)
}
