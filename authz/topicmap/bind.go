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
	m     *Map
	roots []string // of the broker sides, without /#
}

// Bind replaces the placeholders by the values of one device. Its error wraps [ErrNotUsable] if
// a value is missing or empty, or contains a character that a level cannot have: /, +, #, NUL,
// one of [Options.Forbidden], or $ at the beginning of a topic.
func (m *Map) Bind(subject string, attrs map[string]string) (*Bound, error) {
	b := &Bound{m: m, roots: make([]string, len(m.rules))}
	for i := range m.rules {
		levels := make([]string, len(m.rules[i].broker))
		for j, level := range m.rules[i].broker {
			name, ok := placeholder(level)
			if !ok {
				levels[j] = level
				continue
			}
			value := subject
			if attr, ok := strings.CutPrefix(name, "attrs."); ok {
				value = attrs[attr]
			}
			if err := m.usable(value, j == 0); err != nil {
				return nil, fmt.Errorf("${%s} %w: %w", name, ErrNotUsable, err)
			}
			levels[j] = value
		}
		b.roots[i] = strings.Join(levels, "/")
	}
	return b, nil
}

// Equal reports whether both have the same rules and lead to the same topics. Nil equals nil
// only.
func (b *Bound) Equal(o *Bound) bool {
	if b == nil || o == nil {
		return b == o
	}
	return b.m == o.m && slices.Equal(b.roots, o.roots)
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
	for i, root := range b.roots {
		device := len(b.m.rules[i].root)
		if device == 0 {
			device = -1 // the slash after the root is missing, too
		}
		up, down = max(up, len(root)-device), max(down, device-len(root))
	}
	return up, down
}
