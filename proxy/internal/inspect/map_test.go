package inspect_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/authz/topicmap"
	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/packets"
	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/proxy/internal/inspect"
)

// pumpMap is ThingsBoard's preset, and a topic for commands, for the device pump.
func pumpMap(t testing.TB) *topicmap.Bound {
	t.Helper()
	rules, refused, _ := topicmap.Preset("thingsboard")
	m, err := topicmap.Compile(topicmap.Options{Rules: append(rules, topicmap.Rule{Device: "cmd", Broker: "devices/${subject}/cmd"}), Refused: refused})
	if err != nil {
		t.Fatal(err)
	}
	b, err := m.Bind("pump", nil)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func mapped(t testing.TB, level byte) inspect.Session {
	return inspect.Session{Level: level, Topics: pumpMap(t), Broker: inspect.Limits{TopicAliasMaximum: 3}, Client: inspect.Limits{TopicAliasMaximum: 3}}
}

// answered is a PUBLISH of MQTT 5.0 with a response topic.
func answered(topic, response string) string {
	p := packets.Publish{Topic: []byte(topic), QoS: 1, PacketID: 7, Payload: []byte("x")}
	if response != "" {
		p.Properties = packets.Properties{}.With(packets.ResponseTopic, response)
	}
	return string(p.Append(nil, 5))
}

func unsuback(level byte, codes ...packets.ReasonCode) string {
	return string((&packets.Suback{Type: packets.UNSUBACK, PacketID: 7, Codes: codes}).Append(nil, level))
}

func TestMapFromClient(t *testing.T) {
	const me, pump = "v1/devices/me/telemetry", "v1/devices/pump/telemetry"
	for _, level := range []byte{3, 4, 5} {
		no := refusal(level)
		var denied packets.ReasonCode
		if level >= 5 {
			denied = packets.NotAuthorized
		}
		tests := []struct{ name, in, pass, back string }{
			{"mapped", publish(level, me, 1, "x"), publish(level, pump, 1, "x"), ""},
			{"one topic", publish(level, "cmd", 0, "x"), publish(level, "devices/pump/cmd", 0, "x"), ""},
			{"long", publish(level, me, 2, strings.Repeat("x", 20000)), publish(level, pump, 2, strings.Repeat("x", 20000)), ""},
			{"length takes a byte more", publish(level, me, 0, strings.Repeat("x", 101)), publish(level, pump, 0, strings.Repeat("x", 101)), ""},
			{"not in the map", publish(level, "weather", 1, "x"), publish(level, "weather", 1, "x"), ""},
			{"another device's", publish(level, "v1/devices/other/telemetry", 1, "x"), "", ack(level, packets.PUBACK, denied)},
			{"the broker's name of its own", publish(level, pump, 0, "x"), "", ""},
			{"reserved", publish(level, "$SYS/x", 0, "x") + publish(level, "/provision/request", 0, "x"), "", ""},
			{"subscription", subscribe(level, packets.SUBSCRIBE, "v1/devices/me/rpc/request/+", "cmd", "a/#"), subscribe(level, packets.SUBSCRIBE, "v1/devices/pump/rpc/request/+", "devices/pump/cmd", "a/#"), ""},
			{"shared", subscribe(level, packets.SUBSCRIBE, "$share/g/v1/devices/me/#"), subscribe(level, packets.SUBSCRIBE, "$share/g/v1/devices/pump/#"), ""},
			{"all topics", subscribe(level, packets.SUBSCRIBE, "#"), "", suback(level, no)},
			{"some", subscribe(level, packets.SUBSCRIBE, "v1/devices/other/#", "cmd"), subscribe(level, packets.SUBSCRIBE, "devices/pump/cmd"), ""},
			{"end of subscription", subscribe(level, packets.UNSUBSCRIBE, "cmd", "a"), subscribe(level, packets.UNSUBSCRIBE, "devices/pump/cmd", "a"), ""},
			{"end of what cannot be", subscribe(level, packets.UNSUBSCRIBE, "#"), "", unsuback(level, 0x11)},
			{"end of some", subscribe(level, packets.UNSUBSCRIBE, "#", "cmd"), subscribe(level, packets.UNSUBSCRIBE, "devices/pump/cmd"), ""},
		}
		if level == 5 {
			tests = append(tests, []struct{ name, in, pass, back string }{
				{"alias", aliased(1, me, 0) + aliased(1, "", 0) + aliased(1, "cmd", 0), aliased(1, pump, 0) + aliased(1, "", 0) + aliased(1, "devices/pump/cmd", 0), ""},
				{"alias that was refused", aliased(1, "v2/x/../y", 0) + aliased(2, pump, 0) + aliased(2, me, 0) + aliased(2, "", 0), aliased(1, "v2/pump/x/../y", 0) + aliased(2, pump, 0) + aliased(2, "", 0), ""},
				{"response topic", answered(me, "cmd"), answered(pump, "devices/pump/cmd"), ""},
				{"response topic of another", answered(me, "devices/other/cmd"), "", ack(5, packets.PUBACK, denied)},
				{"response topic outside", answered(me, "weather"), answered(pump, "weather"), ""},
			}...)
		}
		for _, test := range tests {
			for _, n := range []int{1, 2, 3, 7, 1 << 20} {
				up, _ := inspect.New(mapped(t, level))
				pass, back, err := feed(up, test.in, n)
				if pass != test.pass || back != test.back || err != nil {
					t.Errorf("level %d, %s in pieces of %d: passes %.80q, answers %q, %v; want %.80q, %q", level, test.name, n, pass, back, err, test.pass, test.back)
				}
			}
		}
	}
}

func TestMapFromBroker(t *testing.T) {
	const me, pump = "v1/devices/me/rpc/request/1", "v1/devices/pump/rpc/request/1"
	for _, level := range []byte{3, 4, 5} {
		tests := []struct{ name, in, pass, back string }{
			{"mapped", publish(level, pump, 1, "x"), publish(level, me, 1, "x"), ""},
			{"long", publish(level, pump, 0, strings.Repeat("x", 20000)), publish(level, me, 0, strings.Repeat("x", 20000)), ""},
			{"not in the map", publish(level, "weather", 2, "x"), publish(level, "weather", 2, "x"), ""},
			{"another device's", publish(level, "v1/devices/other/x", 0, "x"), "", ""},
			{"another device's, QoS 1", publish(level, "v1/devices/other/x", 1, "x"), "", ack(level, packets.PUBACK, 0)},
			{"another device's, QoS 2", publish(level, "v2/other/x", 2, "x") + ack(level, packets.PUBREL, 0) + ack(level, packets.PUBREL, 0), ack(level, packets.PUBREL, 0),
				ack(level, packets.PUBREC, 0) + ack(level, packets.PUBCOMP, 0)},
			{"QoS 2 whose identifier was that of another device's", publish(level, "v2/other/x", 2, "x") + publish(level, pump, 2, "x") + ack(level, packets.PUBREL, 0),
				publish(level, me, 2, "x") + ack(level, packets.PUBREL, 0), ack(level, packets.PUBREC, 0)},
			{"what would look like a topic of the map", publish(level, "cmd", 0, "x"), "", ""},
		}
		if level == 5 {
			tests = append(tests, []struct{ name, in, pass, back string }{
				{"alias", aliased(1, pump, 0) + aliased(1, "", 0), aliased(1, me, 0) + aliased(1, "", 0), ""},
				{"alias of what was dropped", aliased(1, "v2/other/x", 0) + aliased(1, "", 0) + aliased(1, pump, 0) + aliased(1, "", 0), aliased(1, me, 0) + aliased(1, "", 0), ""},
				{"response topic", answered(pump, "devices/pump/cmd"), answered(me, "cmd"), ""},
				{"response topic of another", answered(pump, "devices/other/cmd"), answered(me, ""), ""},
			}...)
		}
		for _, test := range tests {
			for _, n := range []int{1, 2, 3, 7, 1 << 20} {
				_, down := inspect.New(mapped(t, level))
				pass, back, err := feed(down, test.in, n)
				if pass != test.pass || back != test.back || err != nil {
					t.Errorf("level %d, %s in pieces of %d: passes %.80q, answers %q, %v; want %.80q, %q", level, test.name, n, pass, back, err, test.pass, test.back)
				}
			}
		}
	}
}

// TestMapCompletesAnswers: the codes of the proxy stand where its filters stood.
func TestMapCompletesAnswers(t *testing.T) {
	for _, level := range []byte{3, 4, 5} {
		up, down := inspect.New(mapped(t, level))
		if _, _, err := feed(up, subscribe(level, packets.SUBSCRIBE, "#", "cmd", "v1/#", "a"), 3); err != nil {
			t.Fatal(err)
		}
		no := refusal(level)
		if pass, _, err := feed(down, suback(level, granted, 0), 2); err != nil || pass != suback(level, no, granted, no, 0) {
			t.Errorf("level %d: SUBACK %q, %v", level, pass, err)
		}
		if _, _, err := feed(up, subscribe(level, packets.UNSUBSCRIBE, "#", "cmd"), 3); err != nil {
			t.Fatal(err)
		}
		want := unsuback(level, 0x11, 0)
		if pass, _, err := feed(down, unsuback(level, 0), 2); err != nil || pass != want {
			t.Errorf("level %d: UNSUBACK %q, %v, want %q", level, pass, err, want)
		}
	}
}

// TestMappedPacketsFitTheirReceiver: one that would grow too large is answered, or
// acknowledged to the broker.
func TestMappedPacketsFitTheirReceiver(t *testing.T) {
	s := mapped(t, 5)
	const topic = "v1/devices/me/x"
	in := publish(5, topic, 1, strings.Repeat("x", 100))
	s.Broker.MaximumPacketSize = uint32(len(in)) + 1
	up, _ := inspect.New(s)
	if pass, back, err := feed(up, in, 10); pass != "" || back != ack(5, packets.PUBACK, 0x97) || err != nil {
		t.Errorf("up: passes %q, answers %q, %v", pass, back, err)
	}
	sub := subscribe(5, packets.SUBSCRIBE, "v1/devices/me/#")
	s.Broker.MaximumPacketSize = uint32(len(sub)) + 1
	up, _ = inspect.New(s)
	if pass, back, err := feed(up, sub, 10); pass != "" || back != suback(5, 0x97) || err != nil {
		t.Errorf("subscription: passes %q, answers %q, %v", pass, back, err)
	}
	m, err := topicmap.Compile(topicmap.Options{Rules: []topicmap.Rule{{Device: "a/long/name/for/it", Broker: "${subject}"}}})
	if err != nil {
		t.Fatal(err)
	}
	if s.Topics, err = m.Bind("p", nil); err != nil {
		t.Fatal(err)
	}
	message := publish(5, "p", 1, "x")
	s.Client.MaximumPacketSize = uint32(len(message)) + 5
	_, down := inspect.New(s)
	if pass, back, err := feed(down, message, 10); pass != "" || back != ack(5, packets.PUBACK, 0) || err != nil {
		t.Errorf("down: passes %q, answers %q, %v", pass, back, err)
	}
}

// TestMappedPacketsFitTheirLength: a packet of the largest size that there is cannot grow.
func TestMappedPacketsFitTheirLength(t *testing.T) {
	const topic, payload = "v1/devices/me/x", 268_435_455 - (2 + len("v1/devices/me/x") + 2)
	for _, level := range []byte{3, 4} {
		up, _ := inspect.New(mapped(t, level))
		if pass, _, err := feed(up, publish(level, topic, 1, "x"), 100); len(pass) == 0 || err != nil {
			t.Fatal(pass, err)
		}
		p := packets.Publish{Topic: []byte(topic), QoS: 1, PacketID: 7}
		if pass, _, err := feed(up, string(p.AppendHeader(nil, level, payload)), 100); pass != "" || err != nil {
			t.Errorf("level %d: passes %q, %v", level, pass, err)
		}
	}
}

// TestRepeatedMessages: a message like the one before is decided like it, as long as the rights
// are the same, and one that only begins like it is not.
func TestRepeatedMessages(t *testing.T) {
	const me, pump = "v1/devices/me/t", "v1/devices/pump/t"
	for _, level := range []byte{3, 4, 5} {
		message := publish(level, me, 1, "x")
		noID := strings.Replace(message, "/t\x00\x07", "/t\x00\x00", 1)
		for _, test := range []struct{ in, pass string }{
			{message, publish(level, pump, 1, "x")},
			{publish(level, me, 1, strings.Repeat("x", 110)), publish(level, pump, 1, strings.Repeat("x", 110))},
			{publish(level, me, 0, "x"), publish(level, pump, 0, "x")},
			{publish(level, me+"u", 1, "x"), publish(level, pump+"u", 1, "x")},
			{"\x3A" + message[1:], "\x3A" + publish(level, pump, 1, "x")[1:]},
			{noID, ""},
		} {
			up, _ := inspect.New(mapped(t, level))
			pass, _, err := feed(up, message+test.in, 1000)
			if want := publish(level, pump, 1, "x") + test.pass; pass != want || err != nil != (test.pass == "") {
				t.Errorf("level %d: after %q %q passes as %q, %v; want %q", level, message, test.in, pass, err, want)
			}
		}
	}
}

func TestMapOfAWill(t *testing.T) {
	m := pumpMap(t)
	w, err := inspect.Will(nil, m, packets.Will{Topic: "v1/devices/me/gone", Properties: packets.Properties{}.With(packets.ResponseTopic, "cmd")})
	if response, _ := w.Properties.ResponseTopic(); err != nil || w.Topic != "v1/devices/pump/gone" || response != "devices/pump/cmd" {
		t.Errorf("%+v, %v", w, err)
	}
	for _, bad := range []packets.Will{{Topic: "v1/devices/other/gone"}, {Topic: "$SYS/x"}, {Topic: "a", Properties: packets.Properties{}.With(packets.ResponseTopic, "v1/devices/other/r")}} {
		if w, err := inspect.Will(nil, m, bad); err == nil {
			t.Errorf("%s is left as %s", bad.Topic, w.Topic)
		}
	}
}

// TestMapDeniedIsReported: what the map refuses is reported with the topic that the sender used.
func TestMapDeniedIsReported(t *testing.T) {
	var got []string
	s := mapped(t, 5)
	s.Denied = func(d inspect.Denied) { got = append(got, fmt.Sprintf("%v %v %s", d.Type, d.Down, d.Topic)) }
	up, down := inspect.New(s)
	if _, _, err := feed(up, publish(5, "v2x", 0, "")+publish(5, "v1/devices/other", 0, "")+subscribe(5, packets.SUBSCRIBE, "#"), 1000); err != nil {
		t.Fatal(err)
	}
	if _, _, err := feed(down, publish(5, "v2/other/x", 0, ""), 1000); err != nil {
		t.Fatal(err)
	}
	want := "PUBLISH false v1/devices/other, SUBSCRIBE false #, PUBLISH true v2/other/x"
	if all := strings.Join(got, ", "); all != want {
		t.Errorf("denied %s, want %s", all, want)
	}
}

// TestMappingAllocatesNothing: mapping a whole message does not allocate, in either direction.
func TestMappingAllocatesNothing(t *testing.T) {
	for _, level := range []byte{4, 5} {
		up, down := inspect.New(mapped(t, level))
		fromClient, fromBroker := []byte(publish(level, "v1/devices/me/telemetry", 1, "{}")), []byte(publish(level, "devices/pump/cmd", 1, "{}"))
		if n := testing.AllocsPerRun(100, func() {
			if _, _, err := up.Filter(fromClient); err != nil {
				t.Fatal(err)
			}
			if _, _, err := down.Filter(fromBroker); err != nil {
				t.Fatal(err)
			}
		}); n != 0 {
			t.Errorf("level %d: %v allocations", level, n)
		}
	}
}

// TestMappingManyAllocatesNothing: a large buffer of messages is mapped in a buffer that is lent.
func TestMappingManyAllocatesNothing(t *testing.T) {
	up, down := inspect.New(mapped(t, 4))
	in := []byte(strings.Repeat(publish(4, "v1/devices/me/telemetry", 1, "{}"), 2000))
	back := []byte(strings.Repeat(publish(4, "devices/pump/cmd", 1, "{}"), 2000))
	buf := new([4][]byte)
	run := func(f *inspect.Filter, in []byte) {
		f.Borrow(buf)
		if pass, _, err := f.Filter(in); err != nil || len(pass) == 0 {
			t.Fatal(err)
		}
		f.Borrow(nil)
	}
	if n := testing.AllocsPerRun(10, func() { run(up, in); run(down, back) }); n != 0 {
		t.Errorf("%v allocations", n)
	}
}
