//go:build linux

package main

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"os"
	"time"
)

// job describes the work on one target that a separate process does.
type job struct {
	Work                   string
	TLS                    bool
	Address, Sink          string // of the target, and of the sink behind it
	Certificate            []byte // PEM
	Service, Trace         string // address of the token service, and file of the tracer, if any
	TargetProcess, SinkPID int
	Sessions               int
	Collect                collect // for a Go program
	Quick                  bool
}

// outcome is the result of a job.
type outcome struct {
	Figures []figure
	Noise   noise
}

// figure is one result.
type figure struct {
	Metric string  `json:"metric"`
	Unit   string  `json:"unit"`
	Value  float64 `json:"value"`
}

// work is one kind of work on which targets are measured.
type work struct {
	name string
	do   func(*load) error
}

func works() []work {
	return []work{
		{"idle", (*load).idle},
		{"paced", (*load).paced},
		{"ping", (*load).pings},
		{"storm", (*load).storm},
		{"signals", (*load).signals},
		{"calls", (*load).calls},
		{"flat", (*load).flat},
		{"bulk", (*load).bulk},
		{"connect", (*load).connects},
		{"latency", (*load).latency},
		{"quiet", (*load).quiet},
		{"fair", (*load).fair},
		{"held", (*load).held},
		{"gc", (*load).collect},
	}
}

// size says how much work is done.
type size struct {
	calm            time.Duration // before memory is read
	warm, paced     time.Duration
	long            time.Duration // of signals
	flat            time.Duration
	bulk            int // messages of 256 KiB
	connects, plain int // by TLS and without
	samples         int // of latency
	pause           time.Duration
	pauses          int // of quiet
	turn            time.Duration
	turns, cycles   int // of fairness and limits, of the collector
	busy            int // sessions that are held, and as many that are not
	devices         int // that come back at once
}

func (j job) size() size {
	if j.Quick {
		return size{
			calm: 20 * time.Millisecond, warm: 10 * time.Millisecond, paced: 50 * time.Millisecond, long: 50 * time.Millisecond, flat: 20 * time.Millisecond,
			bulk: 16, connects: 32, plain: 32, samples: 10, pause: 25 * time.Millisecond, pauses: 4,
			turn: 10 * time.Millisecond, turns: 1, cycles: 2, busy: 20, devices: 50,
		}
	}
	return size{
		calm: 5 * time.Second, warm: 500 * time.Millisecond, paced: 2 * time.Second, long: 6 * time.Second, flat: time.Second,
		bulk: 2048, connects: 1500, plain: 6000, samples: 400, pause: 300 * time.Millisecond, pauses: 30,
		turn: 100 * time.Millisecond, turns: 5, cycles: 10, busy: heldDevices, devices: 2000,
	}
}

// load does a job.
type load struct {
	job
	size
	config  *tls.Config // nil for plain
	figures []figure
}

func (j job) do() (outcome, error) {
	l := &load{job: j, size: j.size()}
	if j.TLS {
		roots := x509.NewCertPool()
		if !roots.AppendCertsFromPEM(j.Certificate) {
			return outcome{}, errors.New("no certificate")
		}
		// Post-quantum key exchange has a different cost, and not all targets support it.
		l.config = &tls.Config{RootCAs: roots, ServerName: "localhost", CurvePreferences: []tls.CurveID{tls.X25519}}
	}
	before, err := readMachine()
	if err != nil {
		return outcome{}, err
	}
	ownBefore, err := l.own()
	if err != nil {
		return outcome{}, err
	}
	for _, w := range works() {
		if w.name == j.Work {
			err = w.do(l)
		}
	}
	if err != nil {
		return outcome{}, err
	}
	own, err := l.own()
	if err != nil {
		return outcome{}, err
	}
	n, err := noiseSince(before, own-ownBefore)
	return outcome{l.figures, n}, err
}

// own returns the processor time of all processes that take part in the work.
func (l *load) own() (total time.Duration, err error) {
	for _, pid := range []int{l.TargetProcess, l.SinkPID, os.Getpid()} {
		spent, err := sum(pid, processorTime)
		if err != nil {
			return 0, err
		}
		total += spent
	}
	return total, nil
}

func (l *load) report(metric, unit string, value float64) {
	l.figures = append(l.figures, figure{metric, unit, value})
}

// open connects devices, a few at a time. They are numbered from first on.
func (l *load) open(first, number int) ([]*device, error) {
	opened := make([]*device, number)
	err := each(number, 16, func(i int) (err error) {
		opened[i], err = dial(l.Address, l.config, first+i)
		return err
	})
	return opened, err
}

// ping waits until everything that the devices sent has arrived.
func ping(devices []*device) error {
	return each(len(devices), 16, func(i int) error { return devices[i].ping() })
}

// spend returns how long f took, and the processor time of the target in that time.
func (l *load) spend(f func() error) (computed, took time.Duration, err error) {
	before, err := sum(l.TargetProcess, processorTime)
	if err != nil {
		return 0, 0, err
	}
	start := time.Now()
	if err := f(); err != nil {
		return 0, 0, err
	}
	took = time.Since(start)
	after, err := sum(l.TargetProcess, processorTime)
	return after - before, took, err
}

func microseconds(d time.Duration, per int) float64 {
	return float64(d.Nanoseconds()) / 1000 / float64(per)
}

// baseSessions is the number of sessions that are open before memory is read for the first time, so
// that memory that is needed only once is not counted for the others.
const baseSessions = 10

// idle measures the memory of an idle session: after one small message, and after all sessions
// have sent and received much at once.
func (l *load) idle() error {
	number := l.Sessions
	devices, err := l.open(0, baseSessions)
	if err != nil {
		return err
	}
	rest := func() (int64, error) {
		if err := ping(devices); err != nil {
			return 0, err
		}
		<-time.After(l.calm)
		return sum(l.TargetProcess, memory)
	}
	base, err := rest()
	if err != nil {
		return err
	}
	files, err := sum(l.TargetProcess, descriptors)
	if err != nil {
		return err
	}
	more, err := l.open(baseSessions, number-baseSessions)
	if err != nil {
		return err
	}
	devices = append(devices, more...)
	for _, step := range []struct {
		after string
		do    func() error
	}{
		{"a small message", func() error { return echoAll(devices, 100, 16) }},
		{"64 KiB each way, all at once", func() error { return echoAll(devices, 64_000, len(devices)) }},
	} {
		if err := step.do(); err != nil {
			return fmt.Errorf("%s: %w", step.after, err)
		}
		now, err := rest()
		if err != nil {
			return err
		}
		l.report(fmt.Sprintf("%s idle sessions, after %s", thousands(int64(number)), step.after), "KiB/session", float64(now-base)/1024/float64(len(more)))
	}
	filesNow, err := sum(l.TargetProcess, descriptors)
	if err != nil {
		return err
	}
	l.report(thousands(int64(number))+" idle sessions", "files/session", float64(filesNow-files)/float64(len(more)))
	l.report(fmt.Sprintf("the program with %d sessions", baseSessions), "MiB", float64(base)/(1<<20))
	return nil
}

func echoAll(devices []*device, size, atOnce int) error {
	m := message(echo, size)
	return each(len(devices), atOnce, func(i int) error { return devices[i].echo(m, make([]byte, 4<<10)) })
}
