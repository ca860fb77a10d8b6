package authz

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
)

// ACL is what a session may publish and subscribe to: an ordered list of rules, of which the
// first that matches decides. It is immutable and may be shared by any number of grants. The
// zero value allows nothing.
//
// Topics of rules are topic filters. They may contain the placeholders ${client_id},
// ${username}, ${subject} and ${attrs.NAME}, or their other spellings (see package
// placeholder), which [ACL.Bind] fills in. In a topic that begins with "eq ", the rest is
// literal, including placeholders and wildcards: "eq a/#" matches only a subscription to
// exactly a/#.
//
// Brokers treat topics that begin with $ specially: $SYS/, and prefixes in front of the actual
// topic, such as $queue/ or $delayed/5/, or $share/ in capitals. If an ACL has rules, it
// therefore refuses such a topic or filter unless the topic of a rule begins with the same
// first level. Only the standard's $share/group/, in exactly this spelling, is removed before
// the filter is matched.
type ACL struct {
	rules   []rule
	rest    NoMatch
	unbound bool // there are placeholders
	topics  int  // of all rules

	once  sync.Once
	index *index   // if there are many topics; made by the first Bind
	bound BoundACL // without placeholders, the result of every Bind; made by the first Bind
}

// MaxRules is the maximum number of rules of an ACL.
const MaxRules = 1000

// Rule is one rule of an [ACL].
type Rule struct {
	// Deny makes the rule refuse what it matches, instead of allowing it.
	Deny bool
	// Publish and Subscribe are the actions that the rule applies to; at least one is set.
	Publish, Subscribe bool
	// Topics are the topic filters that the rule applies to, at least one.
	Topics []string
	// QoS lists the QoS levels that the rule applies to: the QoS of a message, or the QoS that
	// a subscription asks for. Empty means all of them.
	QoS []int
	// Retain limits the rule to messages with that retain flag; nil means both. It does not
	// affect subscriptions.
	Retain *bool
}

// NoMatch says what happens if no rule of an [ACL] matches.
type NoMatch uint8

const (
	// DenyRest refuses the request.
	DenyRest NoMatch = iota
	// DeferRest leaves the decision to the broker: the request is allowed.
	DeferRest
)

// NewACL returns the ACL of the given rules, of which there may be [MaxRules]. An error names
// the invalid rule, counted from 1.
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

// rule is a Rule in the form in which it is matched.
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
		return c, errors.New("it is neither for publishing nor for subscribing")
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
			return c, errors.New("retain applies to publishing, and the rule does not")
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

// maxRuleLevels is the maximum number of levels in the topic of a rule. No known broker allows
// more.
const maxRuleLevels = 200

// isShare reports whether some broker takes filter for a shared subscription.
func isShare(filter string) bool { return strings.EqualFold(firstLevel(filter), "$share") }

var (
	errNotFilter   = errors.New("not a topic filter")
	errShared      = errors.New("it begins with $share/group/, which rules must omit: they apply to shared subscriptions, too")
	errDollarValue = errors.New("a value at the beginning of a topic begins with $")
)

func (r rule) equal(s rule) bool {
	return r.deny == s.deny && r.actions == s.actions && r.qos == s.qos && r.retain == s.retain && slices.Equal(r.topics, s.topics)
}

func (r *rule) unbound() bool { return slices.ContainsFunc(r.topics, pattern.unbound) }

func (p pattern) unbound() bool { return !p.literal && strings.Contains(p.text, "${") }

// Equal reports whether both consist of the same rules in the same order. Nil is equal only to
// nil.
func (a *ACL) Equal(b *ACL) bool {
	if a == nil || b == nil {
		return a == b
	}
	return a.rest == b.rest && slices.EqualFunc(a.rules, b.rules, rule.equal)
}

// String returns "deny" or "defer", which says what happens if no rule matches, followed by the
// rules in the form that [ParseACL] reads. Two ACLs have the same String if and only if they
// are equal.
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

// ruleJSON is the JSON form of a rule.
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
