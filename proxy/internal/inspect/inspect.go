package inspect

import (
	"errors"

	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/authz"
	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/packets"
)

// Session is what has to be known of a session to filter it.
type Session struct {
	// Level is the protocol level: 3, 4 or 5.
	Level byte
	// ACL says what is allowed. It must be set.
	ACL *authz.BoundACL
	// TopicAliasMaximum is that of the broker's CONNACK, 0 if it has none.
	TopicAliasMaximum uint16
	// Denied, if not nil, is called for each message and each topic filter of the
	// client that is not allowed, from the goroutine that filters.
	Denied func(Denied)
}

// Denied is a message or a topic filter that is not allowed.
type Denied struct {
	// Type is PUBLISH or SUBSCRIBE.
	Type packets.Type
	// Topic is the topic name or the filter. It holds during the call only.
	Topic []byte
	// QoS is that of the message, or that which the subscription asks for.
	QoS byte
	// Retain is the message's.
	Retain bool
}

// New returns the filters of what the client and of what the broker sends. Each is
// for one goroutine at a time; the two may run at once.
func New(s Session) (up, down *Filter) {
	requests := &requests{}
	up = &Filter{
		level:      s.Level,
		disconnect: s.Level >= 5,
		judge:      &fromClient{level: s.Level, acl: s.ACL, denied: s.Denied, aliases: aliases{max: s.TopicAliasMaximum}, requests: requests},
	}
	return up, &Filter{level: s.Level, judge: &fromBroker{level: s.Level, requests: requests}}
}

// AllowsWill reports whether the will of c, if there is one, may be published.
func AllowsWill(acl *authz.BoundACL, c *packets.Connect) bool {
	return !c.HasWill || acl.Publish([]byte(c.Will.Topic), c.Will.QoS, c.Will.Retain)
}

// refusedFilter is how a SUBACK says no to one filter.
func refusedFilter(level byte) packets.ReasonCode {
	if level >= 5 {
		return packets.NotAuthorized
	}
	return 0x80 // failure, MQTT 3.1.1 section 3.9.3
}

// What a session may take of the proxy's memory, in bytes.
const (
	maxHeld     = 128 << 10
	maxAliases  = 256 << 10
	maxRequests = 64 << 10
	overhead    = 64 // of a map's entry, roughly
)

var (
	errHeld     = errors.New("topics and properties of a packet exceed 128 KiB")
	errAliases  = errors.New("topic aliases exceed 256 KiB")
	errRequests = errors.New("too many topic filters without an answer of the broker")
)

// reasonCode is what a client of MQTT 5.0 is told about err.
func reasonCode(err error) packets.ReasonCode {
	var malformed *packets.MalformedError
	switch {
	case errors.As(err, &malformed):
		return malformed.Code
	case errors.Is(err, errHeld):
		return packets.PacketTooLarge
	}
	return 0x97 // quota exceeded
}
