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

// Rights are what a device may do with topics, what its topics are called at the broker, and
// its limits. They must not be changed once they are given to a session.
type Rights struct {
	// ACL are the topic rules, which decide about the topics of the device. Nil allows all.
	ACL *authz.BoundACL
	// Topics maps the device's topics to the broker's and back. Nil leaves them as they are.
	Topics *topicmap.Bound
	// Limits, if not nil, bound what the device may send. The rates among them are not applied
	// by the filters; see [Control.Limits].
	Limits *authz.Limits
}

// none reports whether topics pass as they are.
func (r *Rights) none() bool { return r.ACL == nil && r.Topics == nil }

// publish returns the broker's name of a topic that the client publishes to, or the reason
// why the client may not. The name is topic itself or is in buf.
func (r *Rights) publish(buf, topic []byte, qos byte, retain bool) (name []byte, denied string) {
	if r.ACL != nil && !r.ACL.Publish(topic, qos, retain) {
		return nil, byRules
	}
	return r.up(buf, topic)
}

// up returns the broker's name of a topic of the device, or the reason why the map refuses it.
func (r *Rights) up(buf, topic []byte) (name []byte, denied string) {
	if r.Topics == nil {
		return topic, ""
	}
	name, v := r.Topics.Up(buf[:0], topic)
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
func (r *Rights) respond(topic string) (name, denied string) {
	if r.ACL != nil && !r.ACL.Subscribe(topic, 0) {
		return "", "response topic: " + byRules
	}
	mapped, denied := r.up(nil, []byte(topic))
	if denied != "" {
		return "", "response topic: " + denied
	}
	return string(mapped), ""
}

// withResponse returns p with the response topic, if there is one, replaced by the broker's
// name, or the reason why the client may not use it.
func (r *Rights) withResponse(p packets.Properties) (packets.Properties, string) {
	topic, ok := p.ResponseTopic()
	if !ok {
		return p, ""
	}
	name, denied := r.respond(topic)
	if denied != "" || name == topic {
		return p, denied
	}
	return p.With(packets.ResponseTopic, name), ""
}

// subscribe appends the broker's form of a filter to buf, or returns the reason why the
// client may not subscribe to it.
func (r *Rights) subscribe(buf []byte, filter string, qos byte) ([]byte, string) {
	if r.ACL != nil && !r.ACL.Subscribe(filter, qos) {
		return buf, byRules
	}
	return r.filter(buf, filter)
}

// filter appends the broker's form of a filter to buf, or returns the reason why the map
// refuses it.
func (r *Rights) filter(buf []byte, filter string) ([]byte, string) {
	if r.Topics == nil {
		return append(buf, filter...), ""
	}
	buf, v := r.Topics.Filter(buf, filter)
	return buf, refusal(v)
}

// Will returns the will of a client with its topics mapped, as the broker gets it. The error
// is the reason why the client may not have that will. Each of acl and m may be nil.
func Will(acl *authz.BoundACL, m *topicmap.Bound, w packets.Will) (packets.Will, error) {
	r := Rights{ACL: acl, Topics: m}
	name, denied := r.publish(nil, []byte(w.Topic), w.QoS, w.Retain)
	if denied == "" {
		w.Topic = string(name)
		w.Properties, denied = r.withResponse(w.Properties)
	}
	if denied != "" {
		return packets.Will{}, fmt.Errorf("will: %s", denied)
	}
	return w, nil
}
