// Package topicmap gives each device its own part of the broker's topics. Devices use topics
// that are the same for all of them, such as v1/devices/me/telemetry, and the topics at the
// broker show which device it is:
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
// A rule has a device side and a broker side. If both end in /#, each is a topic with all
// topics below it; if neither does, each is a single topic. The device side is literal, or #
// alone for all topics. On the broker side, whole levels may be placeholders: ${subject} or
// ${attrs.NAME}. The first rule whose device side matches a topic decides. Broker sides must
// not overlap, so that every topic of the broker has at most one topic on the device's side.
//
// # What a device cannot reach
//
// The broker's side of a rule, with every placeholder replaced by +, is closed to devices
// except through the rule. A device's topic in it is refused, and so is every filter that
// could match something in it, such as # or v1/#. A filter is mapped if the first rule whose
// device side it overlaps contains it completely, which means that the filter has the levels
// of the device side literally; otherwise it is refused. A topic or filter that overlaps no
// rule passes as it is, or is refused if [Options.RefuseUnmapped] is set.
//
// A topic or filter that begins with $ is refused, unless the device side of a rule begins
// with the same level. A prefix $share/GROUP/ in exactly this spelling is kept, and the rest of
// the filter is mapped.
//
// # The other direction
//
// A topic of the broker in the device's own part is mapped back. A topic in the closed side of
// a rule that belongs to another device is refused; the broker may have queued such a message
// before the rules changed. A topic that looks like the device side of a rule is refused, too,
// since the device would take it for its own. Everything else passes, or is refused if
// [Options.RefuseUnmapped] is set.
//
// A [Map] is immutable and shared by all sessions. A [Bound] is for one session, takes about a
// hundred bytes, and allocates nothing for a topic if the buffer is large enough. Both may be
// used by many goroutines at once.
package topicmap
