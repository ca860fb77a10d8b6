// Package packets reads and writes MQTT control packets for a program that
// stands between a client and a broker: versions 3.1 (protocol name MQIsdp,
// level 3), 3.1.1 (level 4) and 5.0 (level 5), each with or without the bridge
// bit, 0x80 in the level byte, that Mosquitto and its kin set on bridge
// connections.
//
// It knows the wire and nothing else: no sockets, no goroutines, no clock, no
// opinion about who may connect. What arrives is taken as hostile. A packet is
// judged by the rules of its own protocol level, everything the standard
// forbids is refused and nothing is repaired, so no two readers of the same
// bytes can disagree about what they say.
//
// # Typical use
//
//	in, err := packets.ReadConnect(conn, 64<<10) // one packet, never a byte more
//	if err != nil {
//		... // see Errors
//	}
//	out := *in
//	out.Username, out.HasUsername = "proxy", true
//	if err := out.Check(); err != nil {
//		... // a field that was put in is too long or not UTF-8
//	}
//	upstream.Write(out.Append(nil))
//	raw, err := packets.ReadPacket(upstream, 64<<10)
//	var ack packets.Connack
//	err = ack.Parse(raw, in.Level)
//
// # Rules
//
// Append(Parse(x)) is x, byte for byte, for every CONNECT and CONNACK of MQTT 5.0
// that Parse accepts; properties are kept as they came for that reason. Where one
// content has several encodings Append writes the shortest, with every unused bit
// 0: the remaining length below MQTT 5.0 is such a case, and so are the
// acknowledgements of MQTT 5.0.
//
// Fields of type []byte and Properties point into the packet they were parsed
// from. Strings do not, but those of one Connect share one copy of its whole
// packet, so whoever keeps a client identifier for the length of a session
// takes strings.Clone of it, or the password stays in memory as long.
//
// The methods named Append neither fail nor panic. A field longer than its
// 16-bit length can say is cut at 65,535 bytes, which keeps the packet's frame
// intact and nothing more; Connect.Check finds such a field before it is sent.
//
// Every Append and Parse takes the protocol level of the connection, 3, 4 or 5,
// as Connect.Level gives it. Levels below 5 have no properties: Append leaves
// them out.
//
// # Errors
//
// Reading a CONNECT ends in one of these, told apart with errors.Is and
// errors.As:
//
//   - ErrNotConnect: the first packet is something else, perhaps not MQTT.
//   - *ProtocolLevelError: a CONNECT of a protocol this package does not speak.
//   - *TooLargeError: more bytes than the caller allows.
//   - *MalformedError: the standard forbids it, and the error names the statement.
//   - any other: what the reader returned, with io.ErrUnexpectedEOF for an end
//     in mid-packet and io.EOF for an end before its first byte.
//
// None of them repeats what a field held, so all of them may be logged.
//
// # What is refused, and what is not
//
// MQTT 3.1 calls some bits unused, and some fields disregarded, where 3.1.1 demands
// zero or presence; in packets of level 3 they pass. Identifiers of more than 23
// bytes are no fault in any version, although 3.1 forbids them: old fleets use them
// and the broker decides. U+0000 in a string, of which 3.1 says nothing, is refused.
//
// The standard advises against control characters and Unicode non-characters
// in strings; they pass. A will payload is not checked against its Payload
// Format Indicator: a broker may, and has its own reason code for it.
package packets
