package packets

// fault is one thing that the standard forbids: the number of the statement in MQTT 3.1.1 and
// in MQTT 5.0, the reason code of MQTT 5.0, and a description.
type fault struct {
	v3, v5 string
	code   ReasonCode
	reason string
}

// in returns the fault as the error of a packet. Level 0 means that the level is not known yet.
func (f *fault) in(t Type, level byte) error {
	rule := f.v3
	if level == 5 {
		rule = f.v5
	}
	return &MalformedError{Type: t, Level: level, Rule: rule, Code: f.code, Reason: f.reason}
}

// property returns the fault with the property's name before the description.
func (f *fault) property(id PropertyID) *fault {
	named := *f
	named.reason = id.String() + ": " + f.reason
	return &named
}

// Faults of any packet.
var (
	faultType     = &fault{"section 2.2.1", "section 2.1.2", ProtocolError, "packet has another type than expected"}
	faultFlags    = &fault{"MQTT-2.2.2-2", "MQTT-2.1.3-1", MalformedPacket, "flags in the first byte are not those of the packet type"}
	faultVarint   = &fault{"section 2.2.3", "section 1.5.5", MalformedPacket, "remaining length is longer than four bytes"}
	faultSize     = &fault{"section 2.2.3", "section 2.1.4", MalformedPacket, "remaining length is not that of the packet"}
	faultTrailing = &fault{"section 2.2.3", "section 2.1.4", MalformedPacket, "bytes follow the last field"}
	faultShort    = &fault{"section 2.2.3", "section 2.1.4", MalformedPacket, "packet ends before its last field"}
	faultPacketID = &fault{"MQTT-2.3.1-1", "MQTT-2.2.1-3", ProtocolError, "packet identifier is 0"}
	faultSecond   = &fault{"MQTT-3.1.0-2", "MQTT-3.1.0-2", ProtocolError, "a packet of this type may not be sent here"}
	faultNoAuth   = &fault{"", "MQTT-4.12.0-7", ProtocolError, "there is no authentication to go on with"}
	faultTooLong  = &fault{"section 2.2.3", "section 1.5.5", MalformedPacket, "packet is longer than 268435460 bytes"}
)

// Faults of strings and topic names.
var (
	faultNUL           = &fault{"MQTT-1.5.3-2", "MQTT-1.5.4-2", MalformedPacket, "string holds the null character"}
	faultFieldLength   = &fault{"section 1.5.3", "section 1.5.6", MalformedPacket, "field is longer than 65535 bytes"}
	faultTopicEmpty    = &fault{"MQTT-4.7.3-1", "MQTT-4.7.3-1", ProtocolError, "topic name is empty"}
	faultTopicWildcard = &fault{"MQTT-4.7.1-1", "MQTT-4.7.0-1", ProtocolError, "topic name holds a wildcard"}
)

// Faults of a CONNECT.
var (
	faultReservedFlag     = &fault{"MQTT-3.1.2-3", "MQTT-3.1.2-3", MalformedPacket, "reserved connect flag is set"}
	faultWillQoSNoWill    = &fault{"MQTT-3.1.2-13", "MQTT-3.1.2-11", ProtocolError, "will QoS without a will"}
	faultWillRetainNoWill = &fault{"MQTT-3.1.2-15", "MQTT-3.1.2-13", ProtocolError, "will retain without a will"}
	faultWillQoS          = &fault{"MQTT-3.1.2-14", "MQTT-3.1.2-12", MalformedPacket, "will QoS is 3"}
	faultPasswordAlone    = &fault{"MQTT-3.1.2-22", "", MalformedPacket, "password without a user name"}

	faultNoClientID  = &fault{"MQTT-3.1.3-3", "MQTT-3.1.3-3", MalformedPacket, "packet ends before the end of the client identifier"}
	faultNoWill      = &fault{"MQTT-3.1.2-9", "MQTT-3.1.2-9", MalformedPacket, "packet ends before the end of the will"}
	faultNoUserName  = &fault{"MQTT-3.1.2-19", "MQTT-3.1.2-17", MalformedPacket, "packet ends before the end of the user name"}
	faultNoPassword  = &fault{"MQTT-3.1.2-21", "MQTT-3.1.2-19", MalformedPacket, "packet ends before the end of the password"}
	faultHasUserName = &fault{"MQTT-3.1.2-18", "MQTT-3.1.2-16", MalformedPacket, "bytes follow the last field and no user name was announced"}
	faultHasPassword = &fault{"MQTT-3.1.2-20", "MQTT-3.1.2-18", MalformedPacket, "bytes follow the last field and no password was announced"}

	faultConnectEnd = &fault{"MQTT-3.1.4-1", "MQTT-3.1.4-1", MalformedPacket, "bytes follow the last field"}

	faultClientIDText  = &fault{"MQTT-3.1.3-4", "MQTT-3.1.3-4", MalformedPacket, "client identifier is not UTF-8"}
	faultWillTopicText = &fault{"MQTT-3.1.3-10", "MQTT-3.1.3-11", MalformedPacket, "will topic is not UTF-8"}
	faultUserNameText  = &fault{"MQTT-3.1.3-11", "MQTT-3.1.3-12", MalformedPacket, "user name is not UTF-8"}
)

// Faults that only MQTT 5.0 has, most of them of properties.
var (
	faultVarintLong      = &fault{"", "MQTT-1.5.5-1", MalformedPacket, "variable byte integer is longer than four bytes or than it needs to be"}
	faultPropertyLength  = &fault{"", "MQTT-2.2.2-1", MalformedPacket, "property length is missing or runs past the end of the packet"}
	faultProperty        = &fault{"", "section 2.2.2.2", MalformedPacket, "unknown property, or one that is truncated"}
	faultPropertyPlace   = &fault{"", "section 2.2.2.2", MalformedPacket, "property does not belong in this packet"}
	faultPropertyTwice   = &fault{"", "section 2.2.2.2", ProtocolError, "property appears more than once"}
	faultPropertyValue   = &fault{"", "section 2.2.2.2", ProtocolError, "value is not allowed"}
	faultPropertyText    = &fault{"", "MQTT-1.5.4-1", MalformedPacket, "value is not UTF-8"}
	faultPropertyPair    = &fault{"", "MQTT-1.5.7-1", MalformedPacket, "name or value is not UTF-8"}
	faultNoMethod        = &fault{"", "section 3.1.2.11.10", ProtocolError, "authentication data without an authentication method"}
	faultResponseTopic   = &fault{"", "MQTT-3.3.2-14", ProtocolError, "topic name holds a wildcard"}
	faultTopicAliasValue = &fault{"", "MQTT-3.3.2-8", ProtocolError, "value is 0"}
)

// Faults of the other packets.
var (
	faultConnackFlags    = &fault{"section 3.2.2.1", "MQTT-3.2.2-1", MalformedPacket, "reserved acknowledge flags are set"}
	faultPublishQoS      = &fault{"MQTT-3.3.1-4", "MQTT-3.3.1-4", MalformedPacket, "QoS is 3"}
	faultPublishDup      = &fault{"MQTT-3.3.1-2", "MQTT-3.3.1-2", ProtocolError, "DUP is set with QoS 0"}
	faultPublishTopic    = &fault{"MQTT-3.3.2-1", "MQTT-3.3.2-1", MalformedPacket, "topic name is missing or not UTF-8"}
	faultPublishNoTopic  = &fault{"MQTT-4.7.3-1", "section 3.3.2.1", ProtocolError, "topic name is empty and there is no topic alias"}
	faultPublishWildcard = &fault{"MQTT-3.3.2-2", "MQTT-3.3.2-2", ProtocolError, "topic name holds a wildcard"}

	faultSubscribeEmpty    = &fault{"MQTT-3.8.3-3", "MQTT-3.8.3-2", ProtocolError, "packet holds no topic filter"}
	faultUnsubscribeEmpty  = &fault{"MQTT-3.10.3-2", "MQTT-3.10.3-2", ProtocolError, "packet holds no topic filter"}
	faultSubscribeText     = &fault{"MQTT-3.8.3-1", "MQTT-3.8.3-1", MalformedPacket, "topic filter is not UTF-8"}
	faultUnsubscribeText   = &fault{"MQTT-3.10.3-1", "MQTT-3.10.3-1", MalformedPacket, "topic filter is not UTF-8"}
	faultFilterEmpty       = &fault{"MQTT-4.7.3-1", "MQTT-4.7.3-1", ProtocolError, "topic filter is empty"}
	faultSubscribeReserved = &fault{"MQTT-3.8.3-4", "MQTT-3.8.3-5", MalformedPacket, "reserved subscription options are set"}
	faultSubscribeOptions  = &fault{"MQTT-3.8.3-4", "section 3.8.3.1", ProtocolError, "QoS or retain handling is 3"}
	faultAuthCode          = &fault{"", "MQTT-3.15.2-1", ProtocolError, "reason code is none of AUTH"}
	faultAuthMethod        = &fault{"", "section 3.15.2.2.2", ProtocolError, "packet has no authentication method"}
	faultSubackEmpty       = &fault{"section 3.9.3", "section 3.9.3", MalformedPacket, "packet holds no reason code"}
	faultUnsubackEmpty     = &fault{"", "section 3.11.3", MalformedPacket, "packet holds no reason code"}
)
