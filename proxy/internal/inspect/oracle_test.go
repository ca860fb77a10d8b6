package inspect_test

import (
	"fmt"
	"reflect"
	"strings"
	"testing"

	mqtt "github.com/mochi-mqtt/server/v2"
	mochi "github.com/mochi-mqtt/server/v2/packets"
	"pgregory.net/rapid"

	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/packets"
	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/proxy/internal/inspect"
)

// checkStream gives a filter a stream in pieces of n bytes, and reads what goes in and what
// comes out with every decoder. What comes out has to be what the model makes of what went in,
// packet by packet, and nothing in it may be outside of the device's part. A filter may be
// stricter than a decoder: then it ends the session, and what came before has to be right.
func checkStream(level byte, down bool, model mapModel, filter *inspect.Filter, stream string, n int) error {
	pass, back, err := feed(filter, stream, n)
	for name, decode := range decoders(level) {
		in, inErr := readAll(level, []byte(stream), decode)
		out, outErr := readAll(level, []byte(pass), decode)
		all := out
		if !down && level > 3 { // mochi reads the flags of MQTT 3.1 as those of 3.1.1
			if err := mustRead(pass, len(out), outErr); err != nil {
				return fmt.Errorf("%s: %w", name, err)
			}
		}
		device := deviceModel{mapModel: model, level: level, down: down}
		want, wantBack := device.pass(in)
		if err != nil {
			want = want[:min(len(want), len(out))]
		}
		if inErr != nil && inErr != errIncomplete {
			out = out[:min(len(out), len(want))] // the filter may know what to do with the rest
		}
		if !reflect.DeepEqual(out, want) && len(out)+len(want) > 0 {
			return fmt.Errorf("to %s %+v becomes\n%+v, %s, want\n%+v; the filter says %s",
				name, in, out, fmt.Sprint(outErr), want, fmt.Sprint(err))
		}
		answers, answersErr := readAll(level, []byte(back), decode)
		if err == nil && inErr == nil {
			if err := sameAnswers(answers, wantBack); err != nil || answersErr != nil {
				return fmt.Errorf("to %s the answers to %+v are %+v, %s: %s",
					name, in, answers, fmt.Sprint(answersErr), fmt.Sprint(err))
			}
		}
		for _, m := range all {
			if err := inPart(model, down, m); err != nil {
				return fmt.Errorf("to %s: %w", name, err)
			}
		}
	}
	return nil
}

// mustRead returns an error if a decoder that has read n packets of a stream has failed, with
// err, on one that the filter reads. Others are passed on unread.
func mustRead(stream string, n int, err error) error {
	if err == nil || err == errIncomplete {
		return nil
	}
	for range n {
		size, _ := packets.PacketSize([]byte(stream), 0)
		stream = stream[size:]
	}
	switch t := packets.Type(stream[0] >> 4); t {
	case packets.PUBLISH, packets.SUBSCRIBE, packets.UNSUBSCRIBE:
		return fmt.Errorf("cannot read a %v that came out: %w: %.60x", t, err, stream)
	}
	return nil
}

func sameAnswers(got, want []message) error {
	if len(got) != len(want) {
		return fmt.Errorf("there should be %d: %+v", len(want), want)
	}
	for i, m := range got {
		if m.kind != want[i].kind || m.id != want[i].id || m.codes != want[i].codes {
			return fmt.Errorf("number %d should be %+v", i, want[i])
		}
	}
	return nil
}

// inPart returns an error if a packet that was passed on has to do with a topic of another
// device. Filters are tried with the matcher of mochi.
func inPart(model mapModel, down bool, m message) error {
	if !down {
		for _, topic := range []string{m.topic, m.response} {
			if topic != "" && model.closed(topic) && !model.own(topic) {
				return fmt.Errorf("the topic %q came out", topic)
			}
		}
	}
	if m.kind != mochi.Subscribe || down {
		return nil
	}
	for _, f := range m.filters {
		index := mqtt.NewTopicsIndex()
		index.Subscribe("device", mochi.Subscription{Filter: f.filter})
		for _, topic := range othersTopics(model) {
			if s := index.Subscribers(topic); len(s.Subscriptions)+len(s.Shared) > 0 {
				return fmt.Errorf("the filter %q came out, which selects %q", f.filter, topic)
			}
		}
	}
	return nil
}

// othersTopics are topics of the broker in the parts of other devices.
func othersTopics(model mapModel) (all []string) {
	for _, r := range model.Rules {
		for _, subject := range []string{"boiler", "me", "a", "x", ""} {
			side := broker(r, subject)
			for _, rest := range []string{"", "/", "/telemetry", "/a/b", "/up/x"} {
				topic := strings.TrimSuffix(side, "/#")
				if strings.HasSuffix(side, "#") {
					topic += rest
				}
				if topic != "" && !model.own(topic) {
					all = append(all, topic)
				}
			}
		}
	}
	return all
}

// oracleFilter returns the filter of one direction, which knows topic aliases up to 3.
func oracleFilter(t testing.TB, level byte, down bool, model mapModel) *inspect.Filter {
	limits := inspect.Limits{TopicAliasMaximum: 3}
	up, fromBroker := inspect.New(inspect.Session{Level: level, Topics: model.bind(t), Broker: limits, Client: limits})
	if down {
		return fromBroker
	}
	return up
}

// TestOtherDecodersAgree: other decoders find in what a filter passes on the packet that went
// in, with the topics replaced by the map.
func TestOtherDecodersAgree(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		level, down := rapid.SampledFrom([]byte{3, 4, 5}).Draw(rt, "level"), rapid.Bool().Draw(rt, "down")
		model := rapid.SampledFrom(mapModels()).Draw(rt, "map")
		stream := strings.Join(rapid.SliceOfN(anyPacket(level), 1, 8).Draw(rt, "packets"), "")
		if rapid.IntRange(0, 2).Draw(rt, "damage") == 0 {
			b, at := []byte(stream), rapid.IntRange(0, len(stream)-1).Draw(rt, "at")
			b[at] = rapid.SampledFrom([]byte{b[at] + 1, b[at] - 1, b[at] ^ 0x80, 0, 2, 0xFF}).Draw(rt, "byte")
			stream = string(b)
		}
		n := rapid.SampledFrom([]int{1, 3, 1 << 20}).Draw(rt, "pieces")
		if err := checkStream(level, down, model, oracleFilter(t, level, down, model), stream, n); err != nil {
			rt.Fatal(err)
		}
	})
}

var (
	oracleLevel = rapid.SampledFrom([]string{"v1", "v2", "devices", "gateway", "me", "pump", "boiler", "cmd", "a", "b", "x", "dev", "up", "down", "provision", "a.b", "$SYS", "$share", "$SHARE", "", ""})
	oracleWild  = rapid.OneOf(oracleLevel, oracleLevel, rapid.SampledFrom([]string{"+", "#", "a+"}))
	oracleNames = rapid.OneOf(levels(oracleLevel), rapid.SampledFrom([]string{
		"v1/devices/me/telemetry", "v1/devices/pump/telemetry", "v1/devices/boiler/telemetry", "v1/devices/me", "cmd", "devices/pump/cmd", "devices/boiler/cmd",
		"v2/x", "v2/pump/x", "a/b", "a/b/c", "a/x", "x/pump", "x/boiler", "dev/pump/a/b", "dev/pump/x", "dev/boiler/x", "pump/up/x", "pump/down/b", "pump/down/b/x", "boiler/up/x",
	}))
	oracleFilters = rapid.OneOf(oracleNames, levels(oracleWild), rapid.Map(levels(oracleWild), func(f string) string { return "$share/g/" + f }),
		rapid.SampledFrom([]string{"#", "+/devices/#", "v1/devices/me/#", "$share/g/v1/devices/me/+", "$share/x/#", "$SHARE/x/#", "+", "/#", "a/#", "a/b/#", "+/+/+", "$share/g.h/a/b/x"}))
)

func levels(of *rapid.Generator[string]) *rapid.Generator[string] {
	return rapid.Map(rapid.SliceOfN(of, 1, 4), func(l []string) string { return strings.Join(l, "/") })
}

// anyPacket draws a packet of either side.
func anyPacket(level byte) *rapid.Generator[string] {
	return rapid.Custom(func(t *rapid.T) string {
		id, qos := rapid.Uint16Range(1, 3).Draw(t, "id"), byte(rapid.IntRange(0, 2).Draw(t, "qos"))
		switch kind := rapid.SampledFrom([]packets.Type{packets.PUBLISH, packets.PUBLISH, packets.SUBSCRIBE, packets.UNSUBSCRIBE, packets.PUBREL, packets.SUBACK, packets.PUBACK}).Draw(t, "type"); kind {
		case packets.PUBLISH:
			p := packets.Publish{Topic: []byte(oracleNames.Draw(t, "topic")), QoS: qos, Dup: qos > 0 && rapid.Bool().Draw(t, "dup"), Retain: rapid.Bool().Draw(t, "retain"),
				Payload: make([]byte, rapid.SampledFrom([]int{0, 1, 100, 120, 16300}).Draw(t, "payload")), Properties: publishProperties.Draw(t, "properties")}
			if qos > 0 {
				p.PacketID = id
			}
			if _, aliased := p.Properties.TopicAlias(); aliased && level == 5 && rapid.Bool().Draw(t, "known") {
				p.Topic = nil
			}
			return string(p.Append(nil, level))
		case packets.SUBSCRIBE, packets.UNSUBSCRIBE:
			s := packets.Subscribe{Type: kind, PacketID: id}
			if rapid.Bool().Draw(t, "identifier") && kind == packets.SUBSCRIBE {
				s.Properties = packets.Properties{0x0B, 5}
			}
			for _, f := range rapid.SliceOfN(oracleFilters, 1, 4).Draw(t, "filters") {
				s.Add(f, qos)
			}
			return string(s.Append(nil, level))
		case packets.SUBACK:
			return suback(level, 0, 1)
		default:
			return string((&packets.Ack{Type: kind, PacketID: id}).Append(nil, level))
		}
	})
}

var publishProperties = rapid.Custom(func(t *rapid.T) (p packets.Properties) {
	if rapid.Bool().Draw(t, "none") {
		return nil
	}
	if rapid.Bool().Draw(t, "alias") {
		p = append(p, byte(packets.TopicAlias), 0, byte(rapid.IntRange(0, 4).Draw(t, "alias number")))
	}
	if rapid.Bool().Draw(t, "response") {
		p = p.With(packets.ResponseTopic, oracleNames.Draw(t, "response topic"))
	}
	if rapid.Bool().Draw(t, "others") {
		p = append(p, 0x0B, 5, 0x01, 1, 0x26, 0, 1, 'k', 0, 1, 'v', 0x09, 0, 2, 0, 0xFF)
	}
	return p
})

// FuzzOtherDecodersAgree is the same for any stream.
func FuzzOtherDecodersAgree(f *testing.F) {
	for _, level := range []byte{3, 4, 5} {
		f.Add([]byte(publish(level, "v1/devices/me/x", 2, "x")+publish(level, "v2/boiler/x", 2, "x")+ack(level, packets.PUBREL, 0)), level, byte(3), byte(0))
		f.Add([]byte(subscribe(level, packets.SUBSCRIBE, "cmd", "$share/g/v2/#", "#")+pingreq), level, byte(1), byte(0))
		f.Add([]byte(subscribe(level, packets.UNSUBSCRIBE, "a/b", "a/+/x")+disconnect+"x"), level, byte(1), byte(4))
		f.Add([]byte(publish(level, "dev/pump/a/x", 1, "x")+publish(level, "x/boiler", 1, "y")), level, byte(9), byte(3))
	}
	f.Add([]byte(aliased(1, "v2/x", 1)+aliased(1, "", 0)+answered("v1/devices/me/x", "cmd")+answered("v1/devices/me/x", "devices/boiler/cmd")), byte(5), byte(2), byte(0))
	f.Add([]byte(aliased(1, "pump/up/x", 1)+aliased(1, "", 0)+answered("pump/down/x", "pump/up/y")+answered("pump/up/x", "boiler/up/y")), byte(5), byte(2), byte(5))
	f.Add([]byte("\x30\x88\x00\x00\x04cmd/xx"), byte(4), byte(2), byte(0))
	models := mapModels()
	f.Fuzz(func(t *testing.T, stream []byte, level, n, choice byte) {
		level = 3 + level%3
		down, model := choice&1 != 0, models[int(choice>>1)%len(models)]
		if err := checkStream(level, down, model, oracleFilter(t, level, down, model), string(stream), int(n)+1); err != nil {
			t.Error(err)
		}
	})
}
