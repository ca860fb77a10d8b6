package inspect

import (
	"fmt"

	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/authz"
	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/authz/topicmap"
	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/packets"
)

// byRules is the reason for what the topic rules do not allow. The map has reasons of its
// own.
const byRules = "the topic rules do not allow it"

// topics decides about topics. The rules see those that the device uses, the map makes of
// them those that the broker uses. Each may be nil.
type topics struct {
	acl *authz.BoundACL
	m   *topicmap.Bound
}

// publish returns the broker's name of a topic that the client publishes to, which is
// topic itself or in buf, or why the client may not.
func (t topics) publish(buf, topic []byte, qos byte, retain bool) (name []byte, denied string) {
	if t.acl != nil && !t.acl.Publish(topic, qos, retain) {
		return nil, byRules
	}
	return t.up(buf, topic)
}

func (t topics) up(buf, topic []byte) (name []byte, denied string) {
	if t.m == nil {
		return topic, ""
	}
	name, v := t.m.Up(buf[:0], topic)
	return name, refusal(v)
}

func refusal(v topicmap.Verdict) string {
	if v.Outcome != topicmap.Refused {
		return ""
	}
	return "the topic map refuses it: " + v.Reason.String()
}

// respond returns the broker's name of a topic that the client wants to be answered on. It
// has to be one that the client may subscribe to.
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

// withResponse returns properties in which the response topic, if there is one, is the
// broker's, or why the client may not have it.
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

// subscribe appends the broker's form of a filter to buf, or returns why the client may
// not have it.
func (t topics) subscribe(buf []byte, filter string, qos byte) ([]byte, string) {
	if t.acl != nil && !t.acl.Subscribe(filter, qos) {
		return buf, byRules
	}
	return t.filter(buf, filter)
}

func (t topics) filter(buf []byte, filter string) ([]byte, string) {
	if t.m == nil {
		return append(buf, filter...), ""
	}
	buf, v := t.m.Filter(buf, filter)
	return buf, refusal(v)
}

// Will returns the will of a client as the broker gets it, with its topics mapped. The
// error says why the client may not leave it. Each of acl and m may be nil.
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
