package authz

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
)

// ACL is what a session may publish and subscribe to: rules in their order, of
// which the first that fits decides. It is immutable and may be shared by any
// number of grants. The zero value allows nothing.
//
// Topics of rules are topic filters. They may hold the placeholders ${client_id},
// ${username}, ${subject} and ${attrs.NAME}, or their other spellings (see package
// placeholder), which [ACL.Bind] fills in. A topic that begins with "eq " means the
// rest literally, placeholders and wildcards included: "eq a/#" is the subscription to
// a/# and no other.
//
// Brokers give topics that begin with $ a meaning of their own: $SYS/, and prefixes
// that hide the topic that is meant, such as $queue/ or $delayed/5/, or $share/ in
// capitals. Where there are rules, such a topic or filter is therefore refused unless
// the topic of a rule begins with the same first level. The standard's $share/group/
// is looked through, in exactly this spelling.
type ACL struct {
	rules   []rule
	rest    NoMatch
	unbound bool // there are placeholders
	topics  int  // of all rules

	once  sync.Once
	index *index   // if there are many topics; made by the first Bind
	bound BoundACL // without placeholders this is what Bind returns; as the index
}

// MaxRules is how many rules an ACL has at most.
const MaxRules = 1000

// Rule is one rule of an [ACL].
type Rule struct {
	// Deny makes the rule refuse what it fits, instead of allowing it.
	Deny bool
	// Publish and Subscribe are the actions that the rule is about; at least one is set.
	Publish, Subscribe bool
	// Topics are the topic filters that the rule is about, at least one.
	Topics []string
	// QoS lists the QoS levels the rule is about: that of the message, or that
	// which a subscription asks for. Empty is all of them.
	QoS []int
	// Retain narrows the rule to messages with that retain flag; nil is both.
	// It does not concern subscriptions.
	Retain *bool
}

// NoMatch is what happens to what no rule of an [ACL] fits.
type NoMatch uint8

const (
	// DenyRest refuses it.
	DenyRest NoMatch = iota
	// DeferRest leaves it to the broker, which means that it passes.
	DeferRest
)

// NewACL returns the ACL of the given rules, [MaxRules] at most. An error says which
// rule, counted from 1, is not valid and why.
func NewACL(rest NoMatch, rules ...Rule) (*ACL, error) {
	if len(rules) > MaxRules {
		return nil, fmt.Errorf("%d rules, at most %d are allowed", len(rules), MaxRules)
	}
	a := &ACL{rest: rest}
	for i, r := range rules {
		compiled, err := r.compile()
		if err != nil {
			return nil, fmt.Errorf("rule %d: %w", i+1, err)
		}
		a.rules = append(a.rules, compiled)
		a.unbound = a.unbound || compiled.unbound()
		a.topics += len(compiled.topics)
	}
	return a, nil
}

// actions and flags are sets: a bit each.
const (
	publish   = 1
	subscribe = 2

	everyQoS    = 1<<0 | 1<<1 | 1<<2
	everyRetain = 1<<0 | 1<<1
)

// rule is a Rule as it is asked.
type rule struct {
	deny    bool
	actions uint8
	qos     uint8 // bit n: QoS n
	retain  uint8 // bit 0: not retained, bit 1: retained
	topics  []pattern
}

// pattern is one of a rule's topics.
type pattern struct {
	text    string // without "eq "
	literal bool
}

func (r *Rule) compile() (rule, error) {
	c := rule{deny: r.Deny, qos: everyQoS, retain: everyRetain}
	if r.Publish {
		c.actions |= publish
	}
	if r.Subscribe {
		c.actions |= subscribe
	}
	if c.actions == 0 {
		return c, errors.New("neither about publishing nor about subscribing")
	}
	if len(r.QoS) > 0 {
		c.qos = 0
	}
	for _, qos := range r.QoS {
		if qos < 0 || qos > 2 {
			return c, fmt.Errorf("qos is %d, not 0, 1 or 2", qos)
		}
		c.qos |= 1 << qos
	}
	if r.Retain != nil {
		if !r.Publish {
			return c, errors.New("retain is about publishing, and the rule is not")
		}
		c.retain = 1 << retainBit(*r.Retain)
	}
	if len(r.Topics) == 0 {
		return c, errors.New("no topics")
	}
	for _, topic := range r.Topics {
		p, err := compilePattern(topic)
		if err != nil {
			return c, fmt.Errorf("topic %q: %w", topic, err)
		}
		c.topics = append(c.topics, p)
	}
	return c, nil
}

func retainBit(retain bool) uint8 {
	if retain {
		return 1
	}
	return 0
}

func compilePattern(topic string) (pattern, error) {
	if text, ok := strings.CutPrefix(topic, "eq "); ok {
		return pattern{text: text, literal: true}, checkPattern(text)
	}
	expanded, err := aclPlaceholders.Expand(topic, sampleValue)
	if err != nil {
		return pattern{}, err
	}
	return pattern{text: topic}, checkPattern(expanded)
}

func checkPattern(filter string) error {
	switch {
	case isShare(filter):
		return errShared
	case !ValidFilter(filter):
		return errNotFilter
	case strings.Count(filter, "/") >= maxRuleLevels:
		return fmt.Errorf("more than %d levels", maxRuleLevels)
	}
	return nil
}

// maxRuleLevels is how many levels the topic of a rule has at most. Brokers that allow
// more are not known.
const maxRuleLevels = 200

// isShare reports whether filter is a shared subscription for some broker.
func isShare(filter string) bool { return strings.EqualFold(firstLevel(filter), "$share") }

var (
	errNotFilter   = errors.New("not a topic filter")
	errShared      = errors.New("$share/group/ is not looked at: leave it out")
	errDollarValue = errors.New("a value at the beginning of a topic begins with $")
)

func (r *rule) unbound() bool { return slices.ContainsFunc(r.topics, pattern.unbound) }

func (p pattern) unbound() bool { return !p.literal && strings.Contains(p.text, "${") }

// Equal reports whether both consist of the same rules in the same order. Nil
// equals nil only.
func (a *ACL) Equal(b *ACL) bool {
	if a == nil || b == nil {
		return a == b
	}
	return a.rest == b.rest && slices.EqualFunc(a.rules, b.rules, func(r, s rule) bool {
		return r.deny == s.deny && r.actions == s.actions && r.qos == s.qos && r.retain == s.retain && slices.Equal(r.topics, s.topics)
	})
}

// String returns "deny" or "defer", which is what happens to the rest, and the
// rules as [ParseACL] takes them. ACLs that are equal, and only those, have the same
// String, so it is a key to share them by.
func (a *ACL) String() string {
	rest := "deny "
	if a.rest == DeferRest {
		rest = "defer "
	}
	rules := make([]ruleJSON, len(a.rules))
	for i := range rules {
		rules[i] = a.rules[i].json()
	}
	text, err := json.Marshal(rules)
	if err != nil {
		return rest + err.Error() // strings, numbers and booleans always marshal
	}
	return rest + string(text)
}

// ruleJSON is a rule as it is written.
type ruleJSON struct {
	Permission string   `json:"permission"`
	Action     string   `json:"action"`
	Topics     []string `json:"topics"`
	QoS        []int    `json:"qos,omitempty"`
	Retain     *bool    `json:"retain,omitempty"`
}

func (r *rule) json() ruleJSON {
	out := ruleJSON{Permission: "allow", Action: [...]string{publish: "publish", subscribe: "subscribe", publish | subscribe: "all"}[r.actions]}
	if r.deny {
		out.Permission = "deny"
	}
	for _, p := range r.topics {
		if p.literal {
			p.text = "eq " + p.text
		}
		out.Topics = append(out.Topics, p.text)
	}
	for qos := range 3 {
		if r.qos != everyQoS && r.qos&(1<<qos) != 0 {
			out.QoS = append(out.QoS, qos)
		}
	}
	if r.retain != everyRetain {
		retain := r.retain == 1<<1
		out.Retain = &retain
	}
	return out
}
