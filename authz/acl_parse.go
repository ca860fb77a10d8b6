package authz

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"unicode/utf8"
)

// ACLOptions say how [ParseACL] reads.
type ACLOptions struct {
	// Rest is what happens to what no rule fits. A map of allowed topics always
	// denies it.
	Rest NoMatch
	// Ignore lists keys of rules that are passed over with their values. Any
	// other unknown key is an error: a condition that is dropped widens a right.
	Ignore []string
}

// ParseACL reads an ACL from JSON in one of the two forms that EMQX knows. The first
// is an array of rules in their order, of which an empty one allows nothing:
//
//	[{"permission": "allow", "action": "publish", "topics": ["v1/${clientid}/#"], "qos": [0, 1], "retain": false}]
//
// The action is publish, subscribe or all; "topic" with a single text may stand for
// "topics"; "qos" may be a single number; "retain" may also be 0, 1 or "all". The
// second form is a map of what is allowed, all else being denied:
//
//	{"pub": ["a/b"], "sub": ["a/#"], "all": ["c"]}
//
// The error says which rule, counted from 1, and which key is wrong. Keys are
// case-sensitive and must not repeat. Null is an error: whoever wants no ACL leaves
// it out. The size of raw is for the caller to bound.
func ParseACL(raw []byte, o ACLOptions) (*ACL, error) {
	if !utf8.Valid(raw) {
		return nil, errors.New("acl: not UTF-8")
	}
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
	var elements []json.RawMessage
	if err := json.Unmarshal(raw, &elements); err != nil {
		return nil, err
	}
	rules := make([]Rule, len(elements))
	for i, element := range elements {
		if err := parseRule(element, &rules[i], o.Ignore); err != nil {
			return nil, fmt.Errorf("rule %d: %w", i+1, err)
		}
	}
	return NewACL(o.Rest, rules...)
}

func parseRule(raw json.RawMessage, r *Rule, ignore []string) error {
	members, err := parseObject(raw)
	if err != nil {
		return err
	}
	seen := map[string]bool{}
	for _, m := range members {
		key := m.key
		if key == "topic" {
			key = "topics"
		}
		if seen[key] {
			return fmt.Errorf("%s: given twice", m.key)
		}
		seen[key] = true
		if slices.Contains(ignore, m.key) {
			continue
		}
		if err := r.set(m.key, m.value); err != nil {
			return fmt.Errorf("%s: %w", m.key, err)
		}
	}
	for _, key := range []string{"permission", "action", "topics"} {
		if !seen[key] {
			return fmt.Errorf("%s is missing", key)
		}
	}
	return nil
}

// set fills in what one key of a rule says.
func (r *Rule) set(key string, raw json.RawMessage) (err error) {
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
		topic, err = parseValue[string](raw)
		r.Topics = []string{topic}
	case "topics":
		r.Topics, err = parseList[string](raw)
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

func (r *Rule) setQoS(raw json.RawMessage) error {
	if raw[0] != '[' {
		qos, err := parseValue[int](raw)
		r.QoS = []int{qos}
		return err
	}
	qos, err := parseList[int](raw)
	if err == nil && len(qos) == 0 {
		return errors.New("an empty list")
	}
	r.QoS = qos
	return err
}

// parseAllowed reads the map. Its parts all allow, so their order says nothing.
func parseAllowed(raw []byte) (*ACL, error) {
	members, err := parseObject(raw)
	if err != nil {
		return nil, err
	}
	parts := []struct {
		key  string
		rule Rule
		seen bool
	}{
		{key: "pub", rule: Rule{Publish: true}},
		{key: "sub", rule: Rule{Subscribe: true}},
		{key: "all", rule: Rule{Publish: true, Subscribe: true}},
	}
	for _, m := range members {
		i := 0
		for i < len(parts) && parts[i].key != m.key {
			i++
		}
		switch {
		case i == len(parts):
			return nil, fmt.Errorf("%s: unknown key", m.key)
		case parts[i].seen:
			return nil, fmt.Errorf("%s: given twice", m.key)
		}
		parts[i].seen = true
		if parts[i].rule.Topics, err = parseList[string](m.value); err != nil {
			return nil, fmt.Errorf("%s: %w", m.key, err)
		}
	}
	var rules []Rule
	for _, p := range parts {
		if len(p.rule.Topics) > 0 {
			rules = append(rules, p.rule)
		}
	}
	return NewACL(DenyRest, rules...)
}

// member is one member of a JSON object, which encoding/json would match without
// regard to case, and of which it would keep the last of several.
type member struct {
	key   string
	value json.RawMessage
}

func parseObject(raw []byte) (members []member, err error) {
	if !json.Valid(raw) || raw[0] != '{' {
		return nil, errors.New("not a JSON object")
	}
	decoder := json.NewDecoder(bytes.NewReader(raw))
	if _, err := decoder.Token(); err != nil {
		return nil, err
	}
	for decoder.More() {
		key, err := decoder.Token()
		if err != nil {
			return nil, err
		}
		m := member{key: fmt.Sprint(key)}
		if err := decoder.Decode(&m.value); err != nil {
			return nil, err
		}
		members = append(members, m)
	}
	return members, nil
}

// choose returns what raw stands for among the texts given.
func choose[T any](raw json.RawMessage, choices map[string]T) (T, error) {
	value, ok := choices[string(raw)]
	if !ok {
		return value, errors.New("not one of the values that are known")
	}
	return value, nil
}

// parseValue reads one text or number, which null is not.
func parseValue[T string | int](raw json.RawMessage) (value T, err error) {
	if err = json.Unmarshal(raw, &value); err != nil || string(raw) == "null" {
		return value, fmt.Errorf("not a %T", value)
	}
	return value, nil
}

func parseList[T string | int](raw json.RawMessage) ([]T, error) {
	var elements []json.RawMessage
	if err := json.Unmarshal(raw, &elements); err != nil || elements == nil {
		return nil, errors.New("not a list")
	}
	list := make([]T, len(elements))
	for i, element := range elements {
		var err error
		if list[i], err = parseValue[T](element); err != nil {
			return nil, fmt.Errorf("element %d: %w", i+1, err)
		}
	}
	return list, nil
}
