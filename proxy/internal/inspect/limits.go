package inspect

import (
	"fmt"

	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/authz"
	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/packets"
)

// limits applies the limits of a session, rates excepted, to what the client sends. The zero
// value has none.
type limits struct {
	subscriptions *subscriptions
	*authz.Limits // in force for the packet at hand
}

// limitError is why a packet breaks a limit. For a client of MQTT 5.0, which knows the limit
// from the CONNACK, it ends the session.
type limitError struct {
	code   packets.ReasonCode
	reason string
}

func (e *limitError) Error() string { return e.reason }

// allow reports whether a PUBLISH whose first byte and size are given is within the limits.
func (l limits) allow(first byte, size int) bool {
	return !l.tooLarge(size) && first>>1&3 <= l.MostQoS() && (first&1 == 0 || l.MayRetain())
}

func (l limits) tooLarge(size int) bool { return l.MaxPacket > 0 && int64(size) > l.MaxPacket }

// broken returns the limit that a PUBLISH of that size breaks, or nil.
func (l limits) broken(p *packets.Publish, size int) *limitError {
	switch {
	case l.tooLarge(size):
		return l.sizeError(size)
	case p.QoS > l.MostQoS():
		return &limitError{packets.QoSNotSupported, fmt.Sprintf("the limit max_qos is %d", l.MostQoS())}
	case p.Retain && !l.MayRetain():
		return &limitError{packets.RetainNotSupported, "the limit retain allows no retained messages"}
	}
	return nil
}

func (l limits) sizeError(size int) *limitError {
	return &limitError{packets.PacketTooLarge, fmt.Sprintf("a packet of %d bytes is over the limit max_packet, %d", size, l.MaxPacket)}
}

// WillLimit returns an error if a will breaks the limits l, and the reason code of MQTT 5.0 for it.
// The size of a will is that of its message.
func WillLimit(l authz.Limits, level byte, w packets.Will) (packets.ReasonCode, error) {
	p := packets.Publish{Topic: []byte(w.Topic), QoS: w.QoS, Retain: w.Retain, PacketID: 1,
		Properties: w.Properties.Without(packets.WillDelayInterval)}
	size := len(p.AppendHeader(nil, level, len(w.Payload))) + len(w.Payload)
	if broken := (limits{Limits: &l}).broken(&p, size); broken != nil {
		return broken.code, fmt.Errorf("will: %w", broken)
	}
	return packets.Success, nil
}

// counted reports whether the subscriptions of the session are counted.
func (l limits) counted() bool { return l.Subscriptions > 0 }

// counting is a SUBSCRIBE whose filters are being counted.
type counting struct {
	limits limits
	size   int // of the packet
	passed int // filters that have been passed on
	added  []addedFilter
}

// count begins to count the filters of a SUBSCRIBE of that size.
func (l limits) count(size int) counting { return counting{limits: l, size: size} }

// add counts a filter that is to be passed on, or returns the limit that this would break.
func (c *counting) add(filter string) (denied string) {
	l := c.limits
	if l.tooLarge(c.size) {
		return l.sizeError(c.size).reason
	}
	if l.counted() {
		key, isNew, ok := l.subscriptions.add(filter, int(l.Subscriptions))
		switch {
		case !ok:
			return fmt.Sprintf("the limit subscriptions is %d", l.Subscriptions)
		case isNew:
			c.added = append(c.added, addedFilter{c.passed, key})
		}
	}
	c.passed++
	return ""
}

// ask records that the broker is asked about the filters that are passed on.
func (c *counting) ask(id uint16) {
	if c.passed > 0 && c.limits.counted() {
		c.limits.subscriptions.ask(id, c.added)
	}
}
