package inspect_test

import (
	"testing"

	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/authz"
	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/packets"
	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/proxy/internal/inspect"
	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/proxy/internal/relay"
)

var _ interface {
	relay.Filter
	relay.Borrower
	relay.Skipper
} = (*inspect.Filter)(nil)

// rights allow all but no/#, and q/# with QoS 0 only.
func rights(t testing.TB) *authz.BoundACL {
	t.Helper()
	acl, err := authz.NewACL(authz.DeferRest,
		authz.Rule{Deny: true, Publish: true, Subscribe: true, Topics: []string{"no/#"}},
		authz.Rule{Deny: true, Publish: true, Subscribe: true, Topics: []string{"q/#"}, QoS: []int{1, 2}})
	if err != nil {
		t.Fatal(err)
	}
	b, err := acl.Bind(authz.ACLValues{})
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func newFilters(t testing.TB, level byte) (up, down *inspect.Filter) {
	return inspect.New(inspect.Session{Level: level, ACL: rights(t), Broker: inspect.Limits{TopicAliasMaximum: 3}})
}

func publish(level byte, topic string, qos byte, payload string) string {
	p := packets.Publish{Topic: []byte(topic), QoS: qos, Payload: []byte(payload)}
	if qos > 0 {
		p.PacketID = 7
	}
	return string(p.Append(nil, level))
}

// aliased is a PUBLISH of MQTT 5.0 with a topic alias.
func aliased(alias byte, topic string, qos byte) string {
	p := packets.Publish{Topic: []byte(topic), QoS: qos, Properties: packets.Properties{byte(packets.TopicAlias), 0, alias}, Payload: []byte("x")}
	if qos > 0 {
		p.PacketID = 7
	}
	return string(p.Append(nil, 5))
}

func ack(level byte, t packets.Type, code packets.ReasonCode) string {
	return string((&packets.Ack{Type: t, PacketID: 7, Code: code}).Append(nil, level))
}

func subscribe(level byte, t packets.Type, filters ...string) string {
	s := packets.Subscribe{Type: t, PacketID: 7}
	if level >= 5 {
		s.Properties = packets.Properties{0x26, 0, 1, 'k', 0, 1, 'v'}
	}
	for _, f := range filters {
		s.Add(f, 1)
	}
	return string(s.Append(nil, level))
}

func suback(level byte, codes ...packets.ReasonCode) string {
	return string((&packets.Suback{Type: packets.SUBACK, PacketID: 7, Codes: codes}).Append(nil, level))
}

// feed gives f the stream in pieces of n bytes and returns all that comes out.
func feed(f *inspect.Filter, stream string, n int) (pass, back string, err error) {
	for len(stream) > 0 && err == nil {
		piece := []byte(stream[:min(n, len(stream))])
		stream = stream[len(piece):]
		var p, b []byte
		p, b, err = f.Filter(piece)
		pass, back = pass+string(p), back+string(b)
		clear(piece) // it must not be kept
	}
	return pass, back, err
}
