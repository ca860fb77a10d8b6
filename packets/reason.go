package packets

import "fmt"

// ReasonCode is the outcome that a CONNACK, DISCONNECT or acknowledgement
// carries: a return code up to MQTT 3.1.1, a reason code in MQTT 5.0 section
// 2.4. Both are one byte and share this type; the protocol level of the connection determines
// which of the two a value is. 0 is success in both. In MQTT 5.0, 0x80 and above are failures.
type ReasonCode byte

// Success accepts, at every level.
const Success ReasonCode = 0

// CONNACK return codes of MQTT 3.1 and 3.1.1, section 3.2.2.3. 6 to 255 are
// reserved.
const (
	RefusedProtocolVersion   ReasonCode = 1
	RefusedIdentifier        ReasonCode = 2
	RefusedServerUnavailable ReasonCode = 3
	RefusedUserName          ReasonCode = 4 // bad user name or password
	RefusedNotAuthorized     ReasonCode = 5
)

// Reason codes of MQTT 5.0 (section 2.4) that a proxy sends or acts on. String knows the names
// of the others, too.
const (
	ContinueAuthentication     ReasonCode = 0x18
	Reauthenticate             ReasonCode = 0x19
	MalformedPacket            ReasonCode = 0x81
	ProtocolError              ReasonCode = 0x82
	UnsupportedProtocolVersion ReasonCode = 0x84
	ClientIDNotValid           ReasonCode = 0x85
	BadUserNameOrPassword      ReasonCode = 0x86
	NotAuthorized              ReasonCode = 0x87
	ServerUnavailable          ReasonCode = 0x88
	ServerBusy                 ReasonCode = 0x89
	Banned                     ReasonCode = 0x8A
	ServerShuttingDown         ReasonCode = 0x8B
	BadAuthenticationMethod    ReasonCode = 0x8C
	SessionTakenOver           ReasonCode = 0x8E
	PacketTooLarge             ReasonCode = 0x95
	QuotaExceeded              ReasonCode = 0x97
	AdministrativeAction       ReasonCode = 0x98
	RetainNotSupported         ReasonCode = 0x9A
	QoSNotSupported            ReasonCode = 0x9B
	ConnectionRateExceeded     ReasonCode = 0x9F
)

// String returns the standard's name for the code, for a log or a reason string. The numbers 1
// to 5 have the names of the CONNACK return codes of MQTT 3.1.1. MQTT 5.0 uses the same numbers
// for a few reason codes of SUBACK and DISCONNECT.
func (c ReasonCode) String() string {
	switch {
	case int(c) < len(returnCodeNames):
		return returnCodeNames[c]
	case c >= 0x80 && int(c-0x80) < len(failureNames) && failureNames[c-0x80] != "":
		return failureNames[c-0x80]
	case c == 0x10:
		return "No matching subscribers"
	case c == 0x11:
		return "No subscription existed"
	case c == 0x18:
		return "Continue authentication"
	case c == 0x19:
		return "Re-authenticate"
	default:
		return fmt.Sprintf("Reason code 0x%02X", byte(c))
	}
}

var returnCodeNames = [...]string{
	Success:                  "Success",
	RefusedProtocolVersion:   "Unacceptable protocol version",
	RefusedIdentifier:        "Identifier rejected",
	RefusedServerUnavailable: "Server unavailable",
	RefusedUserName:          "Bad user name or password",
	RefusedNotAuthorized:     "Not authorized",
}

var failureNames = [...]string{
	0x80 - 0x80: "Unspecified error",
	0x81 - 0x80: "Malformed Packet",
	0x82 - 0x80: "Protocol Error",
	0x83 - 0x80: "Implementation specific error",
	0x84 - 0x80: "Unsupported Protocol Version",
	0x85 - 0x80: "Client Identifier not valid",
	0x86 - 0x80: "Bad User Name or Password",
	0x87 - 0x80: "Not authorized",
	0x88 - 0x80: "Server unavailable",
	0x89 - 0x80: "Server busy",
	0x8A - 0x80: "Banned",
	0x8B - 0x80: "Server shutting down",
	0x8C - 0x80: "Bad authentication method",
	0x8D - 0x80: "Keep Alive timeout",
	0x8E - 0x80: "Session taken over",
	0x8F - 0x80: "Topic Filter invalid",
	0x90 - 0x80: "Topic Name invalid",
	0x91 - 0x80: "Packet Identifier in use",
	0x92 - 0x80: "Packet Identifier not found",
	0x93 - 0x80: "Receive Maximum exceeded",
	0x94 - 0x80: "Topic Alias invalid",
	0x95 - 0x80: "Packet too large",
	0x96 - 0x80: "Message rate too high",
	0x97 - 0x80: "Quota exceeded",
	0x98 - 0x80: "Administrative action",
	0x99 - 0x80: "Payload format invalid",
	0x9A - 0x80: "Retain not supported",
	0x9B - 0x80: "QoS not supported",
	0x9C - 0x80: "Use another server",
	0x9D - 0x80: "Server moved",
	0x9E - 0x80: "Shared Subscriptions not supported",
	0x9F - 0x80: "Connection rate exceeded",
	0xA0 - 0x80: "Maximum connect time",
	0xA1 - 0x80: "Subscription Identifiers not supported",
	0xA2 - 0x80: "Wildcard Subscriptions not supported",
}
