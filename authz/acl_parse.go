package authz

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"strconv"

	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/authz/internal/strictjson"
)

// ACLOptions are the options of [ParseACL].
type ACLOptions struct {
	// Rest says what happens if no rule matches. It is not used for a map of allowed topics,
	// which denies everything else.
	Rest NoMatch
	// Ignore lists keys of rules that are skipped together with their values. Any other unknown
	// key is an error, because ignoring a condition would widen a right.
	Ignore []string
}

// ParseACL reads an ACL from JSON in one of the two forms that EMQX knows. The first is an
// ordered array of rules; an empty array allows nothing:
//
//	[{"permission": "allow", "action": "publish", "topics": ["v1/${client_id}/#"], "qos": [0, 1], "retain": false}]
//
// The action is publish, subscribe or all; "topic" with a single string may be used instead of
// "topics"; "qos" may be a single number; "retain" may also be 0, 1 or "all". The second form
// is a map of what is allowed. Everything else is denied:
//
//	{"pub": ["a/b"], "sub": ["a/#"], "all": ["c"]}
//
// The error names the rule, counted from 1, and the key that is wrong. Keys are case-sensitive,
// and an object must not have two keys that are equal or differ only in case. Null is an error;
// callers must omit the ACL instead. The caller must limit the size of raw.
func ParseACL(raw []byte, o ACLOptions) (*ACL, error) {
	var (
		acl *ACL
		err error
	)
	switch raw = bytes.TrimLeft(raw, " \t\r\n"); {
	case bytes.HasPrefix(raw, []byte("[")):
		acl, err = parseRules(raw, o)
	case bytes.HasPrefix(raw, []byte("{")):
		acl, err = parseAllowed(raw)
	default:
		err = errors.New("neither a list of rules nor a map of allowed topics")
	}
	if err != nil {
		return nil, fmt.Errorf("acl: %w", err)
	}
	return acl, nil
}

func parseRules(raw []byte, o ACLOptions) (*ACL, error) {
	var rules []Rule
	err := strictjson.EachElement(raw, func(element []byte) error {
		var r Rule
		if err := parseRule(element, &r, o.Ignore); err != nil {
			return fmt.Errorf("rule %d: %w", len(rules)+1, err)
		}
		rules = append(rules, r)
		return nil
	})
	if err != nil {
		return nil, err
	}
	return NewACL(o.Rest, rules...)
}

func parseRule(raw []byte, r *Rule, ignore []string) error {
	seen := map[string]bool{}
	err := strictjson.EachMember(raw, func(name, value []byte) error {
		key := string(name)
		if slices.Contains(ignore, key) {
			return nil
		}
		if err := r.set(key, value); err != nil {
			return fmt.Errorf("%s: %w", key, err)
		}
		if key == "topic" {
			key = "topics"
		}
		if seen[key] {
			return errors.New("topics: given twice, as topic and as topics")
		}
		seen[key] = true
		return nil
	})
	if err != nil {
		return err
	}
	for _, key := range []string{"permission", "action", "topics"} {
		if !seen[key] {
			return fmt.Errorf("%s is missing", key)
		}
	}
	return nil
}

// set sets the field of the rule that key names.
func (r *Rule) set(key string, raw []byte) (err error) {
	switch key {
	case "permission":
		r.Deny, err = choose(raw, map[string]bool{`"allow"`: false, `"deny"`: true})
	case "action":
		var actions uint8
		actions, err = choose(raw, map[string]uint8{
			`"publish"`: publish, `"pub"`: publish, `"subscribe"`: subscribe, `"sub"`: subscribe, `"all"`: publish | subscribe,
		})
		r.Publish, r.Subscribe = actions&publish != 0, actions&subscribe != 0
	case "topic":
		var topic string
		topic, err = parseText(raw)
		r.Topics = []string{topic}
	case "topics":
		r.Topics, err = parseList(raw, parseText)
	case "qos":
		err = r.setQoS(raw)
	case "retain":
		yes, no := true, false
		r.Retain, err = choose(raw, map[string]*bool{"true": &yes, "1": &yes, "false": &no, "0": &no, `"all"`: nil})
	default:
		return errors.New("unknown key")
	}
	return err
}

func (r *Rule) setQoS(raw []byte) (err error) {
	if raw[0] != '[' {
		qos, err := parseInt(raw)
		r.QoS = []int{qos}
		return err
	}
	r.QoS, err = parseList(raw, parseInt)
	if err == nil && len(r.QoS) == 0 {
		return errors.New("an empty list")
	}
	return err
}

// parseAllowed reads the map of allowed topics. The order of its rules does not matter, because
// all of them allow.
func parseAllowed(raw []byte) (*ACL, error) {
	pub, sub, all := Rule{Publish: true}, Rule{Subscribe: true}, Rule{Publish: true, Subscribe: true}
	parts := map[string]*Rule{"pub": &pub, "sub": &sub, "all": &all}
	err := strictjson.EachMember(raw, func(key, value []byte) (err error) {
		r := parts[string(key)]
		if r == nil {
			return fmt.Errorf("%s: unknown key", key)
		}
		if r.Topics, err = parseList(value, parseText); err != nil {
			return fmt.Errorf("%s: %w", key, err)
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	rules := slices.DeleteFunc([]Rule{pub, sub, all}, func(r Rule) bool { return len(r.Topics) == 0 })
	return NewACL(DenyRest, rules...)
}

// choose returns the value that the JSON value raw stands for.
func choose[T any](raw []byte, choices map[string]T) (T, error) {
	if text, err := strictjson.Text(raw); err == nil {
		raw = fmt.Appendf(nil, "%q", text)
	}
	value, ok := choices[string(raw)]
	if !ok {
		return value, errors.New("not one of the known values")
	}
	return value, nil
}

func parseText(raw []byte) (string, error) {
	text, err := strictjson.Text(raw)
	return string(text), err
}

func parseInt(raw []byte) (int, error) {
	n, err := strconv.Atoi(string(raw))
	if err != nil {
		return 0, errors.New("not a whole number")
	}
	return n, nil
}

func parseList[T any](raw []byte, parse func(raw []byte) (T, error)) ([]T, error) {
	list := []T{}
	if raw[0] != '[' {
		return nil, errors.New("not a list")
	}
	err := strictjson.EachElement(raw, func(element []byte) error {
		value, err := parse(element)
		if err != nil {
			return fmt.Errorf("element %d: %w", len(list)+1, err)
		}
		list = append(list, value)
		return nil
	})
	return list, err
}
