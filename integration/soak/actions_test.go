//go:build integration

package soak

import (
	"crypto/tls"
	"fmt"
	"net"
	"slices"
	"time"

	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/packets"
)

// ping, like the other actions of a device, reports whether the connection still stands.
func (d *device) ping() bool {
	return d.send([]byte{0xC0, 0}, expectedPacket{kind: packets.PINGRESP})
}

// burst sends many small messages at once.
func (d *device) burst() bool {
	var b []byte
	var answers []expectedPacket
	for range 1 + d.random.IntN(40) {
		b, answers = d.message(b, answers, commandNone, d.random.IntN(300), d.random.IntN(300))
	}
	return d.send(b, answers...)
}

// bulk sends a few large messages, or asks for them.
func (d *device) bulk(most int) bool {
	sizes := []int{d.random.IntN(200), 1 + d.random.IntN(most)}
	d.random.Shuffle(2, func(i, j int) { sizes[i], sizes[j] = sizes[j], sizes[i] })
	for range 1 + d.random.IntN(3) {
		if b, answers := d.message(nil, nil, commandNone, sizes[0], sizes[1]); !d.send(b, answers...) {
			return false
		}
	}
	return true
}

// stall reads nothing for a while, although much is sent to it: a few large packets or
// many small ones.
func (d *device) stall() bool {
	d.pauseReading(2500 * time.Millisecond)
	n, size := 8, 200<<10
	if d.random.IntN(2) == 0 {
		n, size = 400, 4<<10
	}
	for range n {
		if b, answers := d.message(nil, nil, commandNone, 10, size); !d.send(b, answers...) {
			return false
		}
	}
	return true
}

// pauseReading makes the device read nothing for up to this time.
func (d *device) pauseReading(most time.Duration) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.readPause = time.Duration(1 + d.random.Int64N(int64(most)))
}

// floodPausedSink sends much to a sink that reads nothing for a while.
func (d *device) floodPausedSink() bool {
	b, answers := d.message(nil, nil, commandPause, 10, 10)
	for range 8 {
		b, answers = d.message(b, answers, commandNone, 200<<10, 10)
	}
	return d.send(b, answers...)
}

// publishDenied mixes messages that the topic rules deny with allowed ones. Some are
// denied while a packet is being sent to the device.
func (d *device) publishDenied() bool {
	if !d.filtered {
		return d.burst()
	}
	if d.random.IntN(6) == 0 { // so that the proxy answers in the middle of a packet
		d.pauseReading(time.Second)
		for range 8 {
			if b, answers := d.message(nil, nil, commandNone, 10, 200<<10); !d.send(b, answers...) {
				return false
			}
		}
		time.Sleep(100 * time.Millisecond)
	}
	b, answers := d.message(nil, nil, commandNone, 10, d.random.IntN(40<<10))
	for i := range 5 {
		p := packets.Publish{Topic: []byte("elsewhere"), Payload: d.up.block[:d.random.IntN(1<<d.random.IntN(17))]}
		if i > 0 {
			d.lastDenied++
			p.QoS, p.PacketID = 1, firstDeniedID+1+d.lastDenied%20_000
			d.mu.Lock()
			d.denied[p.PacketID] = true
			d.mu.Unlock()
		}
		b = p.Append(b, d.level)
		b, answers = d.message(b, answers, commandNone, 10, 10)
	}
	return d.send(b, answers...)
}

// act chooses one of the actions.
func (d *device) act() bool {
	switch n := d.random.IntN(100); {
	case n < 30:
		return d.ping()
	case n < 55:
		return d.burst()
	case n < 72:
		return d.publishDenied()
	case n < 76:
		return d.bulk(64 << 10)
	case n < 78:
		return d.bulk(maxBody)
	case n < 80:
		return d.stall()
	case n < 82:
		return d.floodPausedSink()
	}
	return d.awaitAnswers()
}

// The ends of a session.
const (
	endBrokenOff       = "broken off"         // not by the device
	endDisconnect      = "disconnect"         // DISCONNECT when all is answered
	endDisconnectEarly = "early disconnect"   // DISCONNECT directly after messages
	endBySink          = "closed by the sink" // by the sink, directly after its messages
	endReset           = "reset"              // reset, with packets in flight
)

// finish ends the session in one of several ways and returns which.
func (d *device) finish() string {
	defer func() { d.conn.Close(); <-d.done }()
	end := d.disconnect()
	if end == endDisconnectEarly || end == endBySink {
		select {
		case <-d.done:
		case <-time.After(patience):
			d.fail(fmt.Errorf("still connected %v after its end (%s)", patience, end))
		}
	}
	return end
}

func (d *device) disconnect() string {
	var b []byte
	var answers []expectedPacket
	for range 1 + d.random.IntN(10) {
		b, answers = d.message(b, answers, commandNone, 1<<d.random.IntN(16), 1<<d.random.IntN(16))
	}
	bye := (&packets.Disconnect{}).Append(nil, d.level)
	switch d.random.IntN(4) {
	case 0:
		if d.send(b, answers...) && d.awaitAnswers() && d.send(bye) {
			return endDisconnect
		}
	case 1:
		if d.awaitAnswers() && d.send(slices.Concat(b, bye), answers...) && d.conn.(interface{ CloseWrite() error }).CloseWrite() == nil {
			return endDisconnectEarly
		}
	case 2:
		b, answers = d.message(b, answers, commandClose, 10, 256<<10)
		if d.awaitAnswers() && d.send(b, answers...) {
			return endBySink
		}
	case 3:
		if d.send(b, answers...) {
			d.reset()
			return endReset
		}
	}
	return endBrokenOff
}

func (d *device) reset() {
	conn := d.conn
	if c, ok := conn.(*tls.Conn); ok {
		conn = c.NetConn()
	}
	_ = conn.(*net.TCPConn).SetLinger(0)
	conn.Close()
}
