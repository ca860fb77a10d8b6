// Package packets reads and writes MQTT control packets for a program that
// stands between a client and a broker: versions 3.1 (protocol name MQIsdp,
// level 3), 3.1.1 (level 4) and 5.0 (level 5), each with or without the bridge
// bit, 0x80 in the level byte, that Mosquitto and its kin set on bridge
// connections.
//
// It deals with the encoding of packets and nothing else: it has no sockets, goroutines or
// clock, and does not decide who may connect. It treats all input as hostile. A packet is
// checked by the rules of its own protocol level. Everything the standard forbids is refused
// and nothing is repaired, so that two readers of the same bytes cannot disagree about their
// meaning.
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
// from. Strings do not, but those of one Connect share one copy of its whole packet. To keep a
// client identifier for the length of a session, take strings.Clone of it; otherwise the
// password stays in memory as long.
//
// The methods named Append neither fail nor panic. A field of more than 65,535 bytes, which its
// 16-bit length cannot express, is cut there, so that the packet can still be read;
// Connect.Check finds such a field before the packet is sent.
//
// Every Append and Parse takes the protocol level of the connection, 3, 4 or 5,
// as Connect.Level gives it. Levels below 5 have no properties: Append leaves
// them out.
//
// # Errors
//
// Reading a CONNECT returns one of these errors, to be distinguished with errors.Is and
// errors.As:
//
//   - ErrNotConnect: the first packet is something else, perhaps not MQTT.
//   - *ProtocolLevelError: a CONNECT of a protocol this package does not speak.
//   - *TooLargeError: more bytes than the caller allows.
//   - *MalformedError: the standard forbids the packet, and the error names the statement.
//   - any other: the error of the reader, with io.ErrUnexpectedEOF for an end inside the
//     packet and io.EOF for an end before its first byte.
//
// None of them contains the value of a field, so all of them may be logged.
//
// # What is refused, and what is not
//
// In some places where 3.1.1 requires zero bits or a field, MQTT 3.1 leaves bits unused or
// disregards fields; packets of level 3 are not refused for them. Identifiers of more than 23
// bytes are accepted in every version, although 3.1 forbids them: old fleets use them, and the
// broker decides. U+0000 in a string is refused, although 3.1 does not mention it.
//
// The standard advises against control characters and Unicode non-characters
// in strings; they are accepted. A will payload is not checked against its Payload Format
// Indicator. A broker may check it, and has a reason code for that.
package packets
