//go:build linux

package main

import (
	"bytes"
	"errors"
	"fmt"
	"time"
)

// heldDevices have tokens with the limit heldRate, in messages a second.
const heldDevices, heldRate = 1000, 5

// held measures how much 1,000 sessions that are held to a rate slow down 100 sessions that send
// little, next to 1,000 sessions that publish at the same pace and have no limit.
func (l *load) held() error {
	quiet, err := l.open(0, 100)
	if err != nil {
		return err
	}
	free, err := l.open(len(quiet), l.busy)
	if err != nil {
		return err
	}
	held, err := l.open(firstHeld, l.busy)
	if err != nil {
		return err
	}
	c := &crowd{quiet: quiet}
	next, rate := fmt.Sprintf("QoS 1 p50, 100 sessions next to %s ", thousands(int64(l.busy))), thousands(int64(l.busy*heldRate))+"/s"
	turn := 10 * l.turn
	var alone, nextToFree, nextToHeld []float64
	for range l.turns {
		for _, step := range []struct {
			devices []*device
			to      *[]float64
		}{{nil, &alone}, {free, &nextToFree}, {held, &nextToHeld}} {
			p50, err := c.nextTo(step.devices, turn)
			if err != nil {
				return err
			}
			*step.to = append(*step.to, p50)
		}
	}
	l.report("QoS 1 p50, 100 sessions alone", "us", median(alone))
	l.report(next+"at "+rate, "us", median(nextToFree))
	l.report(next+"held to "+rate, "us", median(nextToHeld))
	l.report(next+"held to "+rate, "times that without a limit", median(nextToHeld)/median(nextToFree))
	return nil
}

// nextTo returns the median round trip of the quiet sessions, in microseconds, while devices
// publish at the pace heldRate. Each device has sent a backlog before, so that one with a limit is
// held the whole time.
func (c *crowd) nextTo(devices []*device, turn time.Duration) (p50 float64, err error) {
	paced := make(chan error, 1)
	if len(devices) == 0 {
		paced <- nil
	} else {
		small, perTurn := message(drop, smallPayload), int(heldRate*turn.Seconds())
		writes := float64(len(devices)) / turn.Seconds() // one of each device
		if err := pace(devices, bytes.Repeat(small, 3*perTurn+2), int(writes), turn); err != nil {
			return 0, err
		}
		go func() { paced <- pace(devices, small, heldRate*len(devices), turn) }()
	}
	took, err := c.roundTrips(turn)
	if err := errors.Join(err, <-paced, ping(devices)); err != nil {
		return 0, err
	}
	return microseconds(quantile(took, 0.5), 1), nil
}
