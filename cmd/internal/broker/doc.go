// Package broker is the bundled MQTT broker: what stands behind the proxy when no other broker is configured.
//
// It runs inside the proxy's process and owns no listening socket. The only way in is [Broker.Dial], which the proxy calls
// for a device whose token is good; the identity given to Dial, not anything in CONNECT, is who the device is.
//
//	b, err := broker.New(broker.Options{Telemetry: store.Telemetry, Attributes: store.Attributes, BadPayload: isBad})
//	...
//	upstream, err := b.Dial(ctx, grant.Subject) // write the CONNECT, read the CONNACK, move bytes
//	...
//	err = b.Shutdown(ctx)
//
// # Topics
//
//	v1/devices/me/telemetry, v2/t, v2/t/j     stored as the device's telemetry
//	v1/devices/me/attributes, v2/a, v2/a/j    stored as the device's attributes
//	the rest of v1/devices/me/, v1/gateway/, v2/ and /provision/, more than 128 levels
//	                                          acknowledged, dropped and counted; MQTT 5 is told 0x90 (topic name invalid)
//	the rest of v1/devices/, everything that starts with $
//	                                          refused: MQTT 5 is told 0x87 (not authorized), older clients get a plain acknowledgement
//	everything else                           an ordinary topic, shared by all devices
//
// Device data is stored before it is acknowledged, at every QoS and with or without RETAIN, and never reaches a subscriber.
// A payload that can never be stored is acknowledged and dropped (MQTT 5: reason code 0x99, payload format invalid) and the
// device stays connected. If storing fails, a QoS 1 or 2 message stays unacknowledged and the connection is closed (MQTT 5:
// DISCONNECT 0x83), so that the device sends it again on its next connection; a QoS 0 message is counted and lost. That close
// is the server's doing, so the device's Will is published, as MQTT asks.
//
// Subscriptions may be made to everything but $-topics, 1000 for each session (MQTT 5: reason code 0x97 above that); nothing is
// ever sent on the device topics above. There may be 100,000 retained messages.
//
// # Memory
//
// What is kept for a device is bounded in bytes: its sessions with their subscriptions and queues, its retained messages and
// what its connections have not read take [Options.DeviceMemory] at most, and those of all devices together [Options.Memory].
// Beyond that a retained message is answered like a refused one (MQTT 5: 0x97), a subscription with 0x97 or 0x80, a new session
// with 0x97 or 3, and a message for a queue is dropped. [Stats] has what was dropped, by cause.
//
// # Sessions, queues and wills
//
// Sessions, queued messages and retained messages live in memory and end with the process. A disconnected session is kept
// for [Options.SessionExpiry] at most. A session belongs to the device that made it: another device cannot connect with its
// client identifier. Messages of QoS 1 and 2 are queued for a session in order, as far as the device's memory allows and up to
// 50,000, for which packet identifiers are left; more are dropped and counted.
// A live subscriber that reads slowly is never waited for: its QoS 0 messages are dropped once 1 MiB is unread, the others are
// queued, and it is disconnected if it reads nothing for [Options.WriteTimeout]. A message is queued for its subscribers
// before it is acknowledged to its publisher. Of a shared subscription's members, one that is connected is chosen at random.
//
// The keep alive is the client's own; one of 0 stays unlimited, as devices that have gone are noticed on the proxy's side of the connection.
//
// Wills are kept by this package. They are published or stored like any message of the device when a connection ends without a DISCONNECT,
// also when the broker ends it, with all their MQTT 5 properties and their delay. [CheckWill] tells beforehand whether the topic is acceptable.
//
// Bridges (bit 0x80 in the protocol level) are sent neither their own messages nor live ones without their RETAIN flag.
//
// # What is known to be wrong
//
// The broker is mochi-mqtt v2.7.9 behind a layer that corrects it; the tests are named after what is corrected. What remains:
//   - Packet identifiers of the two directions share one space inside mochi. This package turns the inbound ones round (n becomes
//     65536-n), so they meet only when a client sends its own message with identifier 65536-n while message n to it is
//     unacknowledged: message n is then not sent again after a reconnect.
//   - A packet over [Options.MaxPacket] and a CONNECT that never comes close the connection without reason code.
//   - A retained message published in the instant of a subscription may reach the subscriber twice, live and as retained.
//   - A message larger than a subscriber's Maximum Packet Size is dropped, also where another member of a shared subscription would take it.
package broker
