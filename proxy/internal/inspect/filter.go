package inspect

import "github.com/mqtt-auth-proxy/mqtt-auth-proxy/packets"

// Filter is the filter of one direction; see [New].
type Filter struct {
	judge judge
	work  *work // nil if none is needed
	// unfinished is nil as long as there was nothing unfinished. It is kept after that, so that
	// a packet in pieces does not cost an allocation.
	unfinished *unfinished

	// The packet that has been decided on and is not complete.
	remaining int32 // its bytes that are still to come
	drop      bool  // they are dropped
	last      bool  // it is a DISCONNECT

	ended      bool // a DISCONNECT is complete, and what follows is ignored
	disconnect bool // the sender gets a DISCONNECT after a fault
	level      byte
}

// work is the buffers of a call of Filter. Their contents need not outlive it.
type work [4][]byte

// The buffers.
const (
	forwarded = iota // what is passed on
	sentBack         // what is sent back
	topicName        // the topic of a message as it is passed on
	scratch          // a verdict
)

// unfinished is what is kept until more bytes come.
type unfinished struct {
	held   []byte // the beginning of a packet that has not been decided on
	answer []byte // sent back once the packet is complete
	err    error  // has ended the session
}

// later returns f.unfinished, and allocates it if there is none.
func (f *Filter) later() *unfinished {
	if f.unfinished == nil {
		f.unfinished = &unfinished{}
	}
	return f.unfinished
}

// failed returns the error that has ended the session.
func (f *Filter) failed() error {
	if f.unfinished == nil {
		return nil
	}
	return f.unfinished.err
}

// judge decides about the packets of one direction.
type judge interface {
	// need returns how many bytes of a packet decide needs. b is the beginning of the
	// packet, with at least the fixed header, and size is the size of the packet. If b is
	// too short to say, need returns a lower bound that is greater than len(b).
	need(b []byte, size int) int
	// decide gets as many bytes as need returned. Its result is valid until the next call.
	decide(head []byte, size int) (verdict, error)
}

// verdict says what is done with a packet. The zero value passes it on.
type verdict struct {
	drop    bool
	instead []byte // if not nil, replaces the bytes that decide got
	answer  []byte // whole packets for the sender
}

// Filter takes every byte of its direction, in order and in pieces of any size. It returns
// the bytes to pass on, and whole packets to send back to the sender between two packets of
// the other direction. Both are valid until the next call. An error ends the session, and
// every later call returns it again; pass is then what came before the fault, and back ends
// with the last packet for the sender. What follows a DISCONNECT is ignored [MQTT-3.14.4-1].
func (f *Filter) Filter(b []byte) (pass, back []byte, err error) {
	if err := f.failed(); err != nil {
		return nil, nil, err
	}
	if f.work == nil {
		f.work = &work{}
	}
	out := output{in: b, buf: f.work[forwarded][:0]}
	f.work[sentBack] = f.work[sentBack][:0]
	for at := 0; at < len(b) && err == nil && !f.ended; {
		var n int
		n, err = f.step(&out, at)
		at += n
	}
	if err != nil {
		f.later().err = err
		if f.disconnect {
			f.work[sentBack] = (&packets.Disconnect{Code: reasonCode(err)}).Append(f.work[sentBack], f.level)
		}
	}
	f.work[forwarded] = out.buf
	return out.passed(), f.work[sentBack], err
}

// Borrow lends the filter buffers to work with, until Borrow(nil). They may be larger after that.
// Without them, the filter makes some of its own and keeps them.
func (f *Filter) Borrow(bufs *[4][]byte) { f.work = (*work)(bufs) }

// Remaining returns how many bytes of the current packet are still to come and pass as they
// are. If it is not 0, Skip may take their place in Filter.
func (f *Filter) Remaining() int {
	if f.drop || f.last || f.failed() != nil {
		return 0
	}
	return int(f.remaining)
}

// Skip records that the next n bytes, of those that Remaining counts, have been passed on.
func (f *Filter) Skip(n int) { f.advance(n) }

// step processes some of the input of out, from at on, and returns how many bytes.
func (f *Filter) step(out *output, at int) (int, error) {
	switch rest := out.in[at:]; {
	case f.remaining > 0:
		n := min(int(f.remaining), len(rest))
		if !f.drop {
			out.keep(at, at+n)
		}
		f.advance(n)
		return n, nil
	case f.unfinished != nil && len(f.unfinished.held) > 0:
		return f.hold(out, rest)
	default:
		need, size, err := f.need(rest)
		if err != nil {
			return 0, err
		}
		if need > len(rest) {
			later := f.later()
			later.held = append(later.held, rest...)
			return len(rest), nil
		}
		v, err := f.decide(rest[:need], size)
		switch {
		case err != nil, v.drop:
		case v.instead != nil:
			out.insert(v.instead)
		default:
			out.keep(at, at+need)
		}
		return need, err
	}
}

// hold appends as much of b to the held bytes as is needed next, and decides if that is enough.
func (f *Filter) hold(out *output, b []byte) (int, error) {
	held := &f.unfinished.held
	need, _, err := f.need(*held)
	if err != nil {
		return 0, err
	}
	n := min(max(need-len(*held), 0), len(b)) // rights that have changed may need less
	*held = append(*held, b[:n]...)
	need, size, err := f.need(*held)
	if err != nil || need > len(*held) {
		return n, err
	}
	v, err := f.decide(*held, size)
	switch {
	case err != nil, v.drop:
	case v.instead != nil:
		out.insert(v.instead)
	default:
		out.insert(*held)
	}
	*held = reuse(*held)
	return n, err
}

// need returns how many bytes are needed to decide about the packet at the beginning of b, as
// far as b is enough to say, and the packet's size.
func (f *Filter) need(b []byte) (need, size int, err error) {
	size, err = packets.PacketSize(b, f.level)
	if err != nil {
		return 0, 0, err
	}
	if size == 0 {
		return len(b) + 1, 0, nil
	}
	if need = f.judge.need(b, size); need > maxHeld {
		return 0, 0, errHeld
	}
	return need, size, nil
}

// decide decides about a packet of the given size that begins with head.
func (f *Filter) decide(head []byte, size int) (verdict, error) {
	v, err := f.judge.decide(head, size)
	if err == nil {
		if len(v.answer) > 0 {
			later := f.later()
			later.answer = append(later.answer[:0], v.answer...)
		}
		f.drop, f.remaining = v.drop, int32(size)
		f.last = packets.Type(head[0]>>4) == packets.DISCONNECT
		f.advance(len(head))
	}
	return v, err
}

// advance counts n bytes of the packet. At the end of the packet it sends the answer back.
func (f *Filter) advance(n int) {
	if f.remaining -= int32(n); f.remaining > 0 {
		return
	}
	f.ended = f.last
	if later := f.unfinished; later != nil && len(later.answer) > 0 {
		f.work[sentBack] = append(f.work[sentBack], later.answer...)
		later.answer = reuse(later.answer)
	}
}

// fixedHeader returns the size of the fixed header at the beginning of b.
func fixedHeader(b []byte) int {
	n := 2
	for b[n-1] >= 0x80 {
		n++
	}
	return n
}

// output collects what is passed on of an input. It is a part of the input itself as long as
// that is possible.
type output struct {
	in       []byte
	from, to int
	own      bool // buf holds the output
	buf      []byte
}

// passed returns all that is passed on.
func (o *output) passed() []byte {
	if o.own {
		return o.buf
	}
	return o.in[o.from:o.to]
}

// keep passes on the input from i to j.
func (o *output) keep(i, j int) {
	switch {
	case o.own:
		o.buf = append(o.buf, o.in[i:j]...)
	case o.from == o.to:
		o.from, o.to = i, j
	case i == o.to:
		o.to = j
	default:
		o.insert(o.in[i:j])
	}
}

// insert passes on b.
func (o *output) insert(b []byte) {
	if !o.own {
		o.own = true
		o.buf = append(o.buf, o.in[o.from:o.to]...)
	}
	o.buf = append(o.buf, b...)
}

// reuse returns b emptied, or nil if b is too large to be kept by a session that may be idle
// for days.
func reuse(b []byte) []byte {
	if cap(b) > 1<<10 {
		return nil
	}
	return b[:0]
}
