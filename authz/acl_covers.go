package authz

import "slices"

// maxCompared is how many topics of rules [BoundACL.Covers] compares at most.
const maxCompared = 1000

// Covers reports whether b allows everything that old allows. It compares the rules one by one
// and does not find every such case: where it cannot tell, it reports false. Nil stands for no
// rules, which allow everything.
func (b *BoundACL) Covers(old *BoundACL) bool {
	switch {
	case b == nil || b == old:
		return true
	case old == nil:
		return false
	case b.index != nil || old.index != nil:
		return b.coversIndexed(old)
	}
	return covers(b.rest, b.rules, b.dollars, old.rest, old.rules, old.dollars)
}

// coversIndexed is Covers if one of both has many rules. What their placeholders stand for is
// known in the order of the rules only.
func (b *BoundACL) coversIndexed(old *BoundACL) bool {
	switch {
	case b.acl == nil || old.acl == nil:
		return false
	case b.acl.Equal(old.acl):
		return slices.Equal(b.values, old.values)
	case b.acl.unbound || old.acl.unbound:
		return false
	}
	return covers(b.rest, b.acl.rules, b.dollars, old.rest, old.acl.rules, old.dollars)
}

// covers reports whether the rules, then rest, come from the old ones by adding allowing rules
// and taking out denying ones. Neither can refuse what was allowed before. For topics that
// begin with $, the first levels that rules are about count as well; see opaque.
func covers(rest NoMatch, rules []rule, dollars []string, oldRest NoMatch, oldRules []rule, oldDollars []string) bool {
	if rest == DenyRest && oldRest == DeferRest {
		return false
	}
	if len(oldRules) == 0 && oldRest == DeferRest {
		return len(rules) == 0
	}
	unknown := func(level string) bool { return !slices.Contains(dollars, level) }
	if len(rules) > 0 && slices.ContainsFunc(oldDollars, unknown) {
		return false
	}
	return extends(flatten(rules), flatten(oldRules))
}

// extends reports whether rules come from old by adding allowing rules and taking out denying
// ones. Each rule has one topic.
func extends(rules, old []rule) bool {
	if len(rules) > maxCompared || len(old) > maxCompared {
		return false
	}
	for len(rules) > 0 || len(old) > 0 {
		switch {
		case len(rules) > 0 && len(old) > 0 && rules[0].equal(old[0]):
			rules, old = rules[1:], old[1:]
		case len(old) > 0 && old[0].deny && !slices.ContainsFunc(rules, old[0].equal):
			old = old[1:]
		case len(rules) > 0 && !rules[0].deny:
			rules = rules[1:]
		case len(old) > 0 && old[0].deny:
			old = old[1:]
		default:
			return false
		}
	}
	return true
}

// flatten returns the rules with a rule for each topic, which mean the same.
func flatten(rules []rule) (flat []rule) {
	for _, r := range rules {
		for i := range r.topics {
			one := r
			one.topics = r.topics[i : i+1]
			flat = append(flat, one)
		}
	}
	return flat
}
