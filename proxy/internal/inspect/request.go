package inspect

import (
	"sync"

	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/packets"
)

// passedOn is the place of a reason code that the broker will provide. No reason code has
// this value.
const passedOn packets.ReasonCode = 0xFF

// requests holds the SUBSCRIBEs and UNSUBSCRIBEs that were passed on in part and have not been
// answered. The filters of both directions use it at the same time.
type requests struct {
	mu      sync.Mutex
	waiting map[uint16]request // by packet identifier
	size    int                // in bytes
}

// request is what is known of the answer to a request.
type request struct {
	answer packets.Type // SUBACK or UNSUBACK
	codes  []packets.ReasonCode
}

// any reports whether a request waits for its answer.
func (r *requests) any() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return len(r.waiting) > 0
}

// inUse reports whether a packet identifier belongs to a request that waits.
func (r *requests) inUse(id uint16) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	_, ok := r.waiting[id]
	return ok
}

// add records a request before it is passed on.
func (r *requests) add(id uint16, wait request) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.size += overhead + len(wait.codes); r.size > maxRequests {
		return errRequests
	}
	if r.waiting == nil {
		r.waiting = map[uint16]request{}
	}
	r.waiting[id] = wait
	return nil
}

// take removes the request that an answer of the given type belongs to and returns its codes,
// or nil if there is none.
func (r *requests) take(id uint16, answer packets.Type) []packets.ReasonCode {
	r.mu.Lock()
	defer r.mu.Unlock()
	wait, ok := r.waiting[id]
	if !ok || wait.answer != answer {
		return nil
	}
	if delete(r.waiting, id); len(r.waiting) == 0 {
		r.waiting = nil // an empty map keeps its memory
	}
	r.size -= overhead + len(wait.codes)
	return wait.codes
}

// merge replaces each passedOn in ours by the next of the broker's codes. It reports false if
// their numbers differ.
func merge(ours, brokers []packets.ReasonCode) ([]packets.ReasonCode, bool) {
	out := make([]packets.ReasonCode, len(ours))
	for i, code := range ours {
		if code != passedOn {
			out[i] = code
			continue
		}
		if len(brokers) == 0 {
			return nil, false
		}
		out[i], brokers = brokers[0], brokers[1:]
	}
	return out, len(brokers) == 0
}
