package topicmap

import (
	"strings"
	"testing"

	"pgregory.net/rapid"
)

// selects is an independent matcher, level by level, for comparison with the map.
func selects(filter, topic string) bool {
	f, t := strings.Split(filter, "/"), strings.Split(topic, "/")
	if strings.HasPrefix(topic, "$") && (f[0] == "+" || f[0] == "#") {
		return false
	}
	for i, level := range f {
		switch {
		case level == "#":
			return true
		case i == len(t) || level != "+" && level != t[i]:
			return i == len(t) && level == "#"
		}
	}
	return len(f) == len(t)
}

var (
	level    = rapid.SampledFrom([]string{"a", "b", "me", "v1", "s1", "s2", "x", "$SYS", ""})
	subjects = []string{"s1", "s2", "me", "a"}
)

func drawTopic(t *rapid.T, label string) string {
	topic := strings.Join(rapid.SliceOfN(level, 1, 5).Draw(t, label), "/")
	if topic == "" {
		return "/"
	}
	return topic
}

func drawFilter(t *rapid.T) string {
	levels := rapid.SliceOfN(rapid.SampledFrom([]string{"a", "b", "me", "v1", "s1", "s2", "+"}), 1, 4).Draw(t, "filter")
	if rapid.Bool().Draw(t, "all below") {
		levels = append(levels, "#")
	}
	filter := strings.Join(levels, "/")
	if rapid.IntRange(0, 3).Draw(t, "shared") == 0 {
		filter = "$share/g/" + filter
	}
	return filter
}

// drawMap returns a map whose every broker side has ${subject}, and its rules as filters:
// the closed side, and the part of each subject.
func drawMap(t *rapid.T) (m *Map, closed func(subject string) []string) {
	var o Options
	for range rapid.IntRange(1, 3).Draw(t, "rules") {
		device := strings.Join(rapid.SliceOfN(rapid.SampledFrom([]string{"a", "b", "me", "v1"}), 1, 3).Draw(t, "device"), "/")
		broker := rapid.SliceOfN(rapid.SampledFrom([]string{"a", "b", "v1", "x"}), 0, 2).Draw(t, "broker")
		at := rapid.IntRange(0, len(broker)).Draw(t, "at")
		broker = append(broker[:at:at], append([]string{"${subject}"}, broker[at:]...)...)
		r := Rule{device, strings.Join(broker, "/")}
		if rapid.Bool().Draw(t, "subtree") {
			r.Device, r.Broker = r.Device+"/#", r.Broker+"/#"
		}
		if rapid.IntRange(0, 5).Draw(t, "all topics") == 0 {
			r = Rule{"#", strings.TrimSuffix(r.Broker, "/#") + "/#"}
		}
		o.Rules = append(o.Rules, r)
	}
	if rapid.Bool().Draw(t, "refused") {
		o.Refused = []string{"b/#"}
	}
	o.RefuseUnmapped = rapid.Bool().Draw(t, "refuse unmapped")
	m, err := Compile(o)
	if err != nil {
		t.Skip("the rules collide")
	}
	return m, func(subject string) []string {
		var filters []string
		for i := range m.rules {
			filters = append(filters, strings.ReplaceAll(o.Rules[m.rules[i].index].Broker, "${subject}", subject))
		}
		return filters
	}
}

func anySelects(filters []string, topic string) bool {
	for _, f := range filters {
		if selects(f, topic) {
			return true
		}
	}
	return false
}

// TestDeviceReachesOnlyItsOwnTopics: a topic that a device publishes to is mapped into its own part
// or lies outside of the parts of all devices, and is mapped back to the topic that the device
// used.
func TestDeviceReachesOnlyItsOwnTopics(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		m, part := drawMap(t)
		subject := rapid.SampledFrom(subjects).Draw(t, "subject")
		b, err := m.Bind(subject, nil)
		if err != nil {
			t.Fatal(err)
		}
		topic := drawTopic(t, "topic")
		up, v := b.Up(nil, []byte(topic))
		if v.Outcome == Refused {
			return
		}
		if anySelects(part("+"), string(up)) != (v.Outcome == Mapped) || v.Outcome == Mapped && !anySelects(part(subject), string(up)) {
			t.Fatalf("%s of %s becomes %s", topic, subject, up)
		}
		down, w := b.Down(nil, up)
		if string(down) != topic || w.Outcome != v.Outcome {
			t.Fatalf("%s becomes %s and comes back as %s, %+v", topic, up, down, w)
		}
	})
}

// TestFilterSelectsOwnTopicsOnly: a filter that is allowed selects only topics in the device's
// part or outside of all parts, and all topics that the device asked for.
func TestFilterSelectsOwnTopicsOnly(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		m, part := drawMap(t)
		subject := rapid.SampledFrom(subjects).Draw(t, "subject")
		b, err := m.Bind(subject, nil)
		if err != nil {
			t.Fatal(err)
		}
		filter := drawFilter(t)
		mapped, v := b.Filter(nil, filter)
		if v.Outcome == Refused {
			return
		}
		_, asked := cutGroup(filter)
		_, mappedInner := cutGroup(string(mapped))
		for range 20 {
			topic := drawTopic(t, "topic at the broker")
			if selects(mappedInner, topic) && anySelects(part("+"), topic) && !anySelects(part(subject), topic) {
				t.Fatalf("%s of %s becomes %s, which selects %s", filter, subject, mapped, topic)
			}
			own := drawTopic(t, "topic of the device")
			up, w := b.Up(nil, []byte(own))
			if w.Outcome != Refused && selects(asked, own) != selects(mappedInner, string(up)) {
				t.Fatalf("%s becomes %s; %s becomes %s: one is selected and the other is not", filter, mapped, own, up)
			}
		}
	})
}

// TestMessagesOfOthersStayOut: a message in another device's part is never delivered.
func TestMessagesOfOthersStayOut(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		m, part := drawMap(t)
		subject := rapid.SampledFrom(subjects).Draw(t, "subject")
		b, err := m.Bind(subject, nil)
		if err != nil {
			t.Fatal(err)
		}
		topic := drawTopic(t, "topic")
		down, v := b.Down(nil, []byte(topic))
		switch {
		case v.Outcome == Refused || m.refuses(string(down)).Outcome == Refused:
			// The broker may send what the device must not, such as $SYS.
		case anySelects(part("+"), topic) && !anySelects(part(subject), topic):
			t.Fatalf("%s reaches %s as %s", topic, subject, down)
		default:
			if up, w := b.Up(nil, down); string(up) != topic || w.Outcome != v.Outcome {
				t.Fatalf("%s comes down as %s, which goes up as %s", topic, down, up)
			}
		}
	})
}

func FuzzTopics(f *testing.F) {
	rules, refused, _ := Preset("thingsboard")
	m, err := Compile(Options{Rules: append(rules, Rule{"cmd", "devices/${subject}/cmd"}), Refused: refused})
	if err != nil {
		f.Fatal(err)
	}
	part := []string{"v1/devices/s/#", "v1/gateway/s/#", "v2/s/#", "devices/s/cmd"}
	closed := []string{"v1/devices/+/#", "v1/gateway/+/#", "v2/+/#", "devices/+/cmd"}
	b, err := m.Bind("s", nil)
	if err != nil {
		f.Fatal(err)
	}
	for _, s := range []string{"v1/devices/me/x", "#", "v1/devices/other", "$share/g/v2/+", "cmd", "/provision/x", "v1/devices/me/../other"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		if s == "" || strings.ContainsRune(s, 0) {
			return
		}
		if !strings.ContainsAny(s, "+#") {
			if up, v := b.Up(nil, []byte(s)); v.Outcome != Refused && anySelects(closed, string(up)) && !anySelects(part, string(up)) {
				t.Errorf("%q becomes %q", s, up)
			}
			if down, v := b.Down(nil, []byte(s)); v.Outcome != Refused && anySelects(closed, s) && !anySelects(part, s) {
				t.Errorf("%q comes down as %q", s, down)
			}
		}
		if filter, v := b.Filter(nil, s); v.Outcome != Refused {
			for _, other := range []string{"v1/devices/o/x", "v1/devices/o", "v1/gateway/o/x", "v2/o/t", "devices/o/cmd"} {
				_, inner := cutGroup(string(filter))
				if selects(inner, other) {
					t.Errorf("%q becomes %q, which selects %q", s, filter, other)
				}
			}
		}
	})
}
