package inspect_test

import (
	"slices"
	"strings"
	"testing"
	"unicode/utf8"

	mochi "github.com/mochi-mqtt/server/v2/packets"

	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/authz/topicmap"
)

// mapModel says what a topic map does to the device pump, by a plain reading of its manual.
type mapModel struct {
	topicmap.Options
}

// The maps that the filter is tried with: ThingsBoard's preset, one for all topics, and one
// that refuses what it does not have and whose broker sides begin with the device.
func mapModels() []mapModel {
	rules, refused, _ := topicmap.Preset("thingsboard")
	return []mapModel{
		{topicmap.Options{Rules: append(rules, topicmap.Rule{Device: "cmd", Broker: "devices/${subject}/cmd"}), Refused: refused}},
		{topicmap.Options{Rules: []topicmap.Rule{{Device: "a/b", Broker: "x/${subject}"}, {Device: "#", Broker: "dev/${subject}/#"}}}},
		{topicmap.Options{Rules: []topicmap.Rule{{Device: "a/b/#", Broker: "${subject}/up/#"}, {Device: "a/#", Broker: "${subject}/down/#"}}, RefuseUnmapped: true, Forbidden: ".*"}},
	}
}

func (m mapModel) bind(t testing.TB) *topicmap.Bound {
	t.Helper()
	compiled, err := topicmap.Compile(m.Options)
	if err != nil {
		t.Fatal(err)
	}
	b, err := compiled.Bind("pump", nil)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func broker(r topicmap.Rule, subject string) string {
	return strings.ReplaceAll(r.Broker, "${subject}", subject)
}

// closed reports whether a topic of the broker is in the part of any device, and own whether it
// is in that of the pump.
func (m mapModel) closed(topic string) bool { return m.brokerSide(topic, "+") }
func (m mapModel) own(topic string) bool    { return m.brokerSide(topic, "pump") }

func (m mapModel) brokerSide(topic, subject string) bool {
	return slices.ContainsFunc(m.Rules, func(r topicmap.Rule) bool { return selects(broker(r, subject), topic) })
}

func (m mapModel) forbidden(text string) bool {
	return m.Forbidden != "" && strings.ContainsAny(text, m.Forbidden)
}

// reserved reports whether a topic or filter is refused before any rule.
func (m mapModel) reserved(text string) bool {
	return text == "" || text[0] == '$' || m.forbidden(text) ||
		slices.ContainsFunc(m.Refused, func(filter string) bool { return overlap(filter, text) })
}

// rename replaces what text has of one side of a rule by the other.
func rename(from, to, text string) string {
	if from == "#" {
		return strings.TrimSuffix(to, "#") + text
	}
	if to == "#" {
		return strings.TrimPrefix(text, strings.TrimSuffix(from, "#"))
	}
	return strings.TrimSuffix(to, "/#") + strings.TrimPrefix(text, strings.TrimSuffix(from, "/#"))
}

func (m mapModel) up(topic string) (string, bool) {
	if m.reserved(topic) {
		return "", false
	}
	for _, r := range m.Rules {
		if selects(r.Device, topic) {
			mapped := rename(r.Device, broker(r, "pump"), topic)
			return mapped, len(mapped) < 1<<16
		}
	}
	return topic, !m.closed(topic) && !m.RefuseUnmapped
}

func (m mapModel) down(topic string) (string, bool) {
	for i, r := range m.Rules {
		if !selects(broker(r, "pump"), topic) {
			continue
		}
		name := rename(broker(r, "pump"), r.Device, topic)
		if r.Device == "#" && topic == strings.TrimSuffix(broker(r, "pump"), "/#") || name == "" || !selects(r.Device, name) {
			return "", false
		}
		earlier := slices.ContainsFunc(m.Rules[:i], func(r topicmap.Rule) bool { return selects(r.Device, name) })
		return name, !earlier && len(name) < 1<<16
	}
	device := slices.ContainsFunc(m.Rules, func(r topicmap.Rule) bool { return selects(r.Device, topic) })
	return topic, !m.closed(topic) && !device && !m.RefuseUnmapped
}

func (m mapModel) filter(filter string) (string, bool) {
	group, inner := "", filter
	if name, ok := strings.CutPrefix(filter, "$share/"); ok {
		name, rest, _ := strings.Cut(name, "/")
		if name == "" || rest == "" || strings.ContainsAny(name, "+#") || m.forbidden(name) {
			return "", false
		}
		group, inner = "$share/"+name+"/", rest
	}
	if m.reserved(inner) || !validFilter(inner) {
		return "", false
	}
	for _, r := range m.Rules {
		if !overlap(r.Device, inner) {
			continue
		}
		root := strings.TrimSuffix(strings.TrimSuffix(r.Device, "#"), "/")
		covered := r.Device == "#" || inner == root || strings.HasSuffix(r.Device, "#") && strings.HasPrefix(inner, root+"/")
		mapped := group + rename(r.Device, broker(r, "pump"), inner)
		return mapped, covered && len(mapped) < 1<<16
	}
	closed := slices.ContainsFunc(m.Rules, func(r topicmap.Rule) bool { return overlap(broker(r, "+"), inner) })
	return filter, !closed && !m.RefuseUnmapped
}

func validFilter(filter string) bool {
	levels := strings.Split(filter, "/")
	for i, level := range levels {
		if strings.ContainsAny(level, "+#") && len(level) > 1 || level == "#" && i < len(levels)-1 {
			return false
		}
	}
	return utf8.ValidString(filter) && !strings.ContainsRune(filter, 0)
}

// selects matches level by level.
func selects(filter, topic string) bool {
	if strings.HasPrefix(topic, "$") && strings.ContainsAny(filter[:1], "+#") {
		return false
	}
	f, t := strings.Split(filter, "/"), strings.Split(topic, "/")
	for i, level := range f {
		if level == "#" {
			return true
		}
		if i == len(t) || level != "+" && level != t[i] {
			return false
		}
	}
	return len(f) == len(t)
}

// overlap reports whether two filters select a common topic, level by level. The empty topic,
// which /# would select, does not exist.
func overlap(a, b string) bool {
	if a == "/#" && b == "+" || a == "+" && b == "/#" {
		return false
	}
	if strings.HasPrefix(b, "$") && strings.ContainsAny(a[:1], "+#") || strings.HasPrefix(a, "$") && strings.ContainsAny(b[:1], "+#") {
		return false
	}
	return overlapLevels(strings.Split(a, "/"), strings.Split(b, "/"))
}

func overlapLevels(a, b []string) bool {
	switch {
	case len(a) > 0 && a[0] == "#" || len(b) > 0 && b[0] == "#":
		return true
	case len(a) == 0 || len(b) == 0:
		return len(a) == len(b)
	case a[0] != "+" && b[0] != "+" && a[0] != b[0]:
		return false
	}
	return overlapLevels(a[1:], b[1:])
}

// deviceModel says what becomes of the packets of one direction.
type deviceModel struct {
	mapModel
	level   byte
	down    bool
	dropped map[uint16]bool // messages of QoS 2 whose PUBREL has not come
}

// pass returns what is passed on of the packets, and the answers to those that are not, each
// without the parts that a broker would choose.
func (m *deviceModel) pass(in []message) (out, back []message) {
	m.dropped = map[uint16]bool{}
	for _, p := range in {
		passed, answer := m.one(p)
		if passed != nil {
			out = append(out, *passed)
		}
		if answer != nil {
			back = append(back, *answer)
		}
	}
	return out, back
}

func (m *deviceModel) one(p message) (passed, answer *message) {
	switch p.kind {
	case mochi.Publish:
		return m.publish(p)
	case mochi.Pubrel:
		if m.dropped[p.id] {
			delete(m.dropped, p.id)
			return nil, &message{kind: mochi.Pubcomp, id: p.id}
		}
	case mochi.Subscribe, mochi.Unsubscribe:
		if !m.down {
			return m.request(p)
		}
	}
	return &p, nil
}

func (m *deviceModel) publish(p message) (passed, answer *message) {
	convert := m.up
	if m.down {
		convert = m.mapModel.down
	}
	var ok, responseOK bool
	p.topic, ok = convert(p.topic)
	if p.response != "" {
		if p.response, responseOK = convert(p.response); !responseOK {
			p.response = ""
			ok = ok && m.down
		}
	}
	switch {
	case ok:
		if p.qos == 2 {
			delete(m.dropped, p.id)
		}
		return &p, nil
	case p.qos == 1:
		return nil, &message{kind: mochi.Puback, id: p.id}
	case p.qos == 2:
		if m.down || m.level < 5 {
			m.dropped[p.id] = true
		}
		return nil, &message{kind: mochi.Pubrec, id: p.id}
	}
	return nil, nil
}

func (m *deviceModel) request(p message) (passed, answer *message) {
	ack := message{kind: mochi.Suback, id: p.id, codes: len(p.filters)}
	if p.kind == mochi.Unsubscribe {
		if ack.kind = mochi.Unsuback; m.level < 5 {
			ack.codes = 0
		}
	}
	var kept []subscription
	for _, f := range p.filters {
		if mapped, ok := m.filter(f.filter); ok {
			kept = append(kept, subscription{mapped, f.options})
		}
	}
	if p.filters = kept; len(kept) == 0 {
		return nil, &ack
	}
	return &p, nil
}
