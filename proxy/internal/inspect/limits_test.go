package inspect_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/authz"
	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/packets"
	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/proxy/internal/inspect"
)

// limited returns the filters of a session with limits, and what they report.
func limited(t testing.TB, level byte, text string) (up, down *inspect.Filter, limits *inspect.Control, reported *[]string) {
	t.Helper()
	limits, reported = new(inspect.Control), new([]string)
	l, err := authz.ParseLimits([]byte(text))
	if err != nil {
		t.Fatal(err)
	}
	up, down = inspect.New(inspect.Session{Level: level, Limits: &l, Control: limits, Denied: func(d inspect.Denied) {
		*reported = append(*reported, fmt.Sprintf("%v %s: %s", d.Type, d.Topic, d.Reason))
	}})
	return up, down, limits, reported
}

func setLimits(t testing.TB, control *inspect.Control, text string) {
	t.Helper()
	l, err := authz.ParseLimits([]byte(text))
	if err != nil {
		t.Fatal(err)
	}
	if err := control.Swap(inspect.Rights{Limits: &l}); err != nil {
		t.Fatal(err)
	}
}

func retained(level byte, topic string, qos byte) string {
	p := packets.Publish{Topic: []byte(topic), QoS: qos, Retain: true, Payload: []byte("x")}
	if qos > 0 {
		p.PacketID = 7
	}
	return string(p.Append(nil, level))
}

func disconnectWith(code packets.ReasonCode) string {
	return string((&packets.Disconnect{Code: code}).Append(nil, 5))
}

// TestMessagesOverALimit: before MQTT 5.0 they are dropped and acknowledged, in 5.0 the session
// ends with the code for the limit.
func TestMessagesOverALimit(t *testing.T) {
	long := strings.Repeat("x", 100)
	for _, level := range []byte{3, 4, 5} {
		for _, test := range []struct {
			name, limits, over string
			code               packets.ReasonCode
			back, reason       string
		}{
			{"max_packet", `{"max_packet":50}`, publish(level, "a", 0, long), 0x95, "", "over the limit max_packet, 50"},
			{"max_packet with QoS 1", `{"max_packet":50}`, publish(level, "a", 1, long), 0x95, ack(level, packets.PUBACK, 0), "max_packet"},
			{"max_packet with QoS 2", `{"max_packet":50}`, publish(level, "a", 2, long), 0x95, ack(level, packets.PUBREC, 0), "max_packet"},
			{"max_qos 0", `{"max_qos":0}`, publish(level, "a", 1, "x"), 0x9B, ack(level, packets.PUBACK, 0), "the limit max_qos is 0"},
			{"max_qos 1", `{"max_qos":1}`, publish(level, "a", 2, "x"), 0x9B, ack(level, packets.PUBREC, 0), "the limit max_qos is 1"},
			{"retain", `{"retain":false}`, retained(level, "a", 0), 0x9A, "", "the limit retain"},
			{"retain with QoS 1", `{"retain":false}`, retained(level, "a", 1), 0x9A, ack(level, packets.PUBACK, 0), "the limit retain"},
		} {
			for _, n := range []int{1, 7, 1 << 20} {
				up, _, _, reported := limited(t, level, test.limits)
				good := pingreq + publish(level, "b", 0, "x")
				pass, back, err := feed(up, good+test.over+good, n)
				wantPass, wantBack := good+good, test.back
				if level >= 5 {
					wantPass, wantBack = good, disconnectWith(test.code)
				}
				if pass != wantPass || back != wantBack || (err != nil) != (level >= 5) {
					t.Errorf("level %d, %s in pieces of %d: passes %x, answers %x, %v; want %x, %x", level, test.name, n, pass, back, err, wantPass, wantBack)
				}
				if len(*reported) != 1 || !strings.HasPrefix((*reported)[0], "PUBLISH a: ") || !strings.Contains((*reported)[0], test.reason) {
					t.Errorf("level %d, %s: reported %q", level, test.name, *reported)
				}
			}
		}
	}
}

// TestMessagesWithinTheLimits pass as they are.
func TestMessagesWithinTheLimits(t *testing.T) {
	for _, level := range []byte{3, 4, 5} {
		largest := publish(level, "a", 1, strings.Repeat("x", 60))
		up, _, _, reported := limited(t, level, fmt.Sprintf(`{"max_packet":%d,"max_qos":1}`, len(largest)))
		in := largest + retained(level, "a", 0) + subscribe(level, packets.UNSUBSCRIBE, "a") + publish(level, "a", 1, "") + disconnect
		if pass, back, err := feed(up, in, 3); pass != in || back != "" || err != nil || len(*reported) > 0 {
			t.Errorf("level %d: passes %x, answers %x, %v, reported %q", level, pass, back, err, *reported)
		}
	}
}

// TestReleaseOfADroppedMessage: before MQTT 5.0 a QoS 2 message over a limit is acknowledged to
// the end, and later ones with its identifier pass.
func TestReleaseOfADroppedMessage(t *testing.T) {
	up, _, _, _ := limited(t, 4, `{"retain":false}`)
	next := publish(4, "b", 2, "y")
	pass, back, err := feed(up, retained(4, "a", 2)+ack(4, packets.PUBREL, 0)+next+ack(4, packets.PUBREL, 0), 1)
	if pass != next+ack(4, packets.PUBREL, 0) || back != ack(4, packets.PUBREC, 0)+ack(4, packets.PUBCOMP, 0) || err != nil {
		t.Errorf("passes %x, answers %x, %v", pass, back, err)
	}
}

// TestSubscriptionsGetTheLowerQoS: this is so in every version of MQTT.
func TestSubscriptionsGetTheLowerQoS(t *testing.T) {
	for _, level := range []byte{3, 4, 5} {
		for most := range byte(3) {
			ask := func(options ...byte) string {
				s := packets.Subscribe{Type: packets.SUBSCRIBE, PacketID: 7}
				for i, o := range options {
					s.Add(fmt.Sprint("t/", i), o)
				}
				return string(s.Append(nil, level))
			}
			local := byte(0)
			if level >= 5 {
				local = 0x04 // No Local, which stays
			}
			up, _, _, reported := limited(t, level, fmt.Sprintf(`{"max_qos":%d}`, most))
			pass, back, err := feed(up, ask(0, 1|local, 2), 4)
			if want := ask(0, min(1, most)|local, min(2, most)); pass != want || back != "" || err != nil || len(*reported) > 0 {
				t.Errorf("level %d, max_qos %d: passes %x, answers %x, %v, want %x", level, most, pass, back, err, want)
			}
		}
	}
}

// TestSubscriptionsAreCounted: filters beyond the limit are refused, one that is there already
// does not count again, and one that ends makes room.
func TestSubscriptionsAreCounted(t *testing.T) {
	for _, level := range []byte{3, 4, 5} {
		no := packets.ReasonCode(0x80)
		if level >= 5 {
			no = 0x97
		}
		up, down, limits, reported := limited(t, level, `{"subscriptions":2}`)
		step := func(in, wantPass, wantBack string) {
			t.Helper()
			if pass, back, err := feed(up, in, 5); pass != wantPass || back != wantBack || err != nil {
				t.Errorf("level %d: passes %x, answers %x, %v, want %x, %x", level, pass, back, err, wantPass, wantBack)
			}
		}
		answer := func(in, want string) {
			t.Helper()
			if pass, _, err := feed(down, in, 5); pass != want || err != nil {
				t.Errorf("level %d: the client gets %x, %v, want %x", level, pass, err, want)
			}
		}
		step(subscribe(level, packets.SUBSCRIBE, "a", "b", "c"), subscribe(level, packets.SUBSCRIBE, "a", "b"), "")
		answer(suback(level, 1, 1), suback(level, 1, 1, no))
		step(subscribe(level, packets.SUBSCRIBE, "b"), subscribe(level, packets.SUBSCRIBE, "b"), "")
		answer(suback(level, 1), suback(level, 1))
		step(subscribe(level, packets.SUBSCRIBE, "d"), "", suback(level, no))
		step(subscribe(level, packets.UNSUBSCRIBE, "a"), subscribe(level, packets.UNSUBSCRIBE, "a"), "")
		// The broker refuses one, which then does not count.
		step(subscribe(level, packets.SUBSCRIBE, "e"), subscribe(level, packets.SUBSCRIBE, "e"), "")
		answer(suback(level, 0x80), suback(level, 0x80))
		step(subscribe(level, packets.SUBSCRIBE, "f"), subscribe(level, packets.SUBSCRIBE, "f"), "")
		answer(suback(level, 0), suback(level, 0))
		setLimits(t, limits, `{"subscriptions":3}`)
		step(subscribe(level, packets.SUBSCRIBE, "g", "h"), subscribe(level, packets.SUBSCRIBE, "g"), "")
		want := []string{"SUBSCRIBE c: the limit subscriptions is 2", "SUBSCRIBE d: the limit subscriptions is 2", "SUBSCRIBE h: the limit subscriptions is 3"}
		if !slices.Equal(*reported, want) {
			t.Errorf("level %d: reported %q", level, *reported)
		}
	}
}

// TestSubscriptionsOfOnePacketIdentifier: a client that uses an identifier again before the answer
// gets no room by a filter that the broker refuses.
func TestSubscriptionsOfOnePacketIdentifier(t *testing.T) {
	for _, level := range []byte{4, 5} {
		for name, first := range map[string][]string{"new": {"a"}, "counted already": {"a", "a"}} {
			up, down, _, _ := limited(t, level, `{"subscriptions":2}`)
			pass := func(f *inspect.Filter, in string) string {
				t.Helper()
				out, _, err := feed(f, in, len(in))
				if err != nil {
					t.Fatal(err)
				}
				return out
			}
			for _, filter := range first {
				pass(up, subscribe(level, packets.SUBSCRIBE, filter))
			}
			for range len(first) - 1 {
				pass(down, suback(level, 0x80))
			}
			pass(up, subscribe(level, packets.SUBSCRIBE, "b"))
			pass(down, suback(level, 0x80)) // for a
			pass(down, suback(level, 0))    // for b
			pass(up, subscribe(level, packets.SUBSCRIBE, "c"))
			pass(down, suback(level, 0))
			if more := pass(up, subscribe(level, packets.SUBSCRIBE, "d")); more != "" {
				t.Errorf("level %d, %s: a filter too many is passed on: %x", level, name, more)
			}
		}
	}
}

// TestUnsubscribeThatIsTooLarge: the broker does not get the packet, and its filters still count.
func TestUnsubscribeThatIsTooLarge(t *testing.T) {
	limits, err := authz.ParseLimits([]byte(`{"subscriptions":1}`))
	if err != nil {
		t.Fatal(err)
	}
	up, _ := inspect.New(inspect.Session{Level: 5, Limits: &limits, Topics: pumpMap(t), Broker: inspect.Limits{MaximumPacketSize: 64}})
	feed(up, subscribe(5, packets.SUBSCRIBE, "v1/devices/me/a"), 100)
	pass, back, err := feed(up, subscribe(5, packets.UNSUBSCRIBE, "v1/devices/me/a", "v1/devices/me/b", "v1/devices/me/c"), 100)
	if pass != "" || back == "" || err != nil {
		t.Fatalf("passes %x, answers %x, %v", pass, back, err)
	}
	if more, _, _ := feed(up, subscribe(5, packets.SUBSCRIBE, "v1/devices/me/d"), 100); more != "" {
		t.Errorf("a filter too many is passed on: %x", more)
	}
}

// TestOtherPacketsOverMaxPacket: a SUBSCRIBE is refused before MQTT 5.0; everything else ends
// the session.
func TestOtherPacketsOverMaxPacket(t *testing.T) {
	filters := []string{strings.Repeat("f", 40), strings.Repeat("g", 40)}
	for _, level := range []byte{3, 4, 5} {
		up, _, _, reported := limited(t, level, `{"max_packet":50}`)
		pass, back, err := feed(up, subscribe(level, packets.SUBSCRIBE, filters...), 9)
		want, ends := suback(level, 0x80, 0x80), false
		if level >= 5 {
			want, ends = disconnectWith(packets.PacketTooLarge), true
		}
		if pass != "" || back != want || (err != nil) != ends || len(*reported) == 0 {
			t.Errorf("level %d: passes %x, answers %x, %v, reported %q", level, pass, back, err, *reported)
		}
		up, _, _, _ = limited(t, level, `{"max_packet":50}`)
		if pass, _, err := feed(up, pingreq+subscribe(level, packets.UNSUBSCRIBE, filters...), 9); pass != pingreq || err == nil {
			t.Errorf("level %d: passes %x of an UNSUBSCRIBE, %v", level, pass, err)
		}
	}
}

// TestLimitsOfAWill: the codes are those of a PUBLISH.
func TestLimitsOfAWill(t *testing.T) {
	will := packets.Will{Topic: "gone", QoS: 1, Retain: true, Payload: []byte(strings.Repeat("x", 20))}
	for _, level := range []byte{3, 4, 5} {
		size := len((&packets.Publish{Topic: []byte("gone"), QoS: 1, PacketID: 1, Retain: true, Payload: will.Payload}).Append(nil, level))
		for text, want := range map[string]packets.ReasonCode{
			`{}`:              0,
			`{"max_qos":1}`:   0,
			`{"max_qos":0}`:   0x9B,
			`{"retain":true}`: 0, `{"retain":false}`: 0x9A,
			fmt.Sprintf(`{"max_packet":%d}`, size): 0, fmt.Sprintf(`{"max_packet":%d}`, size-1): 0x95,
		} {
			l, err := authz.ParseLimits([]byte(text))
			if err != nil {
				t.Fatal(err)
			}
			if code, err := inspect.WillLimit(l, level, will); code != want || (err != nil) != (want != 0) {
				t.Errorf("level %d, %s: %v, %v", level, text, code, err)
			}
		}
	}
}

func BenchmarkPublishLimited(b *testing.B) {
	up, _, _, _ := limited(b, 4, `{"max_packet":1000,"publish_rate":1000000,"subscriptions":10,"max_qos":1,"retain":false}`)
	in := []byte(publish(4, topic, 1, `{"t":25}`))
	b.ReportAllocs()
	for b.Loop() {
		if _, _, err := up.Filter(in); err != nil {
			b.Fatal(err)
		}
	}
}
