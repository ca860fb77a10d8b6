package inspect

import (
	"fmt"

	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/authz"
	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/authz/topicmap"
	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/packets"
)

// byRules is the reason given if the topic rules do not allow a topic. The topic map has
// reasons of its own.
const byRules = "the topic rules do not allow it"

// topics applies the topic rules to the topics of the device and maps them to those of the
// broker. Each field may be nil.
type topics struct {
	acl *authz.BoundACL
	m   *topicmap.Bound
}

// none reports whether topics pass as they are.
func (t topics) none() bool { return t.acl == nil && t.m == nil }

// publish returns the broker's name of a topic that the client publishes to, or the reason
// why the client may not. The name is topic itself or is in buf.
func (t topics) publish(buf, topic []byte, qos byte, retain bool) (name []byte, denied string) {
	if t.acl != nil && !t.acl.Publish(topic, qos, retain) {
		return nil, byRules
	}
	return t.up(buf, topic)
}

// up returns the broker's name of a topic of the device, or the reason why the map refuses it.
func (t topics) up(buf, topic []byte) (name []byte, denied string) {
	if t.m == nil {
		return topic, ""
	}
	name, v := t.m.Up(buf[:0], topic)
	return name, refusal(v)
}

// refusal returns the reason in v, or "" if v does not refuse the topic.
func refusal(v topicmap.Verdict) string {
	if v.Outcome != topicmap.Refused {
		return ""
	}
	return "the topic map refuses it: " + v.Reason.String()
}

// respond returns the broker's name of a response topic, or the reason why the client may
// not use it. The client must be allowed to subscribe to it.
func (t topics) respond(topic string) (name, denied string) {
	if t.acl != nil && !t.acl.Subscribe(topic, 0) {
		return "", "response topic: " + byRules
	}
	mapped, denied := t.up(nil, []byte(topic))
	if denied != "" {
		return "", "response topic: " + denied
	}
	return string(mapped), ""
}

// withResponse returns p with the response topic, if there is one, replaced by the broker's
// name, or the reason why the client may not use it.
func (t topics) withResponse(p packets.Properties) (packets.Properties, string) {
	topic, ok := p.ResponseTopic()
	if !ok {
		return p, ""
	}
	name, denied := t.respond(topic)
	if denied != "" || name == topic {
		return p, denied
	}
	return p.With(packets.ResponseTopic, name), ""
}

// subscribe appends the broker's form of a filter to buf, or returns the reason why the
// client may not subscribe to it.
func (t topics) subscribe(buf []byte, filter string, qos byte) ([]byte, string) {
	if t.acl != nil && !t.acl.Subscribe(filter, qos) {
		return buf, byRules
	}
	return t.filter(buf, filter)
}

// filter appends the broker's form of a filter to buf, or returns the reason why the map
// refuses it.
func (t topics) filter(buf []byte, filter string) ([]byte, string) {
	if t.m == nil {
		return append(buf, filter...), ""
	}
	buf, v := t.m.Filter(buf, filter)
	return buf, refusal(v)
}

// Will returns the will of a client with its topics mapped, as the broker gets it. The error
// is the reason why the client may not have that will. Each of acl and m may be nil.
func Will(acl *authz.BoundACL, m *topicmap.Bound, w packets.Will) (packets.Will, error) {
	t := topics{acl, m}
	name, denied := t.publish(nil, []byte(w.Topic), w.QoS, w.Retain)
	if denied == "" {
		w.Topic = string(name)
		w.Properties, denied = t.withResponse(w.Properties)
	}
	if denied != "" {
		return packets.Will{}, fmt.Errorf("will: %s", denied)
	}
	return w, nil
}
