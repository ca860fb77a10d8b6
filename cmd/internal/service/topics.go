package service

import (
	"errors"
	"fmt"
	"slices"

	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/authz"
	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/authz/topicmap"
	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/cmd/internal/config"
)

// parseTopics makes the topic map and the topic rules of the config.
func (p *Plan) parseTopics(c *config.Config, report func(key string, err error)) {
	const own = "has no effect with the bundled broker, which knows its devices by their connection; remove it, or set upstream.servers"
	t, bundled := c.Topics, c.Upstream.Bundled()
	switch {
	case bundled && len(t.Map) > 0:
		report("topics.map", errors.New(own))
	case bundled && t.Preset != "":
		report("topics.preset", errors.New(own))
	case bundled && t.Forbidden != "":
		report("topics.forbidden", errors.New(own))
	case len(t.Map) > 0 || t.Preset != "" || t.Forbidden != "": // a map without rules forbids, too
		p.topics = compileMap(c, report)
	}
	if t.ACL != nil {
		var err error
		p.acl, err = newACL(c)
		report("topics.acl", err)
	}
}

// compileMap returns the map, or reports what is wrong with its rules.
func compileMap(c *config.Config, report func(key string, err error)) *topicmap.Map {
	t := c.Topics
	o := topicmap.Options{RefuseUnmapped: t.Unmapped == "refuse", Forbidden: t.Forbidden}
	for _, r := range t.Map {
		o.Rules = append(o.Rules, topicmap.Rule{Device: r.Device, Broker: r.Broker})
	}
	preset, refused, _ := topicmap.Preset(t.Preset)
	o.Rules, o.Refused = append(o.Rules, preset...), refused
	if bus := busTopic(c); bus != "" && len(o.Rules) > 0 {
		o.Refused = append(slices.Clip(o.Refused), bus)
	}
	m, err := topicmap.Compile(o)
	for _, err := range joined(err) {
		key := "topics.map"
		if fault, ok := errors.AsType[*topicmap.RuleError](err); ok {
			key = ruleKey(fault.Rule, len(t.Map))
			if fault.Other >= 0 {
				err = fmt.Errorf("conflicts with %s: %w", ruleKey(fault.Other, len(t.Map)), err)
			}
		}
		report(key, err)
	}
	return m
}

// ruleKey returns the key of the rule at an index: the rules of the preset follow those of the
// map.
func ruleKey(i, own int) string {
	if i >= own {
		return "topics.preset"
	}
	return fmt.Sprintf("topics.map[%d]", i)
}

// joined returns the errors that errors.Join has joined.
func joined(err error) []error {
	if all, ok := err.(interface{ Unwrap() []error }); ok {
		return all.Unwrap()
	}
	if err == nil {
		return nil
	}
	return []error{err}
}

// newACL makes the topic rules of the config. They do not let a device publish to the bus.
func newACL(c *config.Config) (*authz.ACL, error) {
	t := c.Topics
	rest := authz.DenyRest
	if t.ACLNoMatch == "defer" {
		rest = authz.DeferRest
	}
	var rules []authz.Rule
	for _, r := range t.ACL {
		rule := authz.Rule{
			Deny:    r.Permission == "deny",
			Publish: r.Action != "subscribe", Subscribe: r.Action != "publish",
			Topics: r.Topics, QoS: r.QoS,
		}
		if r.Retain != "" {
			retain := r.Retain == "true"
			rule.Retain = &retain
		}
		rules = append(rules, rule)
	}
	acl, err := authz.NewACL(rest, rules...)
	bus := busTopic(c)
	if err != nil || bus == "" {
		return acl, err
	}
	closed := authz.Rule{Deny: true, Publish: true, Topics: []string{bus}}
	return authz.NewACL(rest, append([]authz.Rule{closed}, rules...)...)
}

// topicWarnings returns the rules of the map whose broker side is the same for all devices, and
// those that never decide.
func topicWarnings(c *config.Config) (all []config.Fault) {
	m, own := compileMap(c, func(string, error) {}), len(c.Topics.Map)
	if m == nil {
		return nil
	}
	for _, i := range m.Shared() {
		if i < own {
			all = append(all, c.Fault(ruleKey(i, own), "has no ${subject} on the broker's side, so that devices share these topics; what one sends there, others may read"))
		}
	}
	for _, r := range m.Idle() {
		if r.Rule < own {
			all = append(all, c.Fault(ruleKey(r.Rule, own), fmt.Sprintf("never decides, because %s comes first and covers its device side; remove it, or move it up", ruleKey(r.By, own))))
		}
	}
	return all
}
