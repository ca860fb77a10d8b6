//go:build linux

package main

import (
	"crypto/tls"
	"errors"
	"sync/atomic"
	"time"
)

// fair measures how much one session that moves bulk as fast as possible slows down 100 sessions
// that send little. On few cores load and sink slow each other down as well. How much they do is
// measured without the target, directly at the sink and without TLS.
func (l *load) fair() error {
	by, err := newCrowd(l.Address, l.config)
	if err != nil {
		return err
	}
	straight, err := newCrowd(l.Sink, nil)
	if err != nil {
		return err
	}
	for _, way := range bulkWays() {
		there, err := by.compare(l.size, way)
		if err != nil {
			return err
		}
		here, err := straight.compare(l.size, way)
		if err != nil {
			return err
		}
		withBulk := "100 sessions next to bulk " + way.name
		l.report("QoS 1 p50, 100 sessions before bulk "+way.name, "us", there.alone)
		l.report("QoS 1 p50, "+withBulk, "us", there.withBulk)
		l.report("QoS 1 p50, "+withBulk, "times that before", there.ratio())
		l.report("QoS 1 p50, "+withBulk+", straight to the sink", "times that before", here.ratio())
		l.report("bulk "+way.name+" next to 100 sessions", "MB/s", there.bulk)
	}
	return nil
}

// crowd consists of many quiet sessions and a greedy one.
type crowd struct {
	quiet  []*device
	greedy *device
	sent   int
	moved  atomic.Int64 // by the greedy one, in bytes
}

// comparison has the medians of the median round trips without and with the greedy session, in
// microseconds, and the rate of the greedy one, in megabytes a second.
type comparison struct{ alone, withBulk, bulk float64 }

func (c comparison) ratio() float64 { return c.withBulk / c.alone }

func newCrowd(address string, config *tls.Config) (*crowd, error) {
	const sessions = 100
	there := load{job: job{Address: address}, config: config}
	quiet, err := there.open(0, sessions)
	if err != nil {
		return nil, err
	}
	greedy, err := dial(address, config, sessions)
	return &crowd{quiet: quiet, greedy: greedy}, err
}

// compare measures alternately without and with the greedy session.
func (c *crowd) compare(s size, way bulkWay) (comparison, error) {
	var alone, withBulk, bulk []float64
	for range s.turns {
		took, err := c.roundTrips(s.turn)
		if err != nil {
			return comparison{}, err
		}
		alone = append(alone, microseconds(quantile(took, 0.5), 1))
		stop := c.saturate(way)
		<-time.After(s.turn / 5)
		before, start := c.moved.Load(), time.Now()
		took, err = c.roundTrips(s.turn)
		moved, spent := c.moved.Load()-before, time.Since(start)
		if err := errors.Join(err, stop()); err != nil {
			return comparison{}, err
		}
		withBulk = append(withBulk, microseconds(quantile(took, 0.5), 1))
		bulk = append(bulk, float64(moved)/1e6/spent.Seconds())
	}
	return comparison{median(alone), median(withBulk), median(bulk)}, nil
}

// roundTrips lets one quiet session after the other send a message, at most one each millisecond.
func (c *crowd) roundTrips(d time.Duration) (took []time.Duration, err error) {
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for until := time.Now().Add(d); len(took) == 0 || time.Now().Before(until); c.sent++ {
		<-tick.C
		start := time.Now()
		if err := c.quiet[c.sent%len(c.quiet)].acknowledged(uint16(c.sent%0xFFFF + 1)); err != nil {
			return nil, err
		}
		took = append(took, time.Since(start))
	}
	return took, nil
}

// saturate makes the greedy session move bulk until it is stopped.
func (c *crowd) saturate(way bulkWay) (stop func() error) {
	const payload, messages = 256 << 10, 8
	var stopped atomic.Bool
	ended := make(chan error, 1)
	go func() {
		var err error
		for err == nil && !stopped.Load() {
			err = way.move(c.greedy, messages, payload)
			c.moved.Add(messages * payload)
		}
		ended <- err
	}()
	return func() error {
		stopped.Store(true)
		return <-ended
	}
}
