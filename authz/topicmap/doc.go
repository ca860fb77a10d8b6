// Package topicmap gives every device a part of the broker's topics of its own. Devices
// go on using topics that are the same for all of them, such as v1/devices/me/telemetry,
// and the broker's side sees which device it is:
//
//	m, err := topicmap.Compile(topicmap.Options{Rules: []topicmap.Rule{
//		{Device: "v1/devices/me/#", Broker: "v1/devices/${subject}/#"},
//		{Device: "cmd", Broker: "devices/${subject}/cmd"},
//	}})
//	b, err := m.Bind(grant.Subject, grant.Attrs)
//	topic, verdict := b.Up(nil, []byte("v1/devices/me/telemetry")) // v1/devices/pump-7/telemetry
//
// # Rules
//
// A rule has a device side and a broker side. Both end in /#, which makes them a subtree
// with its root, or neither does, which makes them one topic. The device side is literal,
// or # alone for all topics. On the broker side whole levels may be placeholders: ${subject}
// or ${attrs.NAME}. Rules are asked in order, and the first whose device side fits a topic
// decides. Broker sides must not overlap, so that every topic of the broker has one place
// on the device's side.
//
// # What a device cannot reach
//
// The broker's side of a rule, with every placeholder replaced by +, is closed to devices
// except through the rule. A topic in it is refused, and so is every filter that could
// match something in it, such as # or v1/#. A filter is mapped if the first rule that it
// touches covers it, which means that the levels of the rule's device side stand in it
// literally; otherwise it is refused. What no rule touches passes as it is, or is refused
// if [Options.RefuseUnmapped] says so.
//
// A topic or filter that begins with $ is refused, unless the device side of a rule begins
// with the same level. $share/GROUP/ in exactly this spelling is looked through.
//
// # The other direction
//
// A topic of the broker inside the device's part is mapped back. One in the closed side
// outside of it is refused: it comes from a queue of before a change, and must not reach
// the device. Everything else follows [Options.RefuseUnmapped].
//
// A [Map] is immutable and shared by all sessions; a [Bound] is one session's, takes a few
// hundred bytes, and allocates nothing for a topic if the buffer that it is given is large
// enough. Both may be used by many goroutines.
package topicmap
