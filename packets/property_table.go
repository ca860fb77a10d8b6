package packets

import (
	"bytes"
	"fmt"
)

// PropertyID is the identifier of a property, MQTT 5.0 section 2.2.2.2. Every
// identifier of this version is one byte long.
type PropertyID byte

// The properties that a proxy removes from a packet or adds to one. All others are read with
// the methods of Properties, or by number.
const (
	AssignedClientIdentifier PropertyID = 0x12
	AuthenticationMethod     PropertyID = 0x15
	AuthenticationData       PropertyID = 0x16
	ReasonString             PropertyID = 0x1F
	TopicAliasMaximum        PropertyID = 0x22
	TopicAlias               PropertyID = 0x23
	UserProperty             PropertyID = 0x26
)

// Properties that only the methods of Properties need.
const (
	ResponseTopic         PropertyID = 0x08
	sessionExpiryInterval PropertyID = 0x11
	serverKeepAlive       PropertyID = 0x13
	WillDelayInterval     PropertyID = 0x18
	serverReference       PropertyID = 0x1C
	receiveMaximum        PropertyID = 0x21
	MaximumQoS            PropertyID = 0x24
	RetainAvailable       PropertyID = 0x25
	MaximumPacketSize     PropertyID = 0x27
)

// String returns the standard's name of the property, or its number.
func (id PropertyID) String() string {
	if rule := id.rule(); rule != nil {
		return rule.name
	}
	return fmt.Sprintf("Property 0x%02X", byte(id))
}

// encoding is the data type of a property's value, MQTT 5.0 section 1.5.
type encoding byte

const (
	encNone encoding = iota // not a property
	encByte
	encUint16
	encUint32
	encVarint
	encText
	encBinary
	encPair
)

// places is the set of packet types in which a property is allowed: bit 1<<t for packet type t,
// bit 0 for the will.
type places uint16

func in(types ...Type) (set places) {
	for _, t := range types {
		set |= 1 << t
	}
	return set
}

func (set places) has(t Type) bool { return set>>t&1 != 0 }

// propertyRule is one row of MQTT 5.0 table 2-4, with the rules on values and repetition from
// the sections on the packets.
type propertyRule struct {
	name     string
	encoding encoding
	places   places
	// least and most bound the value of a number. A most of 0 means no bound.
	least, most int
	repeats     places
}

func (id PropertyID) rule() *propertyRule {
	if int(id) >= len(propertyRules) || propertyRules[id].encoding == encNone {
		return nil
	}
	return &propertyRules[id]
}

var (
	inMessage   = in(PUBLISH, typeWill)
	inAcks      = in(CONNACK, PUBACK, PUBREC, PUBREL, PUBCOMP, SUBACK, UNSUBACK, DISCONNECT, AUTH)
	inHandshake = in(CONNECT, CONNACK, AUTH)
	inAll       = inMessage | inAcks | in(CONNECT, SUBSCRIBE, UNSUBSCRIBE)
)

// propertyRules is indexed by PropertyID.
var propertyRules = [...]propertyRule{
	0x01: {name: "Payload Format Indicator", encoding: encByte, places: inMessage, most: 1},
	0x02: {name: "Message Expiry Interval", encoding: encUint32, places: inMessage},
	0x03: {name: "Content Type", encoding: encText, places: inMessage},
	0x08: {name: "Response Topic", encoding: encText, places: inMessage},
	0x09: {name: "Correlation Data", encoding: encBinary, places: inMessage},
	0x0B: {name: "Subscription Identifier", encoding: encVarint, places: in(PUBLISH, SUBSCRIBE), least: 1, repeats: in(PUBLISH)},
	0x11: {name: "Session Expiry Interval", encoding: encUint32, places: in(CONNECT, CONNACK, DISCONNECT)},
	0x12: {name: "Assigned Client Identifier", encoding: encText, places: in(CONNACK)},
	0x13: {name: "Server Keep Alive", encoding: encUint16, places: in(CONNACK)},
	0x15: {name: "Authentication Method", encoding: encText, places: inHandshake},
	0x16: {name: "Authentication Data", encoding: encBinary, places: inHandshake},
	0x17: {name: "Request Problem Information", encoding: encByte, places: in(CONNECT), most: 1},
	0x18: {name: "Will Delay Interval", encoding: encUint32, places: in(typeWill)},
	0x19: {name: "Request Response Information", encoding: encByte, places: in(CONNECT), most: 1},
	0x1A: {name: "Response Information", encoding: encText, places: in(CONNACK)},
	0x1C: {name: "Server Reference", encoding: encText, places: in(CONNACK, DISCONNECT)},
	0x1F: {name: "Reason String", encoding: encText, places: inAcks},
	0x21: {name: "Receive Maximum", encoding: encUint16, places: in(CONNECT, CONNACK), least: 1},
	0x22: {name: "Topic Alias Maximum", encoding: encUint16, places: in(CONNECT, CONNACK)},
	0x23: {name: "Topic Alias", encoding: encUint16, places: in(PUBLISH), least: 1},
	0x24: {name: "Maximum QoS", encoding: encByte, places: in(CONNACK), most: 1},
	0x25: {name: "Retain Available", encoding: encByte, places: in(CONNACK), most: 1},
	0x26: {name: "User Property", encoding: encPair, places: inAll, repeats: inAll},
	0x27: {name: "Maximum Packet Size", encoding: encUint32, places: in(CONNECT, CONNACK), least: 1},
	0x28: {name: "Wildcard Subscription Available", encoding: encByte, places: in(CONNACK), most: 1},
	0x29: {name: "Subscription Identifiers Available", encoding: encByte, places: in(CONNACK), most: 1},
	0x2A: {name: "Shared Subscription Available", encoding: encByte, places: in(CONNACK), most: 1},
}

// fault checks the properties of a packet of type t, or of a will, against the
// table.
func (p Properties) fault(t Type) *fault {
	var seen uint64 // one bit for each identifier
	for rest := p; len(rest) > 0; {
		id, value, size := next(rest)
		if size == 0 {
			return faultProperty
		}
		rule := id.rule()
		bit := uint64(1) << id
		switch {
		case !rule.places.has(t):
			return faultPropertyPlace.property(id)
		case seen&bit != 0 && !rule.repeats.has(t):
			return faultPropertyTwice.property(id)
		}
		if f := rule.fault(id, value); f != nil {
			return f.property(id)
		}
		seen |= bit
		rest = rest[size:]
	}
	if t == CONNECT && seen&(1<<AuthenticationData) != 0 && seen&(1<<AuthenticationMethod) == 0 {
		return faultNoMethod
	}
	return nil
}

// fault checks one value.
func (r *propertyRule) fault(id PropertyID, value []byte) *fault {
	switch r.encoding {
	case encBinary:
		return nil
	case encText:
		switch text := value[2:]; {
		case id == ResponseTopic && len(text) == 0:
			return faultTopicEmpty
		case id == ResponseTopic && bytes.ContainsAny(text, wildcards):
			return faultResponseTopic
		default:
			return textFault(text, faultPropertyText)
		}
	case encPair:
		name, text := pair(value)
		if f := textFault(name, faultPropertyPair); f != nil {
			return f
		}
		return textFault(text, faultPropertyPair)
	}
	n := number(r.encoding, value)
	switch {
	case n == 0 && id == TopicAlias:
		return faultTopicAliasValue
	case n < r.least || r.most > 0 && n > r.most:
		return faultPropertyValue
	}
	return nil
}
