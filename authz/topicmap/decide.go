package topicmap

import (
	"strings"
	"unsafe"

	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/authz"
)

// Outcome is what becomes of a topic or a filter.
type Outcome byte

const (
	Passed  Outcome = iota // as it is: no rule is about it
	Mapped                 // by a rule
	Refused                // see Reason
)

// Reason is why a topic or a filter is refused.
type Reason byte

const (
	None      Reason = iota
	Unmapped         // no rule covers it, and the map refuses that
	Closed           // it is, or could match, something in the broker's side of a rule
	Several          // a filter that touches the device side of a rule without being covered by it
	Reserved         // it begins with $, or is one that a preset refuses
	TooLong          // the mapped topic would have more than 65,535 bytes
	Forbidden        // it contains a character of Options.Forbidden
	Invalid          // it is no topic, or no filter
)

// String returns the reason in words that complete "refused: ".
func (r Reason) String() string {
	return [...]string{
		"", "no rule of the map covers it", "it is the broker's side of the map", "it touches a rule of the map without being covered by it",
		"it is reserved", "it is too long when it is mapped", "it contains a character that is forbidden", "it is not valid",
	}[r]
}

// Verdict is what was decided about a topic or a filter, and why.
type Verdict struct {
	Outcome Outcome
	Reason  Reason
	// Rule is the index into [Options.Rules] of the rule that decided, -1 for none.
	Rule int
}

const maxTopic = 65535 // bytes, MQTT 5.0 section 4.7.3

func refuse(r Reason, rule int) Verdict { return Verdict{Refused, r, rule} }

// Up maps a topic that the device publishes to. It appends the topic for the broker to
// dst, which is topic itself if it passes, and nothing if it is refused. topic must be a
// valid topic name.
func (b *Bound) Up(dst, topic []byte) ([]byte, Verdict) {
	t := text(topic)
	if v := b.m.refuses(t); v.Outcome == Refused {
		return dst, v
	}
	for i := range b.m.rules {
		r := &b.m.rules[i]
		rest, ok := r.cut(t)
		if !ok {
			continue
		}
		if len(b.roots[i])+len(rest)+1 > maxTopic {
			return dst, refuse(TooLong, r.index)
		}
		return b.mapped(dst, i, rest), Verdict{Mapped, None, r.index}
	}
	for i, closed := range b.m.closed {
		if authz.Match(closed, t) {
			return dst, refuse(Closed, b.m.rules[i].index)
		}
	}
	if b.m.strict {
		return dst, refuse(Unmapped, -1)
	}
	return append(dst, topic...), Verdict{Passed, None, -1}
}

// mapped appends what a rule makes of a topic or a filter with that rest behind its root.
func (b *Bound) mapped(dst []byte, i int, rest string) []byte {
	dst = append(dst, b.roots[i]...)
	if b.m.rules[i].root == "" {
		dst = append(dst, '/')
	}
	return append(dst, rest...)
}

// refuses reports what is refused before any rule is asked.
func (m *Map) refuses(t string) Verdict {
	if m.forbidden != "" && strings.ContainsAny(t, m.forbidden) {
		return refuse(Forbidden, -1)
	}
	if strings.HasPrefix(t, "$") && !m.begins(t) {
		return refuse(Reserved, -1)
	}
	for _, filter := range m.refused {
		if authz.Overlaps(filter, t) {
			return refuse(Reserved, -1)
		}
	}
	return Verdict{Rule: -1}
}

// begins reports whether the device side of a rule begins with the first level of t.
func (m *Map) begins(t string) bool {
	level, _, _ := strings.Cut(t, "/")
	for i := range m.rules {
		if first, _, _ := strings.Cut(m.rules[i].root, "/"); first == level {
			return true
		}
	}
	return false
}

// cut returns what follows the rule's root in a topic that fits its device side: nothing,
// a slash and more, or all of the topic where the rule is for all topics.
func (r *rule) cut(t string) (rest string, ok bool) {
	switch {
	case r.root == "":
		return t, t[0] != '$'
	case !strings.HasPrefix(t, r.root):
		return "", false
	case len(t) == len(r.root):
		return "", true
	}
	return t[len(r.root):], r.subtree && t[len(r.root)] == '/'
}

// Filter maps a filter that the device subscribes to, or unsubscribes from. It appends the
// filter for the broker to dst like [Bound.Up]. A filter that is not valid is refused.
func (b *Bound) Filter(dst []byte, filter string) ([]byte, Verdict) {
	if !authz.ValidFilter(filter) {
		return dst, refuse(Invalid, -1)
	}
	group, inner := cutGroup(filter)
	if v := b.m.refuses(inner); v.Outcome == Refused {
		return dst, v
	}
	if b.m.forbidden != "" && strings.ContainsAny(group, b.m.forbidden) {
		return dst, refuse(Forbidden, -1)
	}
	for i := range b.m.rules {
		r := &b.m.rules[i]
		switch {
		case !authz.Overlaps(r.pattern, inner):
			continue
		case !authz.Contains(r.pattern, inner):
			return dst, refuse(Several, r.index)
		case len(group)+len(b.roots[i])+len(inner)-len(r.root)+1 > maxTopic:
			return dst, refuse(TooLong, r.index)
		}
		return b.mapped(append(dst, group...), i, inner[len(r.root):]), Verdict{Mapped, None, r.index}
	}
	for i, closed := range b.m.closed {
		if authz.Overlaps(closed, inner) {
			return dst, refuse(Closed, b.m.rules[i].index)
		}
	}
	if b.m.strict {
		return dst, refuse(Unmapped, -1)
	}
	return append(dst, filter...), Verdict{Passed, None, -1}
}

// cutGroup divides a filter into $share/GROUP/, if it begins with that, and the rest.
func cutGroup(filter string) (group, inner string) {
	rest, ok := strings.CutPrefix(filter, "$share/")
	if !ok {
		return "", filter
	}
	name, _, _ := strings.Cut(rest, "/")
	at := len("$share/") + len(name) + 1
	return filter[:at], filter[at:]
}

// Down maps a topic of a message from the broker back. It appends the topic for the device
// to dst like [Bound.Up].
func (b *Bound) Down(dst, topic []byte) ([]byte, Verdict) {
	t := text(topic)
	for i := range b.m.rules {
		r := &b.m.rules[i]
		rest, ok := strings.CutPrefix(t, b.roots[i])
		if !ok || rest != "" && (rest[0] != '/' || !r.subtree) {
			continue
		}
		device, ok := b.m.back(i, rest)
		switch {
		case !ok:
			return dst, refuse(Closed, r.index)
		case len(r.root)+len(device) > maxTopic:
			return dst, refuse(TooLong, r.index)
		}
		return append(append(dst, r.root...), device...), Verdict{Mapped, None, r.index}
	}
	for i, closed := range b.m.closed {
		if authz.Match(closed, t) {
			return dst, refuse(Closed, b.m.rules[i].index)
		}
	}
	for i := range b.m.rules { // it would look like a topic of that rule
		if _, ok := b.m.rules[i].cut(t); ok {
			return dst, refuse(Unmapped, b.m.rules[i].index)
		}
	}
	if b.m.strict {
		return dst, refuse(Unmapped, -1)
	}
	return append(dst, topic...), Verdict{Passed, None, -1}
}

// back returns what follows the root of rule i on the device's side. It reports false if
// the device could not have meant that: there is no such topic, or an earlier rule has it.
func (m *Map) back(i int, rest string) (string, bool) {
	r := &m.rules[i]
	if r.root == "" {
		if len(rest) < 2 || rest[1] == '$' {
			return "", false
		}
		rest = rest[1:]
	}
	for j := range m.rules[:i] {
		if m.rules[j].fits(r.root, rest) {
			return "", false
		}
	}
	return rest, true
}

// fits reports whether the topic root+rest fits the device side of r.
func (r *rule) fits(root, rest string) bool {
	n := len(root) + len(rest)
	if n < len(r.root) {
		return false
	}
	at := min(len(root), len(r.root))
	if root[:at] != r.root[:at] || at < len(r.root) && !strings.HasPrefix(rest, r.root[at:]) {
		return false
	}
	if n == len(r.root) {
		return true
	}
	next := byte('/')
	if len(r.root) < len(root) {
		next = root[len(r.root)]
	} else {
		next = rest[len(r.root)-len(root)]
	}
	return r.root == "" || r.subtree && next == '/'
}

// text is a view of b, which must not change meanwhile.
func text(b []byte) string {
	if len(b) == 0 {
		return ""
	}
	return unsafe.String(&b[0], len(b))
}
