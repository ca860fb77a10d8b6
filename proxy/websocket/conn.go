package websocket

import (
	"encoding/binary"
	"errors"
	"io"
	"net"
	"sync"
	"sync/atomic"
	"time"
)

// Conn is a net.Conn for the MQTT bytes within a WebSocket connection. One goroutine may read
// while another writes. All other methods may be called from any goroutine.
//
// Reading ends with [io.EOF] when the client closes the connection normally, and with a
// [*FrameError] after a violation of the protocol, which has been answered by then. Any other
// error is that of the underlying connection, and the next read continues where this one
// stopped.
type Conn struct {
	net.Conn
	buffers *bufferPool

	in  decoder
	end error // the permanent error of Read, if any

	code atomic.Int32 // of the Close frame that CloseWrite sends; 0 means NormalClosure

	writing   sync.Mutex // guards the following fields
	closeSent bool       // or a frame was truncated: nothing can be sent any more
}

// Read reads from the client. It decodes in place in b, so Conn never buffers any bytes.
func (c *Conn) Read(b []byte) (int, error) {
	if len(b) == 0 {
		return 0, nil
	}
	for c.end == nil {
		n, err := c.Conn.Read(b)
		m, fault := c.decode(b[:n])
		if fault != nil {
			c.conclude(fault)
		}
		if m > 0 {
			return m, nil
		}
		if err != nil && c.end == nil {
			return 0, err
		}
	}
	return 0, c.end
}

// conclude ends reading. It sends a Close frame to the client, unless the client has sent one
// itself.
func (c *Conn) conclude(end error) {
	c.end = end
	var refused *FrameError
	if errors.As(end, &refused) {
		_ = c.sendClose(refused.Code)
	}
}

// decode moves the payload of data frames to the beginning of b and returns its size. Bytes
// after a Close frame are ignored.
func (c *Conn) decode(b []byte) (n int, err error) {
	d := &c.in
	for i := 0; i < len(b); {
		if !d.inFrame {
			if err := c.beginFrame(b[i]); err != nil {
				return n, err
			}
			i++
			continue
		}
		part := b[i:min(len(b), i+int(d.left))]
		i += len(part)
		d.unmask(part)
		if d.opcode < closing {
			n += copy(b[n:], part)
			d.idle = 0
		} else {
			d.control = append(d.control, part...)
		}
		if err := c.endFrame(); err != nil {
			return n, err
		}
	}
	return n, nil
}

// beginFrame takes one byte of a frame's header.
func (c *Conn) beginFrame(b byte) error {
	d := &c.in
	done, err := d.header(b)
	if err != nil || !done {
		return err
	}
	if (d.opcode >= closing || d.left == 0) && d.excess(time.Now()) {
		return &FrameError{Code: PolicyViolation, Text: "too many frames that carry nothing"}
	}
	return c.endFrame()
}

// endFrame handles a frame if it is complete.
func (c *Conn) endFrame() error {
	d := &c.in
	d.inFrame = d.left > 0
	if d.inFrame || d.opcode < closing {
		return nil
	}
	return c.handleControl()
}

// handleControl answers a complete control frame.
func (c *Conn) handleControl() error {
	payload := c.in.control
	switch c.in.opcode {
	case ping:
		// The next read or write fails as well, so the error is ignored.
		_ = c.send(pong, payload)
	case closing:
		code, err := closeCode(payload)
		if err != nil {
			return err
		}
		_ = c.sendClose(code)
		return io.EOF
	}
	return nil
}

// Write sends b as one binary message: all of it or, with an error, nothing that the client
// could use.
func (c *Conn) Write(b []byte) (int, error) {
	if len(b) == 0 {
		return 0, nil
	}
	c.writing.Lock()
	defer c.writing.Unlock()
	if c.closeSent {
		return 0, net.ErrClosed
	}
	return c.writeFrame(binaryData, b)
}

// send sends a control frame, unless a Close frame was sent.
func (c *Conn) send(opcode byte, payload []byte) error {
	c.writing.Lock()
	defer c.writing.Unlock()
	if c.closeSent {
		return nil
	}
	_, err := c.writeFrame(opcode, payload)
	return err
}

// writeFrame sends a frame with one write. c.writing is held.
func (c *Conn) writeFrame(opcode byte, payload []byte) (int, error) {
	frame := c.buffers.get(maxHeader + len(payload))
	defer c.buffers.put(frame)
	head := appendHeader((*frame)[:0], opcode, len(payload))
	*frame = append(head, payload...)
	n, err := c.Conn.Write(*frame)
	if err == nil {
		return len(payload), nil
	}
	if n > 0 {
		// The client would take the following bytes for the rest of this frame.
		c.closeSent = true
	}
	return 0, err
}

func appendHeader(dst []byte, opcode byte, size int) []byte {
	dst = append(dst, finalBit|opcode)
	switch {
	case size < length16:
		return append(dst, byte(size))
	case size < 1<<16:
		return binary.BigEndian.AppendUint16(append(dst, length16), uint16(size))
	}
	return binary.BigEndian.AppendUint64(append(dst, length64), uint64(size))
}

// SetCloseCode sets the code that [Conn.CloseWrite] sends to the client. It does not block.
func (c *Conn) SetCloseCode(code int) { c.code.Store(int32(code)) }

// CloseWrite ends the stream to the client with a Close frame. It then calls CloseWrite of the
// underlying connection, if there is one.
func (c *Conn) CloseWrite() error {
	code := int(c.code.Load())
	if code == 0 {
		code = NormalClosure
	}
	err := c.sendClose(code)
	if w, ok := c.Conn.(interface{ CloseWrite() error }); ok {
		err = errors.Join(err, w.CloseWrite())
	}
	return err
}

// sendClose sends the Close frame, at most once.
func (c *Conn) sendClose(code int) error {
	c.writing.Lock()
	defer c.writing.Unlock()
	if c.closeSent {
		return nil
	}
	_, err := c.writeFrame(closing, binary.BigEndian.AppendUint16(nil, uint16(code)))
	c.closeSent = true
	return err
}

// bufferPool has buffers for frames that are being sent.
type bufferPool struct{ pool sync.Pool }

// maxPooled is the capacity of the largest buffer that is kept, in bytes.
const maxPooled = 128 << 10

func (p *bufferPool) get(size int) *[]byte {
	if b, ok := p.pool.Get().(*[]byte); ok && cap(*b) >= size {
		return b
	}
	b := make([]byte, 0, size)
	return &b
}

func (p *bufferPool) put(b *[]byte) {
	if cap(*b) <= maxPooled {
		p.pool.Put(b)
	}
}
