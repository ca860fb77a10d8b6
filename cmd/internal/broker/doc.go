// Package broker is the bundled MQTT broker, which the proxy uses if no other broker is
// configured.
//
// It runs inside the proxy's process and owns no listening socket. Connections are only made by
// [Broker.Dial], which the proxy calls for a device whose token has been accepted. The identity of
// the device is the one given to Dial; nothing in CONNECT changes it.
//
//	b, err := broker.New(broker.Options{Telemetry: storeTelemetry, Attributes: storeAttributes})
//	...
//	upstream, err := b.Dial(ctx, broker.Device{Name: grant.Subject}) // write the CONNECT, read the CONNACK, move bytes
//	...
//	err = b.Shutdown(ctx)
//
// # Topics
//
//	v1/devices/me/telemetry, v2/t, v2/t/j     stored as the device's telemetry
//	v1/devices/me/attributes, v2/a, v2/a/j    stored as the device's attributes
//	v1/devices/me/rpc/request/1, v2/r/req/1, v2/r/req/j/1
//	                                          answered on v1/devices/me/rpc/response/1, v2/r/res/1 or
//	                                          v2/r/res/j/1: getSessionLimits with the limits, every
//	                                          other method with an error
//	v1/devices/me/rpc/response/1, v2/r/res/1, v2/r/res/j/1
//	                                          the answer to a call of the device, see below
//	v1/devices/me/attributes/request/1, v2/a/req/1, v2/a/req/j/1
//	                                          answered on v1/devices/me/attributes/response/1,
//	                                          v2/a/res/1 or v2/a/res/j/1
//	v1/gateway/telemetry, v1/gateway/attributes
//	                                          of gateways: stored as those of the devices behind them
//	v1/gateway/connect, v1/gateway/disconnect of gateways: whether such a device is connected
//	v1/gateway/rpc                            of gateways: the answer to a call of such a device
//	v1/gateway/attributes/request             of gateways: answered on v1/gateway/attributes/response
//	the rest of v1/devices/me/, v1/gateway/, v2/ and /provision/, more than 128 levels
//	                                          dropped, counted and answered: MQTT 5 gets 0x90
//	                                          (topic name invalid), older clients an acknowledgement
//	v1/devices/NAME/telemetry, v1/devices/NAME/attributes, v1/devices/NAME/presence
//	                                          for readers, who get there what was stored of NAME, and
//	                                          when it connects and disconnects
//	the rest of v1/devices/, everything that starts with $
//	                                          refused: MQTT 5 gets 0x87 (not authorized), older
//	                                          clients an acknowledgement
//	everything else                           an ordinary topic, shared by all devices
//
// Device data is stored before it is acknowledged, at every QoS and with or without RETAIN. The
// message itself reaches no subscriber; [Broker.PublishTelemetry] and [Broker.PublishAttributes]
// give what was stored to readers, see [Device], and [Broker.PublishPresence] tells them which
// devices are connected. A payload that can never be stored is acknowledged and dropped (MQTT 5:
// reason code 0x99, payload format invalid), and the device stays connected. If storing fails, a
// message of QoS 1 or 2 stays unacknowledged and the connection is closed (MQTT 5: DISCONNECT
// 0x83), so that the device sends it again on its next connection; a message of QoS 0 is counted
// and lost. Since the server closes the connection, the device's Will is published, as MQTT
// requires.
//
// [Broker.PushAttributes] sends changes of shared attributes on v1/devices/me/attributes, v2/a and
// v2/a/j to the sessions of one device. Changes for a device behind a gateway go to the sessions of
// the gateway, on v1/gateway/attributes.
//
// [Broker.Call] sends a request to the device on v1/devices/me/rpc/request/1, v2/r/req/1 or
// v2/r/req/j/1, and waits for the answer. 64 calls may wait at once, 16 of them for one device. Only
// connected sessions get a request, because what is done late may be wrong or dangerous.
//
// An answer goes to the session that has asked, if it has a subscription that matches, with the
// QoS of that subscription and at most 1. It is sent before the acknowledgement of the request. A
// device that asks often only waits for itself. While the store does not answer there is no
// answer (MQTT 5: PUBACK 0x83), because an error looks like an answer without attributes.
//
// Subscriptions may be made to everything but $-topics and, except by readers, the topics of other
// devices, which are refused with 0x87 or 0x80. A filter such as # matches the topics of devices for
// readers only. A session has 1000 subscriptions (MQTT 5: reason code 0x97 above that). A
// subscription to nothing but device topics on which nothing can come is refused with 0x8F or, before
// MQTT 5, 0x80: those for claiming, provisioning and firmware, and those for gateways if the device
// is neither a gateway nor a reader. The use of such topics is counted by family, and logged once a
// day for a device. There may be 100,000 retained messages.
//
// # Memory
//
// The memory of a device is bounded in bytes. Its sessions with their client identifiers,
// subscriptions, queues and open handshakes, its Wills, its retained messages, long packets that
// are being received, and data that its connections have not read take at most
// [Options.DeviceMemory]. All devices together take at most [Options.Memory]. When there is no room
//
//   - a retained message is answered like a refused one (MQTT 5: 0x97),
//   - a subscription gets 0x97 or, before MQTT 5, 0x80,
//   - a CONNECT for a new session or with a Will gets 0x97 or 3,
//   - a message of QoS 2 gets 0x97, or ends the connection before MQTT 5,
//   - a packet of 4 KiB or more ends the connection (MQTT 5: DISCONNECT 0x97),
//   - a message for a queue is dropped.
//
// [Stats] counts what was dropped, by cause.
//
// # Sessions, queues and Wills
//
// With [Options.Sessions] the sessions that outlive their connections, their subscriptions and
// queues, and the retained messages survive the process; without, they end with it. Memory has all
// of them except for most of the queues of readers, and the file follows, see package durable. An
// acknowledgement (PUBACK, PUBREC, PUBCOMP, SUBACK) is sent once what it promises is in the file;
// then the message has not touched the file if no such session gets it and it is not retained.
// CONNACK does not wait: a session whose CONNACK is less than 0.2 seconds old may be gone after a
// crash, until its first SUBACK. What is removed follows within the same time, so that a message of
// QoS 1 may come again after a crash. One of QoS 2 comes again only if it was on its way to a
// connected subscriber before it was in the file, which is also before its publisher gets PUBREC,
// or if a reader connects again before the packet identifier that it has just got is in the file.
// If the file cannot be written, the sender gets no acknowledgement and its connection ends (MQTT
// 5: DISCONNECT 0x83). Messages without such a session go on.
//
// A disconnected session is kept for [Options.SessionExpiry] at most. A session belongs to the
// device that created it: another device cannot connect with its client identifier. Messages
// of QoS 1 and 2 are queued for a session in order, as far as the device's memory allows and
// up to 50,000, for which there are packet identifiers. More are dropped and counted.
//
// The queue of a reader whose session is in the file has only a window in memory: 1,000 messages
// and 4 MiB, or less if there is no memory for more, but one message in any case. What comes when
// the window is full, or something waits already, is the backlog. It is in the file alone, without
// packet identifiers, and counts in no memory. As soon as half of the window was acknowledged, the
// goroutine that has read the acknowledgement moves messages from the file into the window. What
// has expired by then, or is not for the session any more, is left out. A backlog has
// [Options.ReaderQueue] bytes, and all of them four times as many; then the oldest messages are
// dropped, in parts of 1/128, from the backlog itself or from the longest one of the reader that
// has most. While there is so little disk space that the file could not be written soon, backlogs
// do not grow. If a reader is away, what is in its window is dropped before that. At the start only
// the windows are read. Two processors move 7,000 messages of 1 KiB a second, and 247 MiB in the
// file take 2 MiB of memory (BenchmarkCatchUp).
//
// A publisher never waits for a subscriber that reads slowly: the subscriber's messages of
// QoS 0 are dropped once 1 MiB is unread, the others are queued, and it is disconnected if it
// reads nothing for [Options.WriteTimeout]. A message is queued for its subscribers before it
// is acknowledged to its publisher. Of the members of a shared subscription one that is
// connected is chosen at random.
//
// The keep alive is the one that the client chooses. With 0 there is no limit, because the proxy
// notices when a device has gone.
//
// Wills are kept by this package. They are published or stored like any message of the device
// when a connection ends without a DISCONNECT, also when the broker ends it, with all their
// MQTT 5 properties and their delay. [CheckWill] reports beforehand whether the topic is
// acceptable.
//
// Bridges (bit 0x80 in the protocol level) do not get their own messages, and live messages keep
// their RETAIN flag for them.
//
// # The parts
//
// The broker is mochi-mqtt v2.7.9 behind a layer that corrects its faults; the tests are named
// after the corrections. The layer consists of these files:
//
//	serve.go, input.go    the goroutine of a connection, which ends while the device is quiet
//	connect.go            CONNECT: who may connect, and sessions that are taken over
//	hook.go, publish.go   what mochi calls at each packet: who may do what, and the answers
//	                      that it gets wrong
//	violation.go          packets that the standard forbids and mochi accepts
//	request.go, push.go   requests of devices and their answers, and changes sent to devices
//	call.go               requests to devices and their answers
//	gateway*.go           gateways and the devices behind them
//	reader.go, presence.go
//	                      what readers get
//	unserved.go           device topics without a function
//	topics.go             which topic is whose; filters that mochi accepts and never matches
//	keep.go, restore.go, ledger_kept.go
//	                      what is written to the file, and read from it at the start
//	backlog.go, ledger_backlog.go, ledger_oldest.go
//	                      queues of readers that are in the file alone
//	conn.go, pair_*.go    a connection to mochi without a port that others could reach
//	ingress.go            the size of a packet before mochi allocates it
//	egress.go             writing that never waits, so that a slow subscriber does not stop
//	                      others, and the Receive Maximum of clients
//	deliver.go            messages on their way to subscribers; mochi's own way drops messages
//	                      of every QoS when a queue of a few is full
//	will.go               Wills with properties, delay and topic rules, which mochi's lack
//	sweep.go              the expiry of sessions and messages, which mochi would do while a
//	                      session is resumed
//	ledger.go, drop.go    memory, and the causes of dropped messages
//	log.go                what mochi logs, without tokens and payloads
//
// # What the layer buys
//
// Measured with QoS 1, many publishers and one subscriber on two processors; "64" is mochi with a
// queue of 64 messages a client instead of its default of 8,192:
//
//	                                              mochi     mochi, 64    this package
//	lost of 20,000 messages, 50 publishers        0         7,397        0
//	lost of 40,000, 200 publishers, 100 at once   17,101    24,988       0
//	KiB of an idle client                         80        24           14 to 17
//	a packet of 8 bytes that panics               ends the process       ends one connection
//	a slow subscriber                             loses every QoS        loses QoS 0, keeps its queue
//	sessions and retained messages                end with the process   survive it
//
// The KiB of this package are with the socket pair, the relay and the presence of a device, at 6,000
// devices (make soak), ten seconds and three minutes after the last packet. 3 to 4 KiB of them are
// the stack of the one goroutine that waits for a packet, 7 to 10 KiB are on the heap, and the rest is
// what the heap keeps free. mochi has two goroutines for each connection, whose stacks take 21 to 24
// KiB after the first packets.
//
// Locks are taken in this order, of which any may be left out: presences.mu, Broker.sessions, then
// Broker.retained, wills.mu, a mochi client's own, egress.mu, ledger.mu. Broker.mu and calls.mu are
// taken alone.
//
// # Known faults
//
//   - Packet identifiers of the two directions share one space inside mochi. This package
//     negates the inbound ones (n becomes 65536-n), so they meet only when a client sends its
//     own message with identifier 65536-n while message n to it is unacknowledged: message n
//     is then not sent again after a reconnect.
//   - A packet over [Options.MaxPacket] and a CONNECT that never comes close the connection
//     without a reason code.
//   - A retained message published in the instant of a subscription may reach the subscriber
//     twice, live and as retained.
//   - A message larger than a subscriber's Maximum Packet Size is dropped, also where another
//     member of a shared subscription would take it.
package broker
