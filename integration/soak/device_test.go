//go:build integration

package soak

import (
	"bufio"
	"context"
	"fmt"
	"math/rand/v2"
	"net"
	"sync"
	"time"

	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/packets"
	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/packets/packetstest"
)

// soakPatience is how long a soak waits for an answer: the machine is busy, and
// there are sinks that pause.
const soakPatience = 90 * time.Second

// soakDevice is a device's end of one session: it checks all that comes.
type soakDevice struct {
	number   uint64
	level    byte
	filtered bool // its token has topic rules
	conn     net.Conn
	dice     *rand.Rand
	topic    []byte
	up, down soakStream
	lastDeny uint16
	done     chan struct{} // closed when nothing more will come

	mu       sync.Mutex
	expected []soakAnswer
	denied   map[uint16]bool // packets that the proxy has to answer
	rest     time.Duration   // not to be read for
	change   chan struct{}   // closed by the next packet
	told     packets.ReasonCode
	fault    error
}

// soakAnswer is a packet that has to come next.
type soakAnswer struct {
	kind packets.Type
	id   uint16 // of a PUBACK
	size int    // of a PUBLISH's body
}

func (d *soakDevice) clientID() string { return fmt.Sprintf("soak-%d", d.number) }

// read takes what comes until the connection ends.
func (d *soakDevice) read() {
	defer close(d.done)
	in := bufio.NewReaderSize(d.conn, 2<<10)
	for {
		raw, err := readWhole(in)
		if err == nil {
			err = d.accept(raw)
		} else if fault := d.acceptRest(raw); fault != nil {
			err = fault
		} else {
			return
		}
		if err != nil {
			d.fail(err)
			d.conn.Close()
			return
		}
		time.Sleep(d.takeRest())
	}
}

func (d *soakDevice) fail(err error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.fault == nil {
		d.fault = err
	}
}

func (d *soakDevice) takeRest() (rest time.Duration) {
	d.mu.Lock()
	defer d.mu.Unlock()
	rest, d.rest = d.rest, 0
	return rest
}

// accept checks a packet: it is what has to come next, or the proxy's.
func (d *soakDevice) accept(raw []byte) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	close(d.change)
	d.change = make(chan struct{})
	kind := packets.Type(raw[0] >> 4)
	if d.told != 0 {
		return fmt.Errorf("%v after DISCONNECT", kind)
	}
	var ack packets.Ack
	switch kind {
	case packets.DISCONNECT:
		var bye packets.Disconnect
		err := bye.Parse(raw, d.level)
		d.told = bye.Code
		if err == nil && (d.level < 5 || bye.Code != packets.AdministrativeAction) {
			err = fmt.Errorf("DISCONNECT with %v", bye.Code)
		}
		return err
	case packets.PUBACK:
		if err := ack.Parse(raw, d.level); err != nil {
			return err
		}
		if ack.PacketID > soakDenied {
			return d.acceptDenial(ack)
		}
		if ack.Code != packets.Success {
			return fmt.Errorf("PUBACK with %v", ack.Code)
		}
	}
	if len(d.expected) == 0 || d.expected[0].kind != kind || d.expected[0].id != ack.PacketID {
		return fmt.Errorf("%v %d came, not %+v", kind, ack.PacketID, d.expected[:min(1, len(d.expected))])
	}
	next := d.expected[0]
	if d.expected = d.expected[1:]; len(d.expected) == 0 {
		d.expected = nil
	}
	if kind == packets.PUBLISH {
		return d.acceptMessage(raw, next.size)
	}
	return nil
}

func (d *soakDevice) acceptDenial(ack packets.Ack) error {
	want := packets.NotAuthorized
	if d.level < 5 {
		want = packets.Success
	}
	if !d.denied[ack.PacketID] || ack.Code != want {
		return fmt.Errorf("PUBACK of message %d, which nobody allows, with %v", ack.PacketID, ack.Code)
	}
	delete(d.denied, ack.PacketID)
	return nil
}

func (d *soakDevice) acceptMessage(raw []byte, size int) error {
	if _, _, err := d.down.checkPublish(raw, d.level, packets.Publish{Topic: soakDownTopic}); err != nil {
		return err
	}
	var got packets.Publish
	_, err := got.Parse(raw, d.level)
	if want := soakHead + size + soakTail; err == nil && len(got.Payload) != want {
		err = fmt.Errorf("payload of %d bytes, want %d", len(got.Payload), want)
	}
	return err
}

// acceptRest checks what has come of a packet when the connection ended.
func (d *soakDevice) acceptRest(part []byte) error {
	if len(part) == 0 {
		return nil
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.told != 0 {
		return fmt.Errorf("%d bytes after DISCONNECT", len(part))
	}
	if packets.Type(part[0]>>4) != packets.PUBLISH {
		return nil
	}
	_, _, err := d.down.checkPublish(part, d.level, packets.Publish{Topic: soakDownTopic})
	return err
}

// send writes packets whose answers have to come. It reports false if the connection
// has ended.
func (d *soakDevice) send(b []byte, answers ...soakAnswer) bool {
	d.mu.Lock()
	d.expected = append(d.expected, answers...)
	d.mu.Unlock()
	_ = d.conn.SetWriteDeadline(time.Now().Add(soakPatience))
	for len(b) > 0 {
		n := len(b)
		if d.dice.IntN(20) == 0 { // in two pieces, some time apart
			n = 1 + d.dice.IntN(len(b))
		}
		if _, err := d.conn.Write(b[:n]); err != nil {
			if packetstest.IsTimeout(err) {
				d.fail(fmt.Errorf("nothing was taken for %v", soakPatience))
			}
			return false
		}
		if b = b[n:]; len(b) > 0 {
			time.Sleep(time.Duration(d.dice.IntN(100)) * time.Millisecond)
		}
	}
	return true
}

// message appends the next one, and the answers to it.
func (d *soakDevice) message(b []byte, answers []soakAnswer, command byte, size, answer int) ([]byte, []soakAnswer) {
	p := soakPublish(d.topic, d.up.seq)
	p.Payload = d.up.next(command, answer, size)
	if p.QoS == 1 {
		answers = append(answers, soakAnswer{kind: packets.PUBACK, id: p.PacketID})
	}
	return p.Append(b, d.level), append(answers, soakAnswer{kind: packets.PUBLISH, size: answer})
}

// settle waits until all that was sent is answered, and reports whether it is.
func (d *soakDevice) settle() bool {
	limit := time.After(soakPatience)
	for {
		d.mu.Lock()
		open, change := len(d.expected)+len(d.denied), d.change
		d.mu.Unlock()
		if open == 0 {
			return true
		}
		select {
		case <-change:
		case <-d.done:
			return d.complete()
		case <-limit:
			d.fail(fmt.Errorf("%d packets are not answered after %v", open, soakPatience))
			return false
		}
	}
}

// complete reports whether all that was sent is answered.
func (d *soakDevice) complete() bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return len(d.expected)+len(d.denied) == 0
}

// pause waits, and reports false if the connection ends or ctx does.
func (d *soakDevice) pause(ctx context.Context, most time.Duration) bool {
	select {
	case <-time.After(time.Duration(d.dice.Int64N(int64(most)))):
		return true
	case <-d.done:
	case <-ctx.Done():
	}
	return false
}
