package topicmap

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/authz"
)

// Rule maps a topic of the devices, or a topic with all topics below it, to one of the broker.
type Rule struct {
	Device, Broker string
}

// Options describe a [Map].
type Options struct {
	// Rules are the rules in the order in which they are tried.
	Rules []Rule
	// Refused are filters of device topics that are refused even if a rule matches them.
	Refused []string
	// RefuseUnmapped refuses topics that no rule maps, in both directions. By default they
	// pass as they are.
	RefuseUnmapped bool
	// Forbidden are characters that no topic, filter, subject or attribute may contain. They
	// are for brokers that treat further characters specially. RabbitMQ turns / into . and +
	// into *, so for RabbitMQ it is ".*".
	Forbidden string
}

// Map is a compiled map. It is immutable.
type Map struct {
	rules     []rule
	names     []string // of the placeholders in the rules
	begin     []bool   // whether a topic begins with that placeholder
	closed    []string // the filters of all broker sides, + for each placeholder
	refused   []string
	strict    bool
	forbidden string
	idle      []IdleRule
}

// IdleRule is a rule that never decides, because another one before it covers its device side.
// Both are indexes into [Options.Rules].
type IdleRule struct{ Rule, By int }

// rule is a compiled Rule.
type rule struct {
	index   int      // in Options.Rules
	pattern string   // the device side as a topic filter
	root    string   // the device side without /#; empty for all topics
	broker  []string // the levels of the broker side without #
	parts   []part   // the same, with the slashes between them
	subtree bool
}

// part is a part of a broker side: a text, or the placeholder with an index into Map.names.
type part struct {
	text  string
	value int // -1 for a text
}

// split sets the parts of a rule.
func (m *Map) split(r *rule) {
	text := ""
	for i, level := range r.broker {
		if i > 0 {
			text += "/"
		}
		name, ok := placeholder(level)
		if !ok {
			text += level
			continue
		}
		value := slices.Index(m.names, name)
		if value < 0 {
			value = len(m.names)
			m.names, m.begin = append(m.names, name), append(m.begin, false)
		}
		m.begin[value] = m.begin[value] || i == 0
		if text != "" {
			r.parts = append(r.parts, part{text, -1})
		}
		r.parts, text = append(r.parts, part{value: value}), ""
	}
	if text != "" {
		r.parts = append(r.parts, part{text, -1})
	}
}

// RuleError describes a fault of a rule. Other is the rule that it conflicts with, or -1 if the
// fault is in the rule itself. Both are indexes into [Options.Rules].
type RuleError struct {
	Rule, Other int
	Reason      string
}

// Error returns the reason. It does not name the rule; the caller knows its place.
func (e *RuleError) Error() string { return e.Reason }

// Compile checks the rules and makes a map of them. The error joins all faults, and those of
// rules are each a [*RuleError]. A rule is left out if an earlier rule covers its device side,
// since it could never decide.
func Compile(o Options) (*Map, error) {
	m := &Map{refused: o.Refused, strict: o.RefuseUnmapped, forbidden: o.Forbidden}
	var errs []error
	for i, r := range o.Rules {
		compiled, err := compileRule(i, r)
		if err == nil && compiled.contains(o.Forbidden) {
			err = &RuleError{i, -1, fmt.Sprintf("%s and %s: none may contain the forbidden characters %s", r.Device, r.Broker, o.Forbidden)}
		}
		if err != nil {
			errs = append(errs, err)
			continue
		}
		if by := m.covers(compiled.pattern); by >= 0 {
			m.idle = append(m.idle, IdleRule{i, by})
			continue
		}
		m.split(&compiled)
		closed := compiled.closed()
		for j, other := range m.closed {
			if authz.Overlaps(closed, other) {
				errs = append(errs, &RuleError{i, m.rules[j].index, fmt.Sprintf(
					"the broker sides %s and %s overlap: a topic of the broker would belong to both; give one of them a level of its own", r.Broker, o.Rules[m.rules[j].index].Broker)})
			}
		}
		m.rules, m.closed = append(m.rules, compiled), append(m.closed, closed)
	}
	for _, filter := range o.Refused {
		if !authz.ValidFilter(filter) {
			errs = append(errs, fmt.Errorf("%q is not a topic filter", filter))
		}
	}
	if errs != nil {
		return nil, errors.Join(errs...)
	}
	return m, nil
}

// covers returns the index of a rule so far that decides about every topic of a device side, or -1
// if there is none.
func (m *Map) covers(pattern string) int {
	for i := range m.rules {
		if authz.Contains(m.rules[i].pattern, pattern) {
			return m.rules[i].index
		}
	}
	return -1
}

func compileRule(i int, r Rule) (rule, error) {
	c := rule{index: i, pattern: r.Device}
	fault := func(format string, args ...any) (rule, error) {
		return rule{}, &RuleError{i, -1, fmt.Sprintf(format, args...)}
	}
	root, deviceTree := cutSubtree(r.Device)
	broker, brokerTree := cutSubtree(r.Broker)
	switch {
	case !authz.ValidFilter(r.Device), strings.ContainsAny(root, "+#"):
		return fault("the device side %q is not a topic, nor one that ends in /#; only its end may be a wildcard", r.Device)
	case isShare(root):
		return fault("the device side %s begins like a shared subscription; the rest of it would decide", r.Device)
	case strings.Contains(r.Device, "${"):
		return fault("the device side %s must not have placeholders: devices use it literally", r.Device)
	case deviceTree != brokerTree:
		return fault("%s and %s must both end in /#, or neither", r.Device, r.Broker)
	case broker == "" || !authz.ValidTopic(broker):
		return fault("the broker side %q is not a topic, nor one that ends in /#", r.Broker)
	case broker[0] == '$' && !strings.HasPrefix(broker, "${"):
		return fault("the broker side %s must not begin with $, which brokers reserve", r.Broker)
	}
	c.root, c.subtree, c.broker = root, deviceTree, strings.Split(broker, "/")
	for _, level := range c.broker {
		if err := checkLevel(level); err != nil {
			return fault("the broker side %s: %v", r.Broker, err)
		}
	}
	return c, nil
}

// isShare reports whether the first level is that of a shared subscription, in any spelling: some
// brokers ignore the case.
func isShare(root string) bool {
	first, _, _ := strings.Cut(root, "/")
	return strings.EqualFold(first, "$share")
}

// cutSubtree removes a final /# and reports whether there was one.
func cutSubtree(side string) (root string, subtree bool) {
	if side == "#" {
		return "", true
	}
	return strings.CutSuffix(side, "/#")
}

// checkLevel returns an error unless level is literal or a whole placeholder.
func checkLevel(level string) error {
	name, ok := placeholder(level)
	switch {
	case !ok && strings.Contains(level, "${"):
		return fmt.Errorf("the placeholder in %s must be a whole level, between two slashes", level)
	case !ok, name == "subject":
		return nil
	}
	if attr, ok := strings.CutPrefix(name, "attrs."); ok && attr != "" {
		return nil
	}
	return fmt.Errorf("${%s} cannot be part of a topic here, because the device chooses it or it is a secret; use ${subject} or ${attrs.NAME}", name)
}

// placeholder returns the name of a placeholder, and whether level is one.
func placeholder(level string) (name string, ok bool) {
	name, ok = strings.CutPrefix(level, "${")
	if !ok {
		return "", false
	}
	name, ok = strings.CutSuffix(name, "}")
	return name, ok && !strings.Contains(name, "${")
}

// contains reports whether either side of the rule has one of the characters, placeholders aside.
func (r *rule) contains(chars string) bool {
	return strings.ContainsAny(r.root, chars) || slices.ContainsFunc(r.broker, func(level string) bool {
		return !strings.HasPrefix(level, "${") && strings.ContainsAny(level, chars)
	})
}

// closed returns the filter of all topics on the broker side of the rule, for all devices.
func (r *rule) closed() string {
	levels := make([]string, len(r.broker), len(r.broker)+1)
	for i, level := range r.broker {
		if levels[i] = level; strings.HasPrefix(level, "${") {
			levels[i] = "+"
		}
	}
	if r.subtree {
		levels = append(levels, "#")
	}
	return strings.Join(levels, "/")
}

// Shared returns the indexes of the rules without ${subject} on the broker side. Other devices
// may be able to read what a device sends through such a rule.
func (m *Map) Shared() []int {
	var shared []int
	for i := range m.rules {
		own := false
		for _, level := range m.rules[i].broker {
			own = own || level == "${subject}"
		}
		if !own {
			shared = append(shared, m.rules[i].index)
		}
	}
	return shared
}

// Idle returns the rules that never decide.
func (m *Map) Idle() []IdleRule { return m.idle }

// Preset returns the rules and the refused filters of a preset, and reports whether there is
// one of that name. The only preset is thingsboard.
func Preset(name string) (rules []Rule, refused []string, ok bool) {
	if name != "thingsboard" {
		return nil, nil, false
	}
	return []Rule{
		{Device: "v1/devices/me/#", Broker: "v1/devices/${subject}/#"},
		{Device: "v1/gateway/#", Broker: "v1/gateway/${subject}/#"},
		{Device: "v2/#", Broker: "v2/${subject}/#"},
	}, []string{"/provision/#"}, true
}
