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

// patience is how long a soak waits for an answer: the machine is busy, and sinks pause.
const patience = 90 * time.Second

// device is the device's end of a session. It checks everything it receives.
type device struct {
	number     uint64
	level      byte
	filtered   bool // its token has topic rules
	conn       net.Conn
	random     *rand.Rand
	topic      []byte
	up, down   stream
	lastDenied uint16
	done       chan struct{} // closed when nothing more will come

	mu             sync.Mutex
	expected       []expectedPacket
	denied         map[uint16]bool // messages that the proxy must answer
	readPause      time.Duration   // before the next read
	change         chan struct{}   // closed by the next packet
	disconnectCode packets.ReasonCode
	fault          error
}

// expectedPacket is a packet that must come next.
type expectedPacket struct {
	kind packets.Type
	id   uint16 // of a PUBACK
	size int    // of a PUBLISH's body
}

func (d *device) clientID() string { return fmt.Sprintf("soak-%d", d.number) }

// read receives packets until the connection ends.
func (d *device) read() {
	defer close(d.done)
	in := bufio.NewReaderSize(d.conn, 2<<10)
	for {
		raw, err := readPacket(in)
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
		time.Sleep(d.takeReadPause())
	}
}

func (d *device) fail(err error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.fault == nil {
		d.fault = err
	}
}

func (d *device) takeReadPause() (rest time.Duration) {
	d.mu.Lock()
	defer d.mu.Unlock()
	rest, d.readPause = d.readPause, 0
	return rest
}

// accept checks a packet, which must be the next expected one or one that the proxy sends
// by itself.
func (d *device) accept(raw []byte) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	close(d.change)
	d.change = make(chan struct{})
	kind := packets.Type(raw[0] >> 4)
	if d.disconnectCode != 0 {
		return fmt.Errorf("%v after DISCONNECT", kind)
	}
	var ack packets.Ack
	switch kind {
	case packets.DISCONNECT:
		var bye packets.Disconnect
		err := bye.Parse(raw, d.level)
		d.disconnectCode = bye.Code
		if err == nil && (d.level < 5 || bye.Code != packets.AdministrativeAction) {
			err = fmt.Errorf("DISCONNECT with %v", bye.Code)
		}
		return err
	case packets.PUBACK:
		if err := ack.Parse(raw, d.level); err != nil {
			return err
		}
		if ack.PacketID > firstDeniedID {
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

func (d *device) acceptDenial(ack packets.Ack) error {
	want := packets.NotAuthorized
	if d.level < 5 {
		want = packets.Success
	}
	if !d.denied[ack.PacketID] || ack.Code != want {
		return fmt.Errorf("PUBACK of message %d, which no rule allows, with %v", ack.PacketID, ack.Code)
	}
	delete(d.denied, ack.PacketID)
	return nil
}

func (d *device) acceptMessage(raw []byte, size int) error {
	if _, _, err := d.down.checkPublish(raw, d.level, packets.Publish{Topic: downTopic}); err != nil {
		return err
	}
	var got packets.Publish
	_, err := got.Parse(raw, d.level)
	if want := headSize + size + checksumSize; err == nil && len(got.Payload) != want {
		err = fmt.Errorf("payload of %d bytes, want %d", len(got.Payload), want)
	}
	return err
}

// acceptRest checks the incomplete packet at the end of the connection.
func (d *device) acceptRest(part []byte) error {
	if len(part) == 0 {
		return nil
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.disconnectCode != 0 {
		return fmt.Errorf("%d bytes after DISCONNECT", len(part))
	}
	if packets.Type(part[0]>>4) != packets.PUBLISH {
		return nil
	}
	_, _, err := d.down.checkPublish(part, d.level, packets.Publish{Topic: downTopic})
	return err
}

// send writes packets and expects their answers. It returns false if the connection has
// ended.
func (d *device) send(b []byte, answers ...expectedPacket) bool {
	d.mu.Lock()
	d.expected = append(d.expected, answers...)
	d.mu.Unlock()
	_ = d.conn.SetWriteDeadline(time.Now().Add(patience))
	for len(b) > 0 {
		n := len(b)
		if d.random.IntN(20) == 0 { // in two writes with a pause
			n = 1 + d.random.IntN(len(b))
		}
		if _, err := d.conn.Write(b[:n]); err != nil {
			if packetstest.IsTimeout(err) {
				d.fail(fmt.Errorf("nothing was taken for %v", patience))
			}
			return false
		}
		if b = b[n:]; len(b) > 0 {
			time.Sleep(time.Duration(d.random.IntN(100)) * time.Millisecond)
		}
	}
	return true
}

// message appends the next message to b, and its answers to answers.
func (d *device) message(b []byte, answers []expectedPacket, command byte, size, answer int) ([]byte, []expectedPacket) {
	p := publishHeader(d.topic, d.up.seq)
	p.Payload = d.up.next(command, answer, size)
	if p.QoS == 1 {
		answers = append(answers, expectedPacket{kind: packets.PUBACK, id: p.PacketID})
	}
	return p.Append(b, d.level), append(answers, expectedPacket{kind: packets.PUBLISH, size: answer})
}

// awaitAnswers waits until everything is answered, and reports whether it is.
func (d *device) awaitAnswers() bool {
	limit := time.After(patience)
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
			d.fail(fmt.Errorf("%d packets are not answered after %v", open, patience))
			return false
		}
	}
}

// complete reports whether everything is answered.
func (d *device) complete() bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return len(d.expected)+len(d.denied) == 0
}

// pause waits up to this time. It returns false if the connection or ctx ends.
func (d *device) pause(ctx context.Context, most time.Duration) bool {
	select {
	case <-time.After(time.Duration(d.random.Int64N(int64(most)))):
		return true
	case <-d.done:
	case <-ctx.Done():
	}
	return false
}
