package authz

import "errors"

// Role says what the sessions of a [Grant] are for.
type Role string

// The roles.
const (
	// RoleDevice is the role of a grant that names none.
	RoleDevice Role = ""
	// RoleReader is that of a program that reads what devices send. It publishes nothing, has no
	// will, and may subscribe to every topic that its own rules allow, or to every topic if it has
	// none. The configured topic rules and the topic map are for devices and do not apply to it.
	RoleReader Role = "reader"
)

// ParseRole returns the role with a name, which is "device" or "reader".
func ParseRole(name string) (Role, error) {
	switch name {
	case "device":
		return RoleDevice, nil
	case string(RoleReader):
		return RoleReader, nil
	}
	return "", errors.New("not a role: want device or reader")
}

// UnmarshalText is [ParseRole].
func (r *Role) UnmarshalText(text []byte) (err error) {
	*r, err = ParseRole(string(text))
	return err
}

// MarshalText returns the name of the role.
func (r Role) MarshalText() ([]byte, error) { return []byte(r.String()), nil }

// String returns the name of the role.
func (r Role) String() string {
	if r == RoleDevice {
		return "device"
	}
	return string(r)
}

// SubscribeOnly returns rules that allow the subscriptions that a allows, and no message. For nil,
// and where a leaves the decision to the broker, they allow every subscription except those to
// topics that begin with $.
func (a *ACL) SubscribeOnly() *ACL {
	only := &ACL{}
	add := func(r rule) {
		only.rules = append(only.rules, r)
		only.unbound = only.unbound || r.unbound()
		only.topics += len(r.topics)
	}
	if a != nil {
		for _, r := range a.rules {
			if r.actions &= subscribe; r.actions != 0 {
				r.retain = everyRetain // which is about messages
				add(r)
			}
		}
	}
	if a == nil || a.rest == DeferRest {
		add(rule{actions: subscribe, qos: everyQoS, retain: everyRetain, topics: []pattern{{text: "#"}}})
	}
	return only
}
