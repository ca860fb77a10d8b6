package authz

import (
	"fmt"
	"slices"
	"strings"

	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/authz/placeholder"
)

// ACLValues are the values of the placeholders of an [ACL] in one session.
type ACLValues struct {
	// ClientID is ${client_id}: the client identifier, which the proxy or broker may have
	// assigned.
	ClientID string
	// Username is ${username}: the user name of the CONNECT, or empty if that is the token.
	Username string
	// Subject is ${subject}: the subject of the [Grant].
	Subject string
	// Attrs are ${attrs.NAME}: the attributes of the [Grant].
	Attrs map[string]string
}

// aclPlaceholders are the placeholders of an ACL. The variable is never changed.
var aclPlaceholders = placeholder.Grammar{Names: []string{"client_id", "username", "subject", "attrs.NAME"}}

// value returns the value of p.
func (v *ACLValues) value(p placeholder.Part) (value string, err error) {
	switch p.Name {
	case "client_id":
		value = v.ClientID
	case "username":
		value = v.Username
	case "subject":
		value = v.Subject
	case "attrs":
		value = v.Attrs[p.Key]
	}
	switch {
	case value == "":
		return "", fmt.Errorf("${%s} has no value", p.Text)
	case strings.ContainsAny(value, "+#/\x00"):
		return "", fmt.Errorf("the value of ${%s} contains one of + # / NUL", p.Text)
	}
	return value, nil
}

// sampleValue returns a value that is valid for every placeholder.
func sampleValue(placeholder.Part) (string, error) { return "x", nil }

// Bind replaces the placeholders. For an ACL without any, it returns the same BoundACL every
// time, and no error.
//
// The error names a placeholder, but never its value. The placeholder has no value, or a value
// that would change the meaning of the rule, because it contains a wildcard, a level separator
// or NUL, or begins a topic with $. The session must then be refused: leaving out the rule
// instead could leave out a denial.
func (a *ACL) Bind(v ACLValues) (*BoundACL, error) {
	a.once.Do(a.prepare)
	switch {
	case !a.unbound:
		return &a.bound, nil
	case a.index != nil:
		values, dollars, err := a.index.bind(&v)
		if err != nil {
			return nil, err
		}
		return &BoundACL{acl: a, index: a.index, values: values, dollars: dollars, rest: a.rest}, nil
	}
	b := &BoundACL{acl: a, rest: a.rest, rules: make([]rule, len(a.rules))}
	for i, r := range a.rules {
		if r.unbound() {
			var err error
			if r.topics, err = bindTopics(r.topics, &v); err != nil {
				return nil, fmt.Errorf("topic rule %d: %w", i+1, err)
			}
		}
		b.rules[i] = r
	}
	b.dollars = dollarLevels(b.rules)
	return b, nil
}

// prepare makes what Bind needs. NewACL does not do that, because most ACLs that a token
// service sends are equal to one that is already known.
func (a *ACL) prepare() {
	a.bound.acl, a.bound.rest = a, a.rest
	if a.topics > fewTopics {
		a.index = newIndex(a.rules)
		a.bound.index, a.bound.dollars = a.index, a.index.dollars
		return
	}
	a.bound.rules, a.bound.dollars = a.rules, dollarLevels(a.rules)
}

func bindTopics(topics []pattern, v *ACLValues) ([]pattern, error) {
	out := make([]pattern, len(topics))
	for i, p := range topics {
		if p.unbound() {
			text, err := aclPlaceholders.Expand(p.text, v.value)
			switch {
			case err != nil:
				return nil, err
			case text[0] == '$' && strings.HasPrefix(p.text, "${"):
				return nil, errDollarValue
			}
			if err := checkPattern(text); err != nil {
				return nil, fmt.Errorf("with its values: %w", err)
			}
			p.text = text
		}
		out[i] = p
	}
	return out, nil
}

// BoundACL is an [ACL] for one session. It is immutable and may be used from any goroutine. The
// zero value allows nothing.
type BoundACL struct {
	acl     *ACL     // without the values
	rules   []rule   // used if there are few topics
	index   *index   // used if there are many
	values  []string // the values of the templates of the index
	dollars []string // the first levels of the rules' topics that begin with $
	rest    NoMatch
}

// dollarLevels returns the first levels that begin with $ in the topics of rules.
func dollarLevels(rules []rule) (levels []string) {
	for i := range rules {
		for _, p := range rules[i].topics {
			if level := firstLevel(p.text); strings.HasPrefix(level, "$") && !slices.Contains(levels, level) {
				levels = append(levels, level)
			}
		}
	}
	return levels
}

// opaque reports whether only a broker knows the meaning of topic: it begins with $, and no
// rule has a topic that begins with the same level. Without rules the broker decides about
// everything.
func opaque[T string | []byte](b *BoundACL, topic T) bool {
	if len(topic) == 0 || topic[0] != '$' || len(b.rules) == 0 && b.index == nil {
		return false
	}
	level := firstLevel(topic)
	for _, known := range b.dollars {
		if string(level) == known {
			return false
		}
	}
	return true
}

// Publish reports whether a message may be published to topic, which is the topic name of a
// PUBLISH. It refuses what is not a topic name, but does not check again that it is UTF-8. It
// also refuses a topic that begins with $ unless a rule's topic begins with the same level. It
// does not allocate.
func (b *BoundACL) Publish(topic []byte, qos byte, retain bool) bool {
	if !topicName(topic) || qos > 2 || opaque(b, topic) {
		return false
	}
	q := publishing(qos, retain)
	if b.index != nil {
		deny, found := fits(b.index, b.values, q, topic)
		return !deny && (found || b.rest == DeferRest)
	}
	for i := range b.rules {
		r := &b.rules[i]
		if !r.about(q) {
			continue
		}
		for _, p := range r.topics {
			if p.selects(topic) {
				return !r.deny
			}
		}
	}
	return b.rest == DeferRest
}

// Subscribe reports whether filter may be subscribed to with the given QoS. It refuses what is
// not a topic filter. An allowing rule must contain filter. A denying rule need only overlap
// it: if a part of what filter selects is denied, all of it is. $share/group/ in front of
// filter is ignored; any other filter that begins with $ is refused unless a rule's topic
// begins with the same level.
func (b *BoundACL) Subscribe(filter string, qos byte) bool {
	if !ValidFilter(filter) || qos > 2 {
		return false
	}
	if filter = unshared(filter); opaque(b, filter) {
		return false
	}
	q := subscribing(qos)
	if b.index != nil {
		deny, found := fits(b.index, b.values, q, filter)
		return !deny && (found || b.rest == DeferRest)
	}
	for i := range b.rules {
		r := &b.rules[i]
		if !r.about(q) {
			continue
		}
		for _, p := range r.topics {
			if r.deny && p.overlaps(filter) || !r.deny && p.contains(filter) {
				return !r.deny
			}
		}
	}
	return b.rest == DeferRest
}

func (p *pattern) selects(topic []byte) bool {
	if p.literal {
		return string(topic) == p.text
	}
	return Match(p.text, topic)
}

func (p *pattern) contains(filter string) bool {
	if p.literal {
		return filter == p.text
	}
	return Contains(p.text, filter)
}

// overlaps treats a literal filter with wildcards as that one subscription: a denial of "eq #"
// does not match a/b. A literal without wildcards is a topic like any other.
func (p *pattern) overlaps(filter string) bool {
	if p.literal && strings.ContainsAny(p.text, wildcards) {
		return filter == p.text
	}
	return Overlaps(p.text, filter)
}

func topicName(b []byte) bool {
	for _, c := range b {
		if c == '+' || c == '#' || c == 0 {
			return false
		}
	}
	return len(b) > 0 && len(b) <= maxTopic
}
