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

// ping and the other deeds of a device report whether the connection still stands.
func (d *soakDevice) ping() bool {
	return d.send([]byte{0xC0, 0}, soakAnswer{kind: packets.PINGRESP})
}

// burst sends many small messages at once.
func (d *soakDevice) burst() bool {
	var b []byte
	var answers []soakAnswer
	for range 1 + d.dice.IntN(40) {
		b, answers = d.message(b, answers, soakPlain, d.dice.IntN(300), d.dice.IntN(300))
	}
	return d.send(b, answers...)
}

// bulk sends few large messages, or asks for them.
func (d *soakDevice) bulk(most int) bool {
	sizes := []int{d.dice.IntN(200), 1 + d.dice.IntN(most)}
	d.dice.Shuffle(2, func(i, j int) { sizes[i], sizes[j] = sizes[j], sizes[i] })
	for range 1 + d.dice.IntN(3) {
		if b, answers := d.message(nil, nil, soakPlain, sizes[0], sizes[1]); !d.send(b, answers...) {
			return false
		}
	}
	return true
}

// stall reads nothing for a while, with much to come: in few large packets or in many
// small ones.
func (d *soakDevice) stall() bool {
	d.restFor(2500 * time.Millisecond)
	n, size := 8, 200<<10
	if d.dice.IntN(2) == 0 {
		n, size = 400, 4<<10
	}
	for range n {
		if b, answers := d.message(nil, nil, soakPlain, 10, size); !d.send(b, answers...) {
			return false
		}
	}
	return true
}

func (d *soakDevice) restFor(most time.Duration) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.rest = time.Duration(1 + d.dice.Int64N(int64(most)))
}

// press sends much to a sink that reads nothing for a while.
func (d *soakDevice) press() bool {
	b, answers := d.message(nil, nil, soakPause, 10, 10)
	for range 8 {
		b, answers = d.message(b, answers, soakPlain, 200<<10, 10)
	}
	return d.send(b, answers...)
}

// trespass mixes messages that the token's rules deny with one that they allow, and
// some whose answers meet those of the proxy.
func (d *soakDevice) trespass() bool {
	if !d.filtered {
		return d.burst()
	}
	if d.dice.IntN(6) == 0 { // so that a packet is on its way when the proxy answers
		d.restFor(time.Second)
		for range 8 {
			if b, answers := d.message(nil, nil, soakPlain, 10, 200<<10); !d.send(b, answers...) {
				return false
			}
		}
		time.Sleep(100 * time.Millisecond)
	}
	b, answers := d.message(nil, nil, soakPlain, 10, d.dice.IntN(40<<10))
	for i := range 5 {
		p := packets.Publish{Topic: []byte("elsewhere"), Payload: d.up.block[:d.dice.IntN(1<<d.dice.IntN(17))]}
		if i > 0 {
			d.lastDeny++
			p.QoS, p.PacketID = 1, soakDenied+1+d.lastDeny%20_000
			d.mu.Lock()
			d.denied[p.PacketID] = true
			d.mu.Unlock()
		}
		b = p.Append(b, d.level)
		b, answers = d.message(b, answers, soakPlain, 10, 10)
	}
	return d.send(b, answers...)
}

func (d *soakDevice) act() bool {
	switch n := d.dice.IntN(100); {
	case n < 30:
		return d.ping()
	case n < 55:
		return d.burst()
	case n < 72:
		return d.trespass()
	case n < 76:
		return d.bulk(64 << 10)
	case n < 78:
		return d.bulk(soakMost)
	case n < 80:
		return d.stall()
	case n < 82:
		return d.press()
	}
	return d.settle()
}

// The ends of a session.
const (
	soakBroken    = "broken off" // not by us
	soakPolite    = "polite"     // DISCONNECT when all is answered
	soakHurried   = "hurried"    // DISCONNECT right behind messages
	soakDismissed = "dismissed"  // by the sink, right behind its messages
	soakVanished  = "vanished"   // reset, whatever is on its way
)

// finish ends the session in one of the ways that there are and returns which.
func (d *soakDevice) finish() string {
	defer func() { d.conn.Close(); <-d.done }()
	end := d.takeLeave()
	if end == soakHurried || end == soakDismissed {
		select {
		case <-d.done:
		case <-time.After(soakPatience):
			d.fail(fmt.Errorf("still connected %v after its end (%s)", soakPatience, end))
		}
	}
	return end
}

func (d *soakDevice) takeLeave() string {
	var b []byte
	var answers []soakAnswer
	for range 1 + d.dice.IntN(10) {
		b, answers = d.message(b, answers, soakPlain, 1<<d.dice.IntN(16), 1<<d.dice.IntN(16))
	}
	bye := (&packets.Disconnect{}).Append(nil, d.level)
	switch d.dice.IntN(4) {
	case 0:
		if d.send(b, answers...) && d.settle() && d.send(bye) {
			return soakPolite
		}
	case 1:
		if d.settle() && d.send(slices.Concat(b, bye), answers...) && d.conn.(interface{ CloseWrite() error }).CloseWrite() == nil {
			return soakHurried
		}
	case 2:
		b, answers = d.message(b, answers, soakClose, 10, 256<<10)
		if d.settle() && d.send(b, answers...) {
			return soakDismissed
		}
	case 3:
		if d.send(b, answers...) {
			d.reset()
			return soakVanished
		}
	}
	return soakBroken
}

func (d *soakDevice) reset() {
	conn := d.conn
	if c, ok := conn.(*tls.Conn); ok {
		conn = c.NetConn()
	}
	_ = conn.(*net.TCPConn).SetLinger(0)
	conn.Close()
}
