// Package packets reads and writes MQTT control packets for a program between a client and a
// broker: versions 3.1 (protocol name MQIsdp, level 3), 3.1.1 (level 4) and 5.0 (level 5), each
// with or without the bridge bit, 0x80 in the level byte, that Mosquitto and others set on
// bridge connections.
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
// Append(Parse(x)) is x, byte for byte, for every CONNECT and CONNACK of MQTT 5.0 that Parse
// accepts; for that reason properties are kept in their encoding. If the same content has
// several encodings, Append writes the shortest one, with every unused bit 0. This concerns the
// remaining length below MQTT 5.0 and the acknowledgements of MQTT 5.0.
//
// Fields of type []byte and Properties point into the packet they were parsed from. Strings do
// not, but those of one Connect share one copy of its whole packet. To keep a client identifier
// for the length of a session, make a copy with strings.Clone; otherwise the password stays in
// memory for as long.
//
// The methods named Append neither fail nor panic. A field of more than 65,535 bytes, which its
// 16-bit length cannot express, is truncated, so that the packet can still be parsed;
// Connect.Check finds such a field before the packet is sent.
//
// Every Append and Parse takes the protocol level of the connection, 3, 4 or 5, as
// Connect.Level gives it. Levels below 5 have no properties, and Append omits them.
//
// # Errors
//
// Reading a CONNECT returns one of these errors, to be distinguished with errors.Is and
// errors.As:
//
//   - ErrNotConnect: the first packet is not a CONNECT, and perhaps not even MQTT.
//   - *ProtocolLevelError: a CONNECT with a protocol that this package does not support.
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
// ignores fields; packets of level 3 are not refused for them. Identifiers of more than 23
// bytes are accepted in every version, although 3.1 forbids them: old fleets use them, and the
// broker decides. U+0000 in a string is refused, although 3.1 does not mention it.
//
// The standard advises against control characters and Unicode non-characters
// in strings; they are accepted. A will payload is not checked against its Payload Format
// Indicator. A broker may check it, and has a reason code for that.
package packets
