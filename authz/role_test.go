package authz

import "testing"

// TestSubscribeOnlyAllowsNoMessage, whatever the rules say, and the same subscriptions.
func TestSubscribeOnlyAllowsNoMessage(t *testing.T) {
	not := false
	for name, tt := range map[string]struct {
		acl                       func() (*ACL, error)
		subscriptions, notAllowed []string
	}{
		"no rules": {
			func() (*ACL, error) { return nil, nil },
			[]string{"#", "+/+/+/telemetry", "v1/devices/+/telemetry", "$share/g/v1/devices/#"}, []string{"$SYS/#", "$SYS/a", "a#"},
		},
		"allow all": {
			func() (*ACL, error) {
				return NewACL(DenyRest, Rule{Publish: true, Subscribe: true, Topics: []string{"v1/devices/pump-1/#"}, Retain: &not})
			},
			[]string{"v1/devices/pump-1/#", "v1/devices/pump-1/telemetry"}, []string{"#", "v1/devices/+/telemetry", "v1/devices/pump-2/telemetry"},
		},
		"rules for messages alone": {
			func() (*ACL, error) { return NewACL(DenyRest, Rule{Publish: true, Topics: []string{"#"}}) },
			nil, []string{"#", "a"},
		},
		"deny, then the broker decides": {
			func() (*ACL, error) {
				return NewACL(DeferRest, Rule{Deny: true, Publish: true, Subscribe: true, Topics: []string{"v1/devices/${subject}/#"}})
			},
			[]string{"a/#", "v1/devices/pump-1/telemetry"}, []string{"#", "v1/devices/x/telemetry", "v1/devices/+/telemetry"},
		},
		"none": {func() (*ACL, error) { return NewACL(DenyRest) }, nil, []string{"#", "a"}},
	} {
		acl, err := tt.acl()
		if err != nil {
			t.Fatal(err)
		}
		b, err := acl.SubscribeOnly().Bind(ACLValues{Subject: "x"})
		if err != nil {
			t.Fatal(err)
		}
		for _, topic := range []string{"a", "v1/devices/me/telemetry", "v1/devices/pump-1/telemetry", "$SYS/a"} {
			for qos := range byte(3) {
				if b.Publish([]byte(topic), qos, false) || b.Publish([]byte(topic), qos, true) {
					t.Errorf("%s: a message to %s is allowed", name, topic)
				}
			}
		}
		for _, filter := range tt.subscriptions {
			if !b.Subscribe(filter, 1) {
				t.Errorf("%s: a subscription to %s is refused", name, filter)
			}
		}
		for _, filter := range tt.notAllowed {
			if b.Subscribe(filter, 1) {
				t.Errorf("%s: a subscription to %s is allowed", name, filter)
			}
		}
	}
}

func TestRoles(t *testing.T) {
	for _, r := range []Role{RoleDevice, RoleReader} {
		if got, err := ParseRole(r.String()); err != nil || got != r {
			t.Errorf("ParseRole(%q) = %q, %v", r.String(), got, err)
		}
	}
	for _, name := range []string{"", "Reader", "admin", "reader "} {
		if r, err := ParseRole(name); err == nil {
			t.Errorf("ParseRole(%q) = %q", name, r)
		}
	}
}
