//go:build linux

package main

import (
	"errors"
	"fmt"
	"time"
)

// storm measures devices that all lost their connections at the same moment and come back at once:
// the processor time of each, and the time until the last one is in. With a token service they are
// unknown at first, and known when they come again.
func (l *load) storm() error {
	for _, when := range []string{"first", "again"} {
		before, err := l.asked()
		if err != nil {
			return err
		}
		devices := make([]*device, l.devices)
		computed, took, err := l.spend(func() error {
			return each(len(devices), len(devices), func(i int) (err error) {
				devices[i], err = dial(l.Address, l.config, i)
				return err
			})
		})
		if err != nil {
			return err
		}
		after, err := l.asked()
		if err != nil {
			return err
		}
		for _, d := range devices {
			err = errors.Join(err, d.Close())
		}
		<-time.After(2 * l.warm) // the ends
		if err != nil {
			return err
		}
		name := fmt.Sprintf("%s devices at once", thousands(int64(len(devices))))
		switch {
		case l.Service != "":
			name += map[string]string{"first": ", unknown", "again": ", known"}[when]
			l.report(name, "questions", after-before)
		case when == "first":
			continue
		}
		l.report(name, "ms CPU/device", microseconds(computed, len(devices))/1000)
		l.report(name, "s until all are in", took.Seconds())
	}
	return nil
}

// asked returns how many questions the token service has answered, if there is one.
func (l *load) asked() (float64, error) {
	if l.Service == "" {
		return 0, nil
	}
	return questions(l.Service)
}
