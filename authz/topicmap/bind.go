package topicmap

import (
	"errors"
	"fmt"
	"slices"
	"strings"
)

// ErrNotUsable is wrapped by the error of [Map.Bind] for a subject or an attribute that cannot
// be a level of a topic.
var ErrNotUsable = errors.New("cannot be a level of a topic")

// Bound is a map for one device. It is immutable.
type Bound struct {
	m      *Map
	values []string // of the placeholders, in the order of Map.names
}

// Bind replaces the placeholders by the values of one device. Its error wraps [ErrNotUsable] if
// a value is missing or empty, or contains a character that a level cannot have: /, +, #, NUL,
// one of [Options.Forbidden], or $ at the beginning of a topic.
func (m *Map) Bind(subject string, attrs map[string]string) (*Bound, error) {
	b := &Bound{m: m, values: make([]string, len(m.names))}
	for i, name := range m.names {
		if b.values[i] = subject; name != "subject" {
			b.values[i] = attrs[strings.TrimPrefix(name, "attrs.")]
		}
		if err := m.usable(b.values[i], m.begin[i]); err != nil {
			return nil, fmt.Errorf("${%s} %w: %w", name, ErrNotUsable, err)
		}
	}
	return b, nil
}

// Equal reports whether both have the same rules and lead to the same topics. Nil equals nil
// only.
func (b *Bound) Equal(o *Bound) bool {
	if b == nil || o == nil {
		return b == o
	}
	return b.m == o.m && slices.Equal(b.values, o.values)
}

// text returns a part of a broker side for this device.
func (b *Bound) text(p part) string {
	if p.value < 0 {
		return p.text
	}
	return b.values[p.value]
}

// rootLen returns the length of the broker side of a rule, without /#.
func (b *Bound) rootLen(r *rule) (n int) {
	for _, p := range r.parts {
		n += len(b.text(p))
	}
	return n
}

// appendRoot appends the broker side of a rule, without /#.
func (b *Bound) appendRoot(dst []byte, r *rule) []byte {
	for _, p := range r.parts {
		dst = append(dst, b.text(p)...)
	}
	return dst
}

// cutRoot returns what follows the broker side of a rule in a topic, and whether it begins so.
func (b *Bound) cutRoot(topic string, r *rule) (rest string, ok bool) {
	for _, p := range r.parts {
		if topic, ok = strings.CutPrefix(topic, b.text(p)); !ok {
			return "", false
		}
	}
	return topic, true
}

// usable returns nil if a value can be a level of a topic. The error does not contain the
// value.
func (m *Map) usable(value string, first bool) error {
	switch {
	case value == "":
		return errors.New("it is empty")
	case strings.ContainsAny(value, "/+#\x00"):
		return errors.New("it contains /, +, # or NUL")
	case m.forbidden != "" && strings.ContainsAny(value, m.forbidden):
		return fmt.Errorf("it contains one of the characters %s", m.forbidden)
	case first && value[0] == '$':
		return errors.New("it begins with $")
	}
	return nil
}

// Growth returns by how many bytes a topic can grow on its way to the broker and on its way to
// the device.
func (b *Bound) Growth() (up, down int) {
	for i := range b.m.rules {
		device, broker := len(b.m.rules[i].root), b.rootLen(&b.m.rules[i])
		if device == 0 {
			device = -1 // the slash after the root is missing, too
		}
		up, down = max(up, broker-device), max(down, device-broker)
	}
	return up, down
}
