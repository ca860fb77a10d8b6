package topicmap

import (
	"errors"
	"fmt"
	"strings"

	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/authz"
)

// Rule maps a subtree or a topic of the devices to one of the broker.
type Rule struct {
	Device, Broker string
}

// Options are what a [Map] is made from.
type Options struct {
	// Rules are asked in order.
	Rules []Rule
	// Refused are filters of device topics that are refused whatever the rules say.
	Refused []string
	// RefuseUnmapped refuses what no rule covers, in both directions; by default it
	// passes as it is.
	RefuseUnmapped bool
	// Forbidden are characters that no topic, filter, subject or attribute may contain.
	// A broker that gives further characters a meaning needs them: RabbitMQ turns / into
	// . and + into *, so there it is ".*".
	Forbidden string
}

// Map is a compiled map. It is immutable.
type Map struct {
	rules     []rule
	closed    []string // the filters of all broker sides, + for each placeholder
	refused   []string
	strict    bool
	forbidden string
}

// rule is a rule that was taken apart.
type rule struct {
	index   int      // in Options.Rules
	pattern string   // the device side as a topic filter
	root    string   // the device side without /#; empty for all topics
	broker  []string // the levels of the broker side without #
	subtree bool
}

// RuleError says what is wrong with a rule. Other is the rule that it collides with, -1 if
// it is wrong by itself. Both are indexes into [Options.Rules].
type RuleError struct {
	Rule, Other int
	Reason      string
}

// Error names no rule: the caller knows where it stands.
func (e *RuleError) Error() string { return e.Reason }

// Compile checks the rules and makes a map of them. All that is wrong with them is
// reported, each as a [*RuleError], joined. A rule whose device side an earlier rule
// covers is left out: it would never be asked.
func Compile(o Options) (*Map, error) {
	m := &Map{refused: o.Refused, strict: o.RefuseUnmapped, forbidden: o.Forbidden}
	var errs []error
	for i, r := range o.Rules {
		compiled, err := compileRule(i, r)
		if err != nil {
			errs = append(errs, err)
			continue
		}
		if m.covers(compiled.pattern) {
			continue
		}
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

// covers reports whether a rule that is there already decides about every topic of a
// device side.
func (m *Map) covers(pattern string) bool {
	for i := range m.rules {
		if authz.Contains(m.rules[i].pattern, pattern) {
			return true
		}
	}
	return false
}

func compileRule(i int, r Rule) (rule, error) {
	c := rule{index: i, pattern: r.Device}
	fault := func(format string, args ...any) (rule, error) {
		return rule{}, &RuleError{i, -1, fmt.Sprintf(format, args...)}
	}
	root, deviceTree := cutSubtree(r.Device)
	broker, brokerTree := cutSubtree(r.Broker)
	switch {
	case !authz.ValidFilter(r.Device), strings.ContainsAny(root, "+#"), strings.HasPrefix(r.Device, "$share"):
		return fault("the device side %q is not a topic, nor one that ends in /#; only its end may be a wildcard", r.Device)
	case strings.Contains(r.Device, "${"):
		return fault("the device side %s must not have placeholders: devices use it as it stands", r.Device)
	case deviceTree != brokerTree:
		return fault("%s and %s must both end in /#, or neither", r.Device, r.Broker)
	case broker == "" || !authz.ValidTopic(broker):
		return fault("the broker side %q is not a topic, nor one that ends in /#", r.Broker)
	case broker[0] == '$' && !strings.HasPrefix(broker, "${"):
		return fault("the broker side %s must not begin with $, which brokers keep for themselves", r.Broker)
	}
	c.root, c.subtree, c.broker = root, deviceTree, strings.Split(broker, "/")
	for _, level := range c.broker {
		if err := checkLevel(level); err != nil {
			return fault("the broker side %s: %v", r.Broker, err)
		}
	}
	return c, nil
}

// cutSubtree returns what comes before /#, and whether that was there.
func cutSubtree(side string) (root string, subtree bool) {
	if side == "#" {
		return "", true
	}
	return strings.CutSuffix(side, "/#")
}

// checkLevel accepts a literal level and one that is a placeholder.
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

// placeholder returns the name in a level that is a placeholder.
func placeholder(level string) (name string, ok bool) {
	name, ok = strings.CutPrefix(level, "${")
	if !ok {
		return "", false
	}
	name, ok = strings.CutSuffix(name, "}")
	return name, ok && !strings.Contains(name, "${")
}

// closed returns the filter of everything that the rule means at the broker, for whichever
// device.
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

// Shared returns the indexes of the rules whose broker side does not have ${subject}: what
// one device sends there, others may read.
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

// Preset returns the rules of that name, and what it refuses. The only one is thingsboard,
// whose device topics are the same for all devices.
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
