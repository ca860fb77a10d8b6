package topicmap

import (
	"strings"
	"unsafe"

	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/authz"
)

// Outcome is what a map does with a topic or a filter.
type Outcome byte

const (
	Passed  Outcome = iota // it passes as it is, since no rule applies
	Mapped                 // a rule has replaced it
	Refused                // it is not allowed, see Reason
)

// Reason is why a topic or a filter is refused.
type Reason byte

const (
	None      Reason = iota
	Unmapped         // no rule covers it, and the map refuses that
	Closed           // it is in the broker side of a rule, or could match a topic there
	Several          // a filter overlaps the device side of a rule and also matches other topics
	Reserved         // it begins with $, or Options.Refused has it
	TooLong          // the mapped topic would have more than 65,535 bytes
	Forbidden        // it contains a character of Options.Forbidden
	Invalid          // it is not a valid filter
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

// Up maps a topic that the device publishes to. It appends the topic for the broker to dst: the
// same topic if it passes, and nothing if it is refused. topic must be a valid topic name.
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
		if b.rootLen(r)+len(rest)+1 > maxTopic {
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

// mapped appends the broker's form of a topic or filter that has rest after the root of rule i.
func (b *Bound) mapped(dst []byte, i int, rest string) []byte {
	dst = b.appendRoot(dst, &b.m.rules[i])
	if b.m.rules[i].root == "" {
		dst = append(dst, '/')
	}
	return append(dst, rest...)
}

// refuses returns a refusal if t is refused before any rule is tried.
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

// cut reports whether the device side of the rule matches t, and returns what follows the
// root: nothing, a slash and more levels, or all of t if the rule is for all topics.
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

// Filter maps a filter that the device subscribes to or unsubscribes from. It appends the filter
// for the broker to dst like [Bound.Up]. A filter that is not valid is refused.
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
		case len(group)+b.rootLen(r)+len(inner)-len(r.root)+1 > maxTopic:
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

// cutGroup splits a filter into $share/GROUP/, if it begins with that, and the rest.
func cutGroup(filter string) (group, inner string) {
	rest, ok := strings.CutPrefix(filter, "$share/")
	if !ok {
		return "", filter
	}
	name, _, _ := strings.Cut(rest, "/")
	at := len("$share/") + len(name) + 1
	return filter[:at], filter[at:]
}

// Down maps the topic of a message from the broker back. It appends the topic for the device to
// dst like [Bound.Up].
func (b *Bound) Down(dst, topic []byte) ([]byte, Verdict) {
	t := text(topic)
	for i := range b.m.rules {
		r := &b.m.rules[i]
		rest, ok := b.cutRoot(t, r)
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
	for i := range b.m.rules { // the device would take it for a topic of that rule
		if _, ok := b.m.rules[i].cut(t); ok {
			return dst, refuse(Unmapped, b.m.rules[i].index)
		}
	}
	if b.m.strict {
		return dst, refuse(Unmapped, -1)
	}
	return append(dst, topic...), Verdict{Passed, None, -1}
}

// back returns what follows the root of rule i on the device's side. It reports false if the
// result is not a topic, or if an earlier rule maps that topic of the device elsewhere.
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

// fits reports whether the device side of r, which is not #, matches the topic root+rest.
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
	if len(r.root) < len(root) {
		return r.subtree && root[len(r.root)] == '/'
	}
	return r.subtree && rest[len(r.root)-len(root)] == '/'
}

// text returns b as a string without a copy. b must not change while the string is in use.
func text(b []byte) string {
	if len(b) == 0 {
		return ""
	}
	return unsafe.String(&b[0], len(b))
}
