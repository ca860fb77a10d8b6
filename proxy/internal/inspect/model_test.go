package inspect_test

import (
	"bytes"
	"fmt"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/authz"
	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/packets"
	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/proxy/internal/inspect"
)

// receiver reads what has passed the filter as a broker would, and complains about
// everything that should not have.
type receiver struct {
	level   byte
	acl     *authz.BoundACL
	aliases map[uint16]string
}

func (b *receiver) read(stream []byte) error {
	b.aliases = map[uint16]string{}
	for len(stream) > 0 {
		size, err := packets.PacketSize(stream, b.level)
		if err != nil {
			return err
		}
		if size == 0 || size > len(stream) {
			return nil // the rest has yet to come
		}
		switch packets.Type(stream[0] >> 4) {
		case packets.PUBLISH:
			err = b.publish(stream[:size])
		case packets.SUBSCRIBE:
			err = b.subscribe(stream[:size])
		}
		if err != nil {
			return err
		}
		stream = stream[size:]
	}
	return nil
}

func (b *receiver) publish(raw []byte) error {
	var p packets.Publish
	if _, err := p.Parse(raw, b.level); err != nil {
		return err
	}
	topic := string(p.Topic)
	if alias, ok := p.Properties.TopicAlias(); ok {
		if topic == "" {
			topic = b.aliases[alias]
		}
		b.aliases[alias] = topic
	}
	if !b.acl.Publish([]byte(topic), p.QoS, p.Retain) {
		return fmt.Errorf("published to %q with QoS %d", topic, p.QoS)
	}
	return nil
}

func (b *receiver) subscribe(raw []byte) error {
	var s packets.Subscribe
	if err := s.Parse(raw, b.level); err != nil {
		return err
	}
	for filter, options := range s.All() {
		if !b.acl.Subscribe(filter, options&3) {
			return fmt.Errorf("subscribed to %q", filter)
		}
	}
	return nil
}

// packet draws one packet of a client.
func packet(level byte) *rapid.Generator[string] {
	return rapid.Custom(func(t *rapid.T) string {
		topic := rapid.SampledFrom([]string{"a", "no", "no/x", "q", "q/x"}).Draw(t, "topic")
		qos := byte(rapid.IntRange(0, 2).Draw(t, "qos"))
		switch rapid.IntRange(0, 5).Draw(t, "type") {
		case 0, 1:
			return publish(level, topic, qos, strings.Repeat("x", rapid.SampledFrom([]int{0, 1, 200}).Draw(t, "payload")))
		case 2:
			if level < 5 {
				return ack(level, packets.PUBREL, 0)
			}
			if rapid.Bool().Draw(t, "known") {
				topic = ""
			}
			return aliased(byte(rapid.IntRange(1, 3).Draw(t, "alias")), topic, qos)
		case 3:
			s := packets.Subscribe{Type: packets.SUBSCRIBE, PacketID: rapid.Uint16Min(1).Draw(t, "id")}
			for _, f := range rapid.SliceOfN(rapid.SampledFrom([]string{"a", "#", "no/x", "q/#", "+/x", "$share/g/no"}), 1, 4).Draw(t, "filters") {
				s.Add(f, qos)
			}
			return string(s.Append(nil, level))
		case 4:
			return rapid.SampledFrom([]string{pingreq, disconnect, ack(level, packets.PUBACK, 0)}).Draw(t, "other")
		}
		return string(rapid.SliceOfN(rapid.Byte(), 0, 8).Draw(t, "junk"))
	})
}

// The output does not depend on the pieces in which the stream arrives, and has nothing that is not
// allowed.
func TestOutputDoesNotDependOnPieces(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		level := rapid.SampledFrom([]byte{3, 4, 5}).Draw(t, "level")
		acl := testRights(t)
		stream := strings.Join(rapid.SliceOfN(packet(level), 0, 12).Draw(t, "packets"), "")
		s := inspect.Session{Level: level, ACL: acl, Broker: inspect.Limits{TopicAliasMaximum: 2}}
		whole, _ := inspect.New(s)
		wantPass, wantBack, wantErr := feed(whole, stream, len(stream)+1)
		up, _ := inspect.New(s)
		var pass, back []byte
		var err error
		for rest := stream; rest != "" && err == nil; {
			n := rapid.IntRange(1, len(rest)).Draw(t, "piece")
			var p, b []byte
			p, b, err = up.Filter([]byte(rest[:n]))
			pass, back, rest = append(pass, p...), append(back, b...), rest[n:]
		}
		if string(pass) != wantPass || string(back) != wantBack || fmt.Sprint(err) != fmt.Sprint(wantErr) {
			t.Fatalf("%x, %x, %v; in one piece %x, %x, %v", pass, back, err, wantPass, wantBack, wantErr)
		}
		if err := (&receiver{level: level, acl: acl}).read(pass); err != nil {
			t.Fatal(err)
		}
	})
}

// testRights is rights without a testing.TB.
func testRights(t *rapid.T) *authz.BoundACL {
	acl, err := authz.NewACL(authz.DenyRest, authz.Rule{Publish: true, Subscribe: true, Topics: []string{"a"}},
		authz.Rule{Publish: true, Subscribe: true, Topics: []string{"q/#"}, QoS: []int{0}})
	if err != nil {
		t.Fatal(err)
	}
	b, err := acl.Bind(authz.ACLValues{})
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// Every request is answered once: by the broker, which here grants everything, or in
// its place; and every filter of it has its code.
func TestEveryRequestIsAnswered(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		level := rapid.SampledFrom([]byte{3, 4, 5}).Draw(t, "level")
		acl := testRights(t)
		up, down := inspect.New(inspect.Session{Level: level, ACL: acl})
		for id := range uint16(rapid.IntRange(1, 10).Draw(t, "requests")) {
			request := packets.Subscribe{Type: packets.SUBSCRIBE, PacketID: id + 1}
			var want []packets.ReasonCode
			for _, f := range rapid.SliceOfN(rapid.SampledFrom([]string{"a", "no", "q/x", "#"}), 1, 5).Draw(t, "filters") {
				request.Add(f, 0)
				code := refusal(level)
				if acl.Subscribe(f, 0) {
					code = 0
				}
				want = append(want, code)
			}
			passed, answer, err := up.Filter(request.Append(nil, level))
			if err != nil {
				t.Fatal(err)
			}
			if len(passed) > 0 {
				var s packets.Subscribe
				if err := s.Parse(passed, level); err != nil {
					t.Fatal(err)
				}
				codes := make([]packets.ReasonCode, 0)
				for range s.All() {
					codes = append(codes, 0)
				}
				ack := packets.Suback{Type: packets.SUBACK, PacketID: s.PacketID, Codes: codes}
				fromBroker, _, err := down.Filter(ack.Append(nil, level))
				if err != nil {
					t.Fatal(err)
				}
				answer = append(bytes.Clone(answer), fromBroker...)
			}
			wanted := packets.Suback{Type: packets.SUBACK, PacketID: id + 1, Codes: want}
			if !bytes.Equal(answer, wanted.Append(nil, level)) {
				t.Fatalf("%x, want %x", answer, wanted.Append(nil, level))
			}
		}
	})
}

func FuzzFromClient(f *testing.F) {
	for _, level := range []byte{3, 4, 5} {
		f.Add([]byte(publish(level, "no/x", 2, "x")+ack(level, packets.PUBREL, 0)), level, byte(3))
		f.Add([]byte(subscribe(level, packets.SUBSCRIBE, "a", "no")+pingreq), level, byte(1))
	}
	f.Add([]byte(aliased(1, "q/x", 1)+aliased(1, "", 0)), byte(5), byte(2))
	f.Add([]byte("\x30\x08\x00\x01a\xFF\xFF\xFF\xFF\x7F"), byte(5), byte(7))
	f.Fuzz(func(t *testing.T, stream []byte, level, n byte) {
		level = 3 + level%3
		acl := rights(t)
		s := inspect.Session{Level: level, ACL: acl, Broker: inspect.Limits{TopicAliasMaximum: 3}}
		whole, _ := inspect.New(s)
		wantPass, wantBack, wantErr := feed(whole, string(stream), len(stream)+1)
		pieces, _ := inspect.New(s)
		pass, back, err := feed(pieces, string(stream), int(n)+1)
		if pass != wantPass || back != wantBack || fmt.Sprint(err) != fmt.Sprint(wantErr) {
			t.Errorf("%x, %x, %v; in one piece %x, %x, %v", pass, back, err, wantPass, wantBack, wantErr)
		}
		if err := (&receiver{level: level, acl: acl}).read([]byte(pass)); err != nil {
			t.Error(err)
		}
	})
}

func FuzzFromBroker(f *testing.F) {
	for _, level := range []byte{3, 4, 5} {
		f.Add([]byte(publish(level, "no/x", 2, "x")+suback(level, 0, 1)+pingreq), level, byte(3))
		f.Add([]byte(suback(level, 0)), level, byte(0))
	}
	f.Fuzz(func(t *testing.T, stream []byte, level, n byte) {
		level = 3 + level%3
		var filters [2]*inspect.Filter
		for i := range filters {
			var up *inspect.Filter
			up, filters[i] = newFilters(t, level)
			if _, _, err := up.Filter([]byte(subscribe(level, packets.SUBSCRIBE, "no", "a", "no", "b"))); err != nil {
				t.Fatal(err)
			}
		}
		wantPass, _, wantErr := feed(filters[0], string(stream), len(stream)+1)
		pass, back, err := feed(filters[1], string(stream), int(n)+1)
		if pass != wantPass || back != "" || fmt.Sprint(err) != fmt.Sprint(wantErr) {
			t.Errorf("%x, %x, %v; in one piece %x, %v", pass, back, err, wantPass, wantErr)
		}
	})
}
