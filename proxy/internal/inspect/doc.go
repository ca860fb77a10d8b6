// Package inspect applies the topic rules, the topic map and the limits of a device to its
// session. It reads the packets of the client and of the broker as they pass. It removes or refuses
// what is not allowed, answers in place of the side that does not receive it, and replaces topics.
//
// [New] returns the filters of both directions, for a session whose CONNECT has been
// accepted:
//
//	up, down := inspect.New(inspect.Session{Level: 5, ACL: acl, Topics: bound})
//	pass, back, err := up.Filter(chunk) // what goes to the broker, and back to the client
//
// The will of a session is part of its CONNECT, which comes before the filters: see [Will].
//
// # Topic rules and topic map
//
// The topic rules ([authz.BoundACL]) decide about the topics that the device uses. The map
// ([topicmap.Bound]) then replaces an allowed topic by the one that the broker uses, or
// refuses it. Topics of messages from the broker are mapped back; the topic rules are not
// applied to them. A session may have rules, a map, or both.
//
// # Limits
//
// The limits ([authz.Limits]) bound what the client sends, before rules and map decide. A
// client of MQTT 5.0 knows from its CONNACK how large its packets and how high its QoS may be
// and whether it may retain messages; if it breaks one of these limits, it gets a DISCONNECT
// with 0x95, 0x9B or 0x9A. Before MQTT 5.0 such a message is dropped and acknowledged, as one
// that the rules refuse. Of other packets that are too large, a SUBSCRIBE is refused then, and
// the rest ends the session, since nothing else can answer them. In every version:
//
//   - SUBSCRIBE: the QoS of each filter is lowered to the limit, as the standard provides.
//   - A filter beyond the limit on subscriptions is refused with 0x97 (before MQTT 5.0:
//     0x80). The filters of this connection count, each once, unless the broker refuses
//     them. Those that a broker has kept for a persistent session are not known.
//
// The rates among the limits are applied by a [Pace], which tells the relay how much of what the
// client has sent may go on. Limits may be replaced while a session lasts.
//
// # Packets of the client
//
//   - PUBLISH: a message that the rules or the map refuse is dropped. Its response topic, if
//     it has one, is mapped too, and has to be a topic that the client may subscribe to;
//     otherwise the message is dropped. A dropped message of QoS 1 or 2 is answered. In MQTT
//     5.0 the answer is a PUBACK or PUBREC with reason code 0x87. Earlier versions have no
//     such answer, and MQTT 3.1.1 section 3.3.5 leaves two choices. Closing the connection
//     would make the device send the message again forever, so the message is acknowledged
//     as if it had been published; for QoS 2 the PUBREL is answered, too. Answers may
//     overtake those of the broker, which the standard allows.
//   - SUBSCRIBE: filters that the rules or the map refuse are taken out, and so are filters
//     that are not valid. The SUBACK that the client receives has 0x87 (before MQTT 5.0:
//     0x80) at their places. If no filter remains, the broker does not see the packet.
//   - UNSUBSCRIBE: with a map, filters are mapped, and those that the map refuses are taken
//     out. The UNSUBACK of MQTT 5.0 has 0x11 (no subscription existed) at their places.
//   - A PUBLISH or a request that the map makes larger than the broker's Maximum Packet Size
//     is refused with 0x97 (before MQTT 5.0: as above).
//   - AUTH: in a session with a [Renewal] the packet is taken out and its authentication data
//     handed on as the client's new token. Any AUTH but one that begins another authentication by
//     the method of the session ends it.
//   - All other packets pass as they are.
//
// Topic aliases of the client are followed and [MQTT-3.3.2-9] is enforced. If a message that
// sets an alias is dropped, the broker does not learn the alias, so the next allowed message
// with the alias gets the topic as well.
//
// # Packets of the broker
//
//   - PUBLISH: with a map, the topic and the response topic are mapped back. A message with a
//     topic that is not for the device is dropped, and so is one that is larger than the
//     client's Maximum Packet Size once it is mapped [MQTT-3.1.2-25]. A dropped message of
//     QoS 1 or 2 is acknowledged to the broker. A response topic that is not for the device
//     is taken out. Topic aliases of the broker are followed in the same way as the client's.
//   - SUBACK and UNSUBACK get the reason codes of the filters that were taken out.
//   - All other packets pass as they are. Without a map, so does every message: what the
//     broker kept for a session from before the rules changed is still delivered.
//
// # Rights that change
//
// A [Control] puts other rules and another map in the place of those in force while packets
// pass. Each packet is judged by one or the other as a whole. The change is refused if it would
// take a subscription from the client, or move it to other topics: so the filters of a session
// are remembered, by the client's names, from the SUBSCRIBE that is passed on to the
// UNSUBSCRIBE. If they are not known, because the broker has kept a session, because they exceed
// 64 KiB, or because the broker has not ended a subscription, only a change that allows
// everything that was allowed before goes through. The will is not looked at: see [Will].
//
// # Memory
//
// Payloads are never held, only passed on or dropped as they come. Of an incomplete packet,
// the filter holds the fixed header and, for a PUBLISH, the topic and the properties. A
// SUBSCRIBE, an UNSUBSCRIBE, a PUBREL and a SUBACK or UNSUBACK that may have to be changed are
// held whole. That is bounded by 128 KiB. The topic aliases of one direction are bounded by 256
// KiB, and the unanswered requests of a session by 64 KiB. A session that exceeds a bound
// ends. With a limit on subscriptions, each of them takes some 30 bytes. The last topic of each
// direction is remembered with its name, up to 256 bytes each, so that a message to the same
// topic is not decided about again. Messages cost no allocation, mapped ones included: the filters
// work in buffers that they borrow for each call. A session that is idle keeps little more than 320
// bytes, its [Rights] and the topics mentioned.
//
// # Faults
//
// A packet that has to be read and is malformed ends the session with an error. If the
// client sent it and speaks MQTT 5.0, it gets a DISCONNECT with the reason code. Packets that
// pass unread are left to their receiver to check.
package inspect
