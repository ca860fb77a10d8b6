package inspect

import (
	"errors"

	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/authz"
	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/authz/topicmap"
	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/packets"
)

// Session describes a session to be filtered.
type Session struct {
	// Level is the protocol level: 3, 4 or 5.
	Level byte
	// ACL, Topics and Limits are the [Rights] with which the session begins.
	ACL    *authz.BoundACL
	Topics *topicmap.Bound
	Limits *authz.Limits
	// Resumed is set if the broker has kept a session of the client, and with it subscriptions.
	Resumed bool
	// Control, if not nil, changes the rights later.
	Control *Control
	// Renewal, if not nil, handles the client's AUTH packets. Without it they pass as they are.
	Renewal *Renewal
	// Broker and Client are the limits in the CONNACK and in the CONNECT.
	Broker, Client Limits
	// Denied, if not nil, is called for each message and each topic filter that the rules,
	// the map or the limits refuse, by the goroutine that called Filter.
	Denied func(Denied)
}

// Limits are the limits that one side of a session announces in MQTT 5.0.
type Limits struct {
	// TopicAliasMaximum is the highest topic alias, 0 for none.
	TopicAliasMaximum uint16
	// MaximumPacketSize is in bytes, 0 for no limit.
	MaximumPacketSize uint32
}

// The largest fixed header, and the largest packet that it can announce, in bytes.
const (
	maxFixedHeader = 5
	maxPacketSize  = maxFixedHeader + 268_435_455
)

// maxPacket returns the size of the largest packet that may be sent to that side.
func (l Limits) maxPacket() int32 {
	if l.MaximumPacketSize == 0 {
		return maxPacketSize
	}
	return int32(min(l.MaximumPacketSize, maxPacketSize))
}

// LimitsOf returns the limits in the properties of a CONNECT or a CONNACK.
func LimitsOf(p packets.Properties) Limits {
	var l Limits
	l.TopicAliasMaximum, _ = p.TopicAliasMaximum()
	l.MaximumPacketSize, _ = p.MaximumPacketSize()
	return l
}

// Denied describes a message or a topic filter that was refused.
type Denied struct {
	// Type is PUBLISH or SUBSCRIBE.
	Type packets.Type
	// Down is set if the broker sent the message.
	Down bool
	// Topic is the topic name or the filter. It is valid only during the call. It is empty
	// for a message with a topic alias and for a SUBSCRIBE that end a session of MQTT 5.0
	// because of a limit.
	Topic []byte
	// QoS is the QoS of the message, or the one that the subscription asks for.
	QoS byte
	// Retain is the message's retain flag.
	Retain bool
	// Reason is the reason as a text for people.
	Reason string
}

// New returns the filters of what the client sends and of what the broker sends. Each is for
// one goroutine at a time, and the two may be used at the same time.
func New(s Session) (up, down *Filter) {
	control := s.Control
	if control == nil {
		control = &Control{}
	}
	control.begin(&s)
	// Most sessions are idle, so their size counts. This is one allocation of 320 bytes.
	var all struct {
		shared shared
		client fromClient
		broker fromBroker
	}
	all.shared = shared{control: control, renewal: s.Renewal, denied: s.Denied}
	c, b := &all.client, &all.broker
	c.shared, c.maxPacket, c.aliases.max = &all.shared, s.Broker.maxPacket(), s.Broker.TopicAliasMaximum
	b.shared, b.maxPacket, b.aliases.max = &all.shared, s.Client.maxPacket(), s.Client.TopicAliasMaximum
	c.filter = Filter{judge: c, level: s.Level, disconnect: s.Level >= 5}
	b.filter = Filter{judge: b, level: s.Level}
	return &c.filter, &b.filter
}

// shared is what the judges of both directions share.
type shared struct {
	control       *Control
	renewal       *Renewal
	denied        func(Denied)
	requests      requests
	subscriptions subscriptions
}

// Growth returns by how many bytes a packet of the client can grow on its way to the broker.
// The largest growth is that of a PUBLISH whose topic and response topic are both mapped, and
// whose two variable lengths take a byte more each.
func Growth(m *topicmap.Bound) uint32 {
	if m == nil {
		return 0
	}
	up, _ := m.Growth()
	return uint32(2*up + 2)
}

// noSubscription is a reason code of MQTT 5.0: no subscription existed.
const noSubscription packets.ReasonCode = 0x11

// refusedFilter returns the code with which a SUBACK refuses one filter.
func refusedFilter(level byte, code packets.ReasonCode) packets.ReasonCode {
	if level >= 5 {
		return code
	}
	return 0x80 // failure, MQTT 3.1.1 section 3.9.3
}

// Limits on the memory that one session can take, in bytes.
const (
	maxHeld       = 128 << 10
	maxAliases    = 256 << 10
	maxRequests   = 64 << 10
	maxSubscribed = 64 << 10
	overhead      = 64 // of an entry of a map, roughly
)

var (
	errHeld     = errors.New("topics and properties of a packet exceed 128 KiB")
	errAliases  = errors.New("topic aliases exceed 256 KiB")
	errRequests = errors.New("too many topic filters without an answer of the broker")
)

// reasonCode returns the reason code of err for a client of MQTT 5.0.
func reasonCode(err error) packets.ReasonCode {
	var malformed *packets.MalformedError
	var limit *limitError
	switch {
	case errors.As(err, &malformed):
		return malformed.Code
	case errors.As(err, &limit):
		return limit.code
	case errors.Is(err, errHeld):
		return packets.PacketTooLarge
	}
	return packets.QuotaExceeded
}
