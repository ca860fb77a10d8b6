package broker

// ingress follows the packets that a connection receives, in whatever pieces they come. mochi
// allocates the whole of a packet as soon as it has read its length, and a copy when it has
// come, so that a few bytes on many connections could take all memory. The ledger must
// therefore be charged before that.
type ingress struct {
	large func(bytes int) // called when a large packet begins, and with 0 when it has ended

	header  int  // bytes of the fixed header that have come
	length  int  // remaining length, as far as it has come
	left    int  // bytes of the packet that have not come
	body    int  // bytes of CONNECT that have come after its fixed header
	open    bool // CONNECT has come
	mqtt31  bool // CONNECT is of MQTT 3.1
	counted bool // large has been called for the packet
}

const (
	// largePacket is the length from which a packet counts on its own; what smaller ones take
	// is a part of sessionCost.
	largePacket = 4 << 10
	// packetCopies is how many copies of a packet mochi has while it reads it.
	packetCopies = 2
	// dup is the DUP flag in the first byte of a packet.
	dup = 0x08
	// mqtt31Name is the length of the protocol name of MQTT 3.1, "MQIsdp"; later versions
	// have "MQTT".
	mqtt31Name = 6
)

// read follows p to the end of a packet, and returns how many bytes that is. It clears the DUP flag
// of SUBSCRIBE, UNSUBSCRIBE and PUBREL, which MQTT 3.1 has (section 2.1) and mochi refuses.
func (i *ingress) read(p []byte) (n int) {
	for n < len(p) {
		if i.left > 0 {
			n += i.readBody(p[n:])
		} else {
			i.readHeader(&p[n])
			n++
		}
		if i.header == 0 && i.left == 0 {
			break
		}
	}
	return n
}

func (i *ingress) readBody(p []byte) int {
	n := min(i.left, len(p))
	if !i.open {
		if at := 1 - i.body; at >= 0 && at < n { // the low byte of the name's length
			i.mqtt31 = p[at] == mqtt31Name
		}
		i.body += n
	}
	if i.left -= n; i.left == 0 {
		i.open = true
	}
	return n
}

func (i *ingress) readHeader(b *byte) {
	const longestLength = 4 // bytes; mochi ends a connection that sends more
	switch {
	case i.header == 0:
		i.ended()
		if kind := *b >> 4; i.mqtt31 && (kind == 6 || kind == 8 || kind == 10) {
			*b &^= dup
		}
		i.length = 0
	case i.header <= longestLength:
		i.length |= int(*b&0x7F) << (7 * (i.header - 1))
		if *b&0x80 == 0 {
			i.begin()
			return
		}
	}
	i.header = min(i.header+1, longestLength+1)
}

// begin starts the body of a packet.
func (i *ingress) begin() {
	i.header, i.left = 0, i.length
	if i.length == 0 {
		i.open = true
	}
	if i.length >= largePacket {
		i.counted = true
		i.large(packetCopies * i.length)
	}
}

// ended is called when mochi has processed all that was read, or a new packet begins.
func (i *ingress) ended() {
	if i.counted && i.left == 0 {
		i.counted = false
		i.large(0)
	}
}
