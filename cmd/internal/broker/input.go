package broker

import (
	"errors"
	"os"
	"time"
)

const (
	// inputBuffer is how many bytes are read at once from a device that is not quiet.
	inputBuffer = 4 << 10
	// firstBytes is how many bytes are read at once from a quiet device. It is enough for a
	// PINGREQ and an acknowledgement.
	firstBytes = 16
)

// input is what has come from a device and mochi has not read. mochi gets one packet at a time, so
// that nothing is left in its own buffer between two packets.
type input struct {
	unread   []byte             // in buffer or first
	err      error              // comes after unread
	buffer   *[inputBuffer]byte // nil for a quiet device
	first    [firstBytes]byte
	due      time.Time // when the packet that is awaited must have come, zero for no limit
	quiet    time.Time // when the device is quiet if nothing has come
	deadline time.Time // of the socket
}

// setDeadline sets the deadline of the socket, which fails if that is closed, as reading does.
func (c *conn) setDeadline(t time.Time) {
	c.deadline = t
	_ = c.Conn.SetReadDeadline(t)
}

// readFirst waits for a quiet device, for the keep alive at most.
func (c *conn) readFirst() {
	n, err := c.Conn.Read(c.first[:])
	c.unread, c.err = c.first[:n], err
}

// fill reads what the device has sent into the buffer, and waits for it until a deadline.
func (c *conn) fill(until time.Time) {
	if c.buffer == nil {
		c.buffer = c.broker.buffers.Get().(*[inputBuffer]byte)
	}
	n, err := c.readUntil(c.buffer[:], until)
	c.unread, c.err = c.buffer[:n], err
}

// readUntil reads what the device has sent, and waits for it until a deadline, zero for no limit. It
// leaves a deadline of the socket that is earlier, and moves it when it has passed, because that is
// cheaper than to move it before each packet.
func (c *conn) readUntil(p []byte, until time.Time) (int, error) {
	if !until.IsZero() && (c.deadline.IsZero() || c.deadline.After(until)) {
		c.setDeadline(until)
	}
	for {
		n, err := c.Conn.Read(p)
		if !errors.Is(err, os.ErrDeadlineExceeded) || c.deadline.Equal(until) {
			return n, err
		}
		c.setDeadline(until)
	}
}

// releaseBuffer gives up the buffer, which must not hold anything that is to be read.
func (c *conn) releaseBuffer() {
	if c.buffer != nil {
		c.broker.buffers.Put(c.buffer)
		c.buffer, c.unread = nil, nil
	}
}

// beginKeepAlive restarts the keep alive, and the time after which the device is quiet. A packet
// has to arrive completely within the keep alive, even if its first bytes end the quiet time.
func (c *conn) beginKeepAlive(seconds uint16) {
	now := time.Now()
	c.quiet = now.Add(c.broker.quietAfter)
	c.due = keepAliveEnd(now, seconds)
}

// keepAliveEnd returns when a device that sends nothing more has been silent for one and a half
// keep alives, of as many seconds [MQTT-3.1.2-24]. There is no limit with 0.
func keepAliveEnd(now time.Time, seconds uint16) time.Time {
	if seconds == 0 {
		return time.Time{}
	}
	return now.Add(time.Duration(seconds) * 3 * time.Second / 2)
}

// await returns when the next packet begins, or the connection has ended, which the next Read finds
// out. It gives up the buffer and returns errQuiet if the device sends nothing for a while. It returns
// errNotStored once a message was not stored, so that the device has to connect again.
func (c *conn) await() error {
	c.in.ended()
	if c.unstored {
		return errNotStored
	}
	if len(c.unread) > 0 || c.err != nil {
		return nil
	}
	if !c.due.IsZero() && !c.quiet.Before(c.due) {
		c.fill(c.due)
		return nil
	}
	c.fill(c.quiet)
	if errors.Is(c.err, os.ErrDeadlineExceeded) {
		c.err = nil
		c.releaseBuffer()
		c.setDeadline(c.due)
		return errQuiet
	}
	return nil
}

// Read gives mochi the bytes of one packet. It fails when there is no memory for the packet.
func (c *conn) Read(p []byte) (int, error) {
	n, err := c.receive(p)
	if n > 0 {
		c.last = p[n-1]
	}
	switch {
	case c.overfull:
		if c.mqtt5 {
			_ = c.out.send(quotaExceeded[:])
		}
		return 0, errNoMemory
	case c.mqtt5 && errors.Is(err, os.ErrDeadlineExceeded):
		_ = c.out.send(keepAliveTimeout[:])
	}
	return n, err
}

// receive reads bytes of one packet. Most of a large one does not go through the buffer.
func (c *conn) receive(p []byte) (int, error) {
	if len(c.unread) == 0 && c.err == nil {
		if len(p) >= inputBuffer && len(p) <= c.in.left {
			n, err := c.readUntil(p, c.due)
			c.in.read(p[:n])
			return n, err
		}
		c.fill(c.due)
	}
	if len(c.unread) == 0 {
		return 0, c.err
	}
	n := c.in.read(p[:copy(p, c.unread)])
	c.unread = c.unread[n:]
	return n, nil
}
