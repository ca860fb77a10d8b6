package inspect

import "github.com/mqtt-auth-proxy/mqtt-auth-proxy/packets"

// Filter is the filter of one direction. [New] makes it.
type Filter struct {
	judge      judge
	level      byte
	disconnect bool // the sender is told about faults

	held   []byte // the beginning of a packet that is not decided on
	left   int    // bytes to come of the packet that is
	drop   bool   // and they are dropped
	answer []byte // to that packet, once it is complete
	last   bool   // that packet is a DISCONNECT
	ended  bool   // it is complete: what follows does not count

	out  output
	back []byte
	err  error
}

// judge decides about the packets of one direction.
type judge interface {
	// need returns how many bytes of a packet must be there to decide. b holds the
	// first, at least the fixed header, and size is the size of the packet. If that
	// takes more than b to tell, it is a number above len(b) and not above the
	// answer.
	need(b []byte, size int) int
	// decide is shown that many bytes. What it returns holds until the next call.
	decide(head []byte, size int) (verdict, error)
}

// verdict is what becomes of a packet. The zero value passes it on.
type verdict struct {
	drop    bool
	instead []byte // if not nil, takes the place of the bytes that were shown
	answer  []byte // whole packets for the sender
}

// Filter is shown every byte of its direction, in order and in pieces of any size. It
// returns the bytes to pass on, and whole packets to send back between two of the
// other direction; both hold until the next call. An error, which every later call
// returns again, ends the session; pass is then what came before the fault and back
// the last that the sender is told. What follows a DISCONNECT is ignored
// [MQTT-3.14.4-1].
func (f *Filter) Filter(b []byte) (pass, back []byte, err error) {
	if f.err != nil {
		return nil, nil, f.err
	}
	f.out.begin(b)
	f.back = reuse(f.back)
	for at := 0; at < len(b) && f.err == nil && !f.ended; {
		var n int
		n, f.err = f.step(b, at)
		at += n
	}
	if f.err != nil && f.disconnect {
		f.back = (&packets.Disconnect{Code: reasonCode(f.err)}).Append(f.back, f.level)
	}
	return f.out.end(), f.back, f.err
}

// step deals with some of b from at on and returns how much.
func (f *Filter) step(b []byte, at int) (int, error) {
	switch rest := b[at:]; {
	case f.left > 0:
		n := min(f.left, len(rest))
		if !f.drop {
			f.out.keep(at, at+n)
		}
		f.advance(n)
		return n, nil
	case len(f.held) > 0:
		return f.hold(rest)
	default:
		need, size, err := f.need(rest)
		if err != nil {
			return 0, err
		}
		if need > len(rest) {
			f.held = append(f.held, rest...)
			return len(rest), nil
		}
		v, err := f.decide(rest[:need], size)
		switch {
		case err != nil, v.drop:
		case v.instead != nil:
			f.out.insert(v.instead)
		default:
			f.out.keep(at, at+need)
		}
		return need, err
	}
}

// hold adds as much of b to what is held as is needed next.
func (f *Filter) hold(b []byte) (int, error) {
	need, _, err := f.need(f.held)
	if err != nil {
		return 0, err
	}
	n := min(need-len(f.held), len(b))
	f.held = append(f.held, b[:n]...)
	need, size, err := f.need(f.held)
	if err != nil || need > len(f.held) {
		return n, err
	}
	v, err := f.decide(f.held, size)
	switch {
	case err != nil, v.drop:
	case v.instead != nil:
		f.out.insert(v.instead)
	default:
		f.out.insert(f.held)
	}
	f.held = reuse(f.held)
	return n, err
}

// need returns how many bytes of the packet that b begins are needed to decide, as
// far as b tells, and its size.
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

// decide begins a packet of the given size of which head is there.
func (f *Filter) decide(head []byte, size int) (verdict, error) {
	v, err := f.judge.decide(head, size)
	if err == nil {
		f.drop, f.answer, f.left = v.drop, v.answer, size
		f.last = packets.Type(head[0]>>4) == packets.DISCONNECT
		f.advance(len(head))
	}
	return v, err
}

// advance counts n bytes of the packet. Its end is the time for the answer.
func (f *Filter) advance(n int) {
	if f.left -= n; f.left == 0 {
		f.back = append(f.back, f.answer...)
		f.answer, f.ended = nil, f.last
	}
}

// fixedHeader returns the size of the fixed header, of which b holds all.
func fixedHeader(b []byte) int {
	n := 2
	for b[n-1] >= 0x80 {
		n++
	}
	return n
}

// output is what of an input is passed on: a part of the input itself as long as
// that will do.
type output struct {
	in       []byte
	from, to int
	own      bool
	buf      []byte // if own
}

func (o *output) begin(in []byte) {
	o.in, o.from, o.to, o.own, o.buf = in, 0, 0, false, reuse(o.buf)
}

// end returns the output and forgets the input.
func (o *output) end() []byte {
	b := o.in[o.from:o.to]
	o.in = nil
	if o.own {
		return o.buf
	}
	return b
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

// reuse returns b empty, or nothing if it is too large to be kept by a session that
// may idle for days.
func reuse(b []byte) []byte {
	if cap(b) > 1<<10 {
		return nil
	}
	return b[:0]
}
