package inspect

import (
	"errors"

	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/authz"
	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/authz/topicmap"
	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/packets"
)

// Session is what has to be known of a session to filter it.
type Session struct {
	// Level is the protocol level: 3, 4 or 5.
	Level byte
	// ACL says which topics of the device are allowed. Nil allows all.
	ACL *authz.BoundACL
	// Topics maps the device's topics to the broker's and back. Nil maps none.
	Topics *topicmap.Bound
	// Broker and Client are what each side takes, as its CONNACK or CONNECT says.
	Broker, Client Limits
	// Denied, if not nil, is called for each message and each topic filter that is not
	// allowed, from the goroutine that filters.
	Denied func(Denied)
}

// Limits are what one side of a session takes, in MQTT 5.0.
type Limits struct {
	// TopicAliasMaximum is the highest topic alias, 0 for none.
	TopicAliasMaximum uint16
	// MaximumPacketSize is in bytes, 0 for no limit.
	MaximumPacketSize uint32
}

// LimitsOf returns the limits in the properties of a CONNECT or a CONNACK.
func LimitsOf(p packets.Properties) Limits {
	var l Limits
	l.TopicAliasMaximum, _ = p.TopicAliasMaximum()
	l.MaximumPacketSize, _ = p.MaximumPacketSize()
	return l
}

// Denied is a message or a topic filter that is not allowed.
type Denied struct {
	// Type is PUBLISH or SUBSCRIBE.
	Type packets.Type
	// Down says that the message was the broker's, for the device.
	Down bool
	// Topic is the topic name or the filter. It holds during the call only.
	Topic []byte
	// QoS is that of the message, or that which the subscription asks for.
	QoS byte
	// Retain is the message's.
	Retain bool
	// Reason says why, in words.
	Reason string
}

// New returns the filters of what the client and of what the broker sends. Each is
// for one goroutine at a time; the two may run at once.
func New(s Session) (up, down *Filter) {
	requests, t := &requests{}, topics{s.ACL, s.Topics}
	up = &Filter{
		level:      s.Level,
		disconnect: s.Level >= 5,
		judge: &fromClient{level: s.Level, topics: t, denied: s.Denied, maxPacket: s.Broker.MaximumPacketSize,
			requests: requests, aliases: aliases{max: s.Broker.TopicAliasMaximum}},
	}
	return up, &Filter{level: s.Level, judge: &fromBroker{level: s.Level, topics: t, denied: s.Denied,
		maxPacket: s.Client.MaximumPacketSize, requests: requests, aliases: aliases{max: s.Client.TopicAliasMaximum}}}
}

// Growth returns by how many bytes a packet of the client may grow on its way to the
// broker: a PUBLISH whose topic and response topic are mapped, and whose lengths then take
// a byte more each.
func Growth(m *topicmap.Bound) uint32 {
	if m == nil {
		return 0
	}
	up, _ := m.Growth()
	return uint32(2*up + 2)
}

// Reason codes of MQTT 5.0 that no other package needs.
const (
	noSubscription packets.ReasonCode = 0x11 // no subscription existed
	quotaExceeded  packets.ReasonCode = 0x97
)

// refusedFilter is how a SUBACK says no to one filter.
func refusedFilter(level byte, code packets.ReasonCode) packets.ReasonCode {
	if level >= 5 {
		return code
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
	return quotaExceeded
}
