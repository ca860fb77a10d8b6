// Package inspect keeps a session within its [authz.BoundACL]: it reads the packets
// of a client and its broker as they pass, takes out what is not allowed and answers
// it in the broker's place.
//
// [New] returns the filters of both directions, for a session whose CONNECT has been
// accepted:
//
//	up, down := inspect.New(inspect.Session{Level: 5, ACL: acl, TopicAliasMaximum: 10})
//	pass, back, err := up.Filter(chunk) // what goes to the broker, what goes back
//
// The will of a session belongs to its CONNECT, before there is anything to filter:
// ask [Will].
//
// # What is done to which packet
//
//   - PUBLISH of the client: one that is not allowed is dropped. With QoS 1 and 2 it
//     is answered: in MQTT 5.0 with PUBACK or PUBREC and reason code 0x87. Before,
//     those have no way to say no and MQTT 3.1.1 section 3.3.5 leaves two choices;
//     closing the connection would make the device send the message again for ever,
//     so it is acknowledged as if it had been published, and for QoS 2 the PUBREL is
//     answered too. Answers may overtake those of the broker, which the standard
//     allows a server.
//   - SUBSCRIBE: filters that are not allowed are taken out, and the SUBACK of the
//     broker gets 0x87 (before MQTT 5.0: 0x80) at their places. If nothing is left,
//     the broker sees nothing. A topic filter that is not valid is not allowed.
//   - Everything else passes, UNSUBSCRIBE and all messages of the broker included.
//     What the broker knew to deliver from an earlier session is delivered.
//
// Topic aliases of the client are followed, [MQTT-3.3.2-9] is enforced, and an
// alias that the broker has not learned, because the message that set it was
// dropped, is spelled out.
//
// # Memory
//
// Payloads are never held, only passed on or dropped as they come. What is held of
// an incomplete packet is its fixed header and, of a PUBLISH, topic and properties;
// a SUBSCRIBE, a SUBACK that is waited for and a PUBREL are held whole. That is
// bounded by 128 KiB, a session's topic aliases by 256 KiB and its unanswered
// SUBSCRIBEs by 64 KiB. Whoever goes beyond loses the connection. Messages that pass
// as they are cost no allocation.
//
// # Faults
//
// A packet that had to be read and is malformed ends the session with an error, of
// which a client of MQTT 5.0 is told in a DISCONNECT. Packets that pass unread are
// for their receiver to judge.
package inspect
