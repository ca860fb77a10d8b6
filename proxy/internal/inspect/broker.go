package inspect

import (
	"fmt"
	"sync"

	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/packets"
)

// fromBroker judges what the broker sends: it looks for the SUBACKs that have to be
// completed.
type fromBroker struct {
	level    byte
	requests *requests
	scratch  []byte
}

// need may be asked before a request is added and decide after it. The broker cannot
// answer a request that is added only now, so whatever is decided then is right.
func (b *fromBroker) need(packet []byte, size int) int {
	if packets.Type(packet[0]>>4) == packets.SUBACK && b.requests.any() {
		return size
	}
	return fixedHeader(packet)
}

func (b *fromBroker) decide(head []byte, size int) (verdict, error) {
	if packets.Type(head[0]>>4) != packets.SUBACK || len(head) < size {
		return verdict{}, nil
	}
	var ack packets.Suback
	if err := ack.Parse(head, b.level); err != nil {
		return verdict{}, fmt.Errorf("the broker's answer: %w", err)
	}
	refused := b.requests.take(ack.PacketID)
	if refused == nil {
		return verdict{}, nil
	}
	codes, ok := merge(ack.Codes, refused, refusedFilter(b.level))
	if !ok {
		return verdict{}, &packets.MalformedError{Type: packets.SUBACK, Level: b.level,
			Rule: "MQTT-3.9.3-1", Code: packets.ProtocolError, Reason: "not one reason code for each topic filter"}
	}
	ack.Codes = codes
	b.scratch = ack.Append(reuse(b.scratch), b.level)
	return verdict{instead: b.scratch}, nil
}

// merge puts code at the places that are refused, and codes at the others. It reports
// false if their number is not right.
func merge(codes []packets.ReasonCode, refused []bool, code packets.ReasonCode) ([]packets.ReasonCode, bool) {
	out := make([]packets.ReasonCode, len(refused))
	for i, r := range refused {
		switch {
		case r:
			out[i] = code
		case len(codes) == 0:
			return nil, false
		default:
			out[i], codes = codes[0], codes[1:]
		}
	}
	return out, len(codes) == 0
}

// requests are the SUBSCRIBEs that were passed on in part, and which of their filters
// were not. Both directions use it.
type requests struct {
	mu      sync.Mutex
	refused map[uint16][]bool // by packet identifier
	size    int               // in bytes
}

func (r *requests) any() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return len(r.refused) > 0
}

func (r *requests) waiting(id uint16) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.refused[id] != nil
}

// add has to be called before the SUBSCRIBE is passed on.
func (r *requests) add(id uint16, refused []bool) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.size += overhead + len(refused); r.size > maxRequests {
		return errRequests
	}
	if r.refused == nil {
		r.refused = map[uint16][]bool{}
	}
	r.refused[id] = refused
	return nil
}

// take returns what add was given, once, or nil.
func (r *requests) take(id uint16) []bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	refused, ok := r.refused[id]
	if ok {
		delete(r.refused, id)
		r.size -= overhead + len(refused)
	}
	return refused
}
