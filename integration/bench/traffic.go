//go:build linux

package main

import (
	"cmp"
	"crypto/tls"
	"encoding/binary"
	"fmt"
	"slices"
	"sync/atomic"
	"time"

	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/packets"
)

const smallPayload = 100

// paced measures small messages that are sent one by one: 5,000 a second over 200 sessions.
func (l *load) paced() error {
	const sessions, rate = 200, 5000
	devices, err := l.open(0, sessions)
	if err != nil {
		return err
	}
	small := message(drop, smallPayload)
	if err := pace(devices, small, rate, l.warm); err != nil {
		return err
	}
	computed, _, err := l.spend(func() error { return pace(devices, small, rate, l.size.paced) })
	if err != nil {
		return err
	}
	l.report("messages, 5,000/s over 200 sessions", "us CPU/message", microseconds(computed, int(l.size.paced.Seconds()*rate)))
	return ping(devices)
}

// pings measures the PINGREQ of sessions that do nothing else, each after seconds of quiet.
func (l *load) pings() error {
	const sessions, rate = 500, 500
	devices, err := l.open(0, sessions)
	if err != nil {
		return err
	}
	if err := ping(devices); err != nil {
		return err
	}
	<-time.After(l.calm / 2)
	number := int(l.size.paced.Seconds() * rate)
	computed, _, err := l.spend(func() error {
		tick := time.NewTicker(time.Second / rate)
		defer tick.Stop()
		for i := range number {
			<-tick.C
			if err := devices[i%sessions].ping(); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return err
	}
	l.report("PINGREQ of an idle session, 500/s", "us CPU", microseconds(computed, number))
	return nil
}

// pace has one device after the other write b, so many of them a second.
func pace(devices []*device, b []byte, rate int, d time.Duration) error {
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	writes := int(d.Seconds() * float64(rate))
	start := time.Now()
	for sent := 0; sent < writes; <-tick.C {
		for due := min(writes, int(time.Since(start).Seconds()*float64(rate))); sent < due; sent++ {
			if _, err := devices[sent%len(devices)].Write(b); err != nil {
				return err
			}
		}
	}
	return nil
}

// flat measures small messages as fast as possible: 50 sessions, 32 messages in each write, with
// TLS one in each record.
func (l *load) flat() error {
	const sessions, batch = 50, 32
	devices, err := l.open(0, sessions)
	if err != nil {
		return err
	}
	small := message(drop, smallPayload)
	var messages atomic.Int64
	send := func(d time.Duration) func() error {
		return func() error {
			messages.Store(0)
			until := time.Now().Add(d)
			return each(sessions, sessions, func(i int) error {
				for more := true; more; more = time.Now().Before(until) {
					if err := devices[i].writeBatch(small, batch); err != nil {
						return err
					}
					messages.Add(batch)
				}
				return devices[i].ping()
			})
		}
	}
	if err := send(l.warm)(); err != nil {
		return err
	}
	computed, took, err := l.spend(send(l.size.flat))
	if err != nil {
		return err
	}
	l.report("messages flat out over 50 sessions", "us CPU/message", microseconds(computed, int(messages.Load())))
	l.report("messages flat out over 50 sessions", "messages/s", float64(messages.Load())/took.Seconds())
	return nil
}

// writeBatch sends so many messages in one write.
func (d *device) writeBatch(m []byte, number int) error {
	d.wire.holds = true
	for range number {
		if _, err := d.Write(m); err != nil {
			return err
		}
	}
	return d.wire.release()
}

// bulk measures messages of 256 KiB, on one connection and on eight.
func (l *load) bulk() error {
	const payload = 256 << 10
	for _, sessions := range []int{1, 8} {
		devices, err := l.open(0, sessions)
		if err != nil {
			return err
		}
		for _, way := range bulkWays() {
			move := func(messages int) func() error {
				return func() error {
					return each(sessions, sessions, func(i int) error { return way.move(devices[i], messages/sessions, payload) })
				}
			}
			if err := move(l.size.bulk / 8)(); err != nil {
				return fmt.Errorf("%s: %w", way.name, err)
			}
			computed, took, err := l.spend(move(l.size.bulk))
			if err != nil {
				return fmt.Errorf("%s: %w", way.name, err)
			}
			size := float64(l.size.bulk * payload)
			name := fmt.Sprintf("%s, %d sessions", way.name, sessions)
			if sessions == 1 {
				name = way.name + ", 1 session"
			}
			l.report(name, "s CPU/GB", computed.Seconds()/(size/1e9))
			l.report(name, "MB/s", size/1e6/took.Seconds())
		}
		for _, d := range devices {
			d.Close()
		}
	}
	return nil
}

// bulkWay is a direction in which so many messages with payloads of so many bytes are sent.
type bulkWay struct {
	name string
	move func(d *device, number, payload int) error
}

func bulkWays() []bulkWay {
	return []bulkWay{
		{"up", func(d *device, number, payload int) error { return d.upload(message(drop, payload), number) }},
		{"down", (*device).download},
	}
}

func (d *device) upload(m []byte, number int) error {
	for range number {
		if _, err := d.Write(m); err != nil {
			return err
		}
	}
	return d.ping()
}

func (d *device) download(number, payload int) error {
	if _, err := d.Write(publish(pour, fmt.Appendf(nil, "%d %d", number, payload))); err != nil {
		return err
	}
	return d.drain(number*len(message(drop, payload)), make([]byte, 128<<10))
}

// connects measures complete short sessions, 16 at a time: handshake, CONNECT, CONNACK, DISCONNECT.
func (l *load) connects() error {
	if !l.TLS {
		return l.visit("", l.size.plain, func(int) *tls.Config { return nil })
	}
	if err := l.visit(", full handshake", l.size.connects, func(int) *tls.Config { return l.config }); err != nil {
		return err
	}
	var resumed, visits atomic.Int64
	caches := make([]*tls.Config, visitors)
	for i := range caches {
		caches[i] = l.config.Clone()
		caches[i].ClientSessionCache = tls.NewLRUClientSessionCache(1)
		caches[i].VerifyConnection = func(s tls.ConnectionState) error {
			visits.Add(1)
			if s.DidResume {
				resumed.Add(1)
			}
			return nil
		}
	}
	if err := l.visit(", resumed", l.size.connects, func(visitor int) *tls.Config { return caches[visitor] }); err != nil {
		return err
	}
	if all, again := visits.Load(), resumed.Load(); all-again > visitors+all/100 {
		return fmt.Errorf("%d of %d handshakes were resumed, too few to tell what one costs", again, all)
	}
	return nil
}

// visitors is how many devices connect at a time.
const visitors = 16

func (l *load) visit(kind string, number int, config func(visitor int) *tls.Config) error {
	free := make(chan int, visitors)
	for i := range visitors {
		free <- i
	}
	visits := func(number int) func() error {
		return func() error {
			return each(number, visitors, func(i int) error {
				visitor := <-free
				defer func() { free <- visitor }()
				return visitAs(l.Address, config(visitor), i)
			})
		}
	}
	if err := visits(max(number/10, visitors))(); err != nil {
		return err
	}
	var took time.Duration
	computed, _, err := l.spend(func() error {
		start := time.Now()
		err := visits(number)()
		took = time.Since(start)
		<-time.After(l.warm) // the ends of the last
		return err
	})
	if err != nil {
		return err
	}
	l.report("connect"+kind, "ms CPU", microseconds(computed, number)/1000)
	l.report("connect"+kind, "connects/s", float64(number)/took.Seconds())
	return nil
}

// visitAs is the complete short session of a device.
func visitAs(address string, config *tls.Config, number int) error {
	d, err := dial(address, config, number)
	if err != nil {
		return err
	}
	return d.leave()
}

// latency measures how long an acknowledgement takes at low load, alternately through the target
// and directly from the sink.
func (l *load) latency() error {
	by, err := dial(l.Address, l.config, 0)
	if err != nil {
		return err
	}
	straight, err := dial(l.Sink, nil, 1)
	if err != nil {
		return err
	}
	took := map[*device][]time.Duration{}
	tick := time.NewTicker(4 * time.Millisecond)
	defer tick.Stop()
	for i := range l.samples {
		for _, d := range []*device{by, straight} {
			<-tick.C
			start := time.Now()
			if err := d.acknowledged(uint16(i + 1)); err != nil {
				return err
			}
			took[d] = append(took[d], time.Since(start))
		}
	}
	l.report("QoS 1, over the sink's own, p50", "us", microseconds(quantile(took[by], 0.5)-quantile(took[straight], 0.5), 1))
	l.report("QoS 1, p50", "us", microseconds(quantile(took[by], 0.5), 1))
	l.report("QoS 1, p99", "us", microseconds(quantile(took[by], 0.99), 1))
	return nil
}

// quiet measures how long an acknowledgement takes when no packet has been sent for a
// while. It shows what the target does to save time while it is idle.
func (l *load) quiet() error {
	d, err := dial(l.Address, l.config, 0)
	if err != nil {
		return err
	}
	var took []time.Duration
	for i := range l.pauses {
		<-time.After(l.pause)
		start := time.Now()
		if err := d.acknowledged(uint16(i + 1)); err != nil {
			return err
		}
		took = append(took, time.Since(start))
	}
	l.report("QoS 1 after 0.3 s of quiet, p50", "us", microseconds(quantile(took, 0.5), 1))
	return nil
}

// acknowledged sends a message at QoS 1 and waits for its PUBACK.
func (d *device) acknowledged(id uint16) error {
	p := packets.Publish{QoS: 1, Topic: []byte(drop), PacketID: id, Payload: make([]byte, smallPayload)}
	b := binary.BigEndian.AppendUint16([]byte{0x40, 2}, id)
	return d.expect(p.Append(nil, 4), b...)
}

// quantile returns the value below which the share q of all values lies.
func quantile[T cmp.Ordered](values []T, q float64) T {
	sorted := slices.Sorted(slices.Values(values))
	return sorted[int(q*float64(len(sorted)-1)+0.5)]
}
