package inspect_test

import (
	"bytes"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/authz"
	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/packets"
	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/proxy/internal/inspect"
)

const (
	pingreq    = "\xC0\x00"
	disconnect = "\xE0\x00"
	granted    = packets.ReasonCode(1)
)

// refusal is the code in a SUBACK.
func refusal(level byte) packets.ReasonCode {
	if level >= 5 {
		return 0x87
	}
	return 0x80
}

func TestFromClient(t *testing.T) {
	for _, level := range []byte{3, 4, 5} {
		no := refusal(level)
		var denied packets.ReasonCode // in an acknowledgement
		if level >= 5 {
			denied = packets.NotAuthorized
		}
		for _, test := range []struct{ name, in, pass, back string }{
			{"allowed", publish(level, "a", 0, "x"), publish(level, "a", 0, "x"), ""},
			{"allowed with QoS 2", publish(level, "a", 2, "x"), publish(level, "a", 2, "x"), ""},
			{"no payload", publish(level, "a", 1, ""), publish(level, "a", 1, ""), ""},
			{"refused", publish(level, "no/x", 0, "x"), "", ""},
			{"refused with QoS 1", publish(level, "no/x", 1, "x"), "", ack(level, packets.PUBACK, denied)},
			{"refused with QoS 2", publish(level, "no/x", 2, ""), "", ack(level, packets.PUBREC, denied)},
			{"refused for its QoS", publish(level, "q", 1, "x") + publish(level, "q", 0, "x"), publish(level, "q", 0, "x"), ack(level, packets.PUBACK, denied)},
			{"long", publish(level, "a", 1, strings.Repeat("x", 20000)), publish(level, "a", 1, strings.Repeat("x", 20000)), ""},
			{"refused and long", publish(level, "no", 1, strings.Repeat("x", 20000)), "", ack(level, packets.PUBACK, denied)},
			{"refused amid others", pingreq + publish(level, "a", 0, "x") + publish(level, "no", 1, "x") + publish(level, "b", 0, "y") + pingreq,
				pingreq + publish(level, "a", 0, "x") + publish(level, "b", 0, "y") + pingreq, ack(level, packets.PUBACK, denied)},
			{"subscription", subscribe(level, packets.SUBSCRIBE, "a", "b/#"), subscribe(level, packets.SUBSCRIBE, "a", "b/#"), ""},
			{"refused subscription", subscribe(level, packets.SUBSCRIBE, "no/x", "#"), "", suback(level, no, no)},
			{"partly refused subscription", subscribe(level, packets.SUBSCRIBE, "a", "no/x", "b/#"), subscribe(level, packets.SUBSCRIBE, "a", "b/#"), ""},
			{"not a filter", subscribe(level, packets.SUBSCRIBE, "a#"), "", suback(level, no)},
			{"end of subscription", subscribe(level, packets.UNSUBSCRIBE, "no/x"), subscribe(level, packets.UNSUBSCRIBE, "no/x"), ""},
			{"acknowledgements", ack(level, packets.PUBACK, 0) + ack(level, packets.PUBREL, 0), ack(level, packets.PUBACK, 0) + ack(level, packets.PUBREL, 0), ""},
			{"end", pingreq + disconnect, pingreq + disconnect, ""},
		} {
			for _, n := range []int{1, 2, 3, 7, 1 << 20} {
				up, _ := newFilters(t, level)
				pass, back, err := feed(up, test.in, n)
				if pass != test.pass || back != test.back || err != nil {
					t.Errorf("level %d, %s in pieces of %d: passes %.60q, answers %q, %v; want %.60q, %q", level, test.name, n, pass, back, err, test.pass, test.back)
				}
			}
		}
	}
}

// Before MQTT 5.0 the filter completes the acknowledgement of a dropped message of QoS 2 without
// the broker.
func TestReleaseOfRefusedMessage(t *testing.T) {
	refused, allowed := publish(4, "no", 2, "x"), publish(4, "a", 2, "x")
	rec, rel, comp := ack(4, packets.PUBREC, 0), ack(4, packets.PUBREL, 0), ack(4, packets.PUBCOMP, 0)
	for _, test := range []struct{ in, pass, back string }{
		{refused + rel, "", rec + comp},
		{refused + refused + rel, "", rec + rec + comp},
		{refused + rel + rel, rel, rec + comp},
		{refused + rel + allowed + rel, allowed + rel, rec + comp},
		{refused + allowed + rel, allowed + rel, rec},
		{rel + refused + rel, rel, rec + comp},
	} {
		for _, n := range []int{1, 3, 1000} {
			up, _ := newFilters(t, 4)
			if pass, back, err := feed(up, test.in, n); pass != test.pass || back != test.back || err != nil {
				t.Errorf("%x in pieces of %d: %x, %x, %v; want %x, %x", test.in, n, pass, back, err, test.pass, test.back)
			}
		}
	}
	up, _ := newFilters(t, 5)
	if pass, _, err := feed(up, publish(5, "no", 2, "x")+ack(5, packets.PUBREL, 0), 1000); pass != ack(5, packets.PUBREL, 0) || err != nil {
		t.Errorf("%x, %v: in MQTT 5.0 the refusal ends it, so a PUBREL is for the broker", pass, err)
	}
}

func TestSuback(t *testing.T) {
	for _, level := range []byte{3, 4, 5} {
		no := refusal(level)
		for _, n := range []int{1, 3, 1000} {
			up, down := newFilters(t, level)
			if _, _, err := feed(up, subscribe(level, packets.SUBSCRIBE, "no", "a", "b", "no/x", "c", "no"), n); err != nil {
				t.Fatal(err)
			}
			other := string((&packets.Suback{Type: packets.SUBACK, PacketID: 8, Codes: []packets.ReasonCode{0}}).Append(nil, level))
			message := publish(level, "no/x", 1, "x")
			in := message + other + suback(level, 0, 1, 0x80) + message + suback(level, 0)
			want := message + other + suback(level, no, 0, 1, no, 0x80, no) + message + suback(level, 0)
			if pass, back, err := feed(down, in, n); pass != want || back != "" || err != nil {
				t.Errorf("level %d in pieces of %d: %x, %x, %v; want %x", level, n, pass, back, err, want)
			}
			// The identifier is free again.
			if pass, _, err := feed(up, subscribe(level, packets.SUBSCRIBE, "a"), n); pass == "" || err != nil {
				t.Errorf("level %d: %x, %v", level, pass, err)
			}
		}
	}
}

func TestSubackFaults(t *testing.T) {
	for name, answer := range map[string]string{
		"too few codes": suback(4, 0), "too many": suback(4, 0, 0, 0), "malformed": "\x91\x02\x00\x07", "another length": "\x90\x01\x00",
	} {
		up, down := newFilters(t, 4)
		if _, _, err := feed(up, subscribe(4, packets.SUBSCRIBE, "no", "a", "b"), 1000); err != nil {
			t.Fatal(err)
		}
		pass, back, err := feed(down, pingreq+answer, 1000)
		if err == nil || pass != pingreq || back != "" {
			t.Errorf("%s: %x, %x, %v", name, pass, back, err)
		}
		if _, _, again := down.Filter([]byte(pingreq)); again != err {
			t.Errorf("%s: then %v, want %v again", name, again, err)
		}
	}
}

func TestTopicAliases(t *testing.T) {
	none := func(alias byte) string { return aliased(alias, "", 0) }
	for _, test := range []struct{ name, in, pass, back string }{
		{"allowed", aliased(1, "a", 0) + none(1), aliased(1, "a", 0) + none(1), ""},
		{"refused", aliased(1, "no", 0) + aliased(1, "", 1), "", ack(5, packets.PUBACK, 0x87)},
		{"refused, then allowed for its QoS", aliased(1, "q/x", 1) + none(1) + none(1), aliased(1, "q/x", 0) + none(1), ack(5, packets.PUBACK, 0x87)},
		{"another topic", aliased(1, "a", 0) + aliased(1, "q/y", 1) + none(1) + none(1),
			aliased(1, "a", 0) + aliased(1, "q/y", 0) + none(1), ack(5, packets.PUBACK, 0x87)},
		{"back to the first", aliased(1, "a", 0) + aliased(1, "no", 0) + none(1) + aliased(1, "a", 0) + none(1),
			aliased(1, "a", 0) + aliased(1, "a", 0) + none(1), ""},
		{"two", aliased(1, "a", 0) + aliased(2, "no", 0) + none(1) + none(2), aliased(1, "a", 0) + none(1), ""},
	} {
		for _, n := range []int{1, 4, 1000} {
			up, _ := newFilters(t, 5)
			if pass, back, err := feed(up, test.in, n); pass != test.pass || back != test.back || err != nil {
				t.Errorf("%s in pieces of %d: %x, %x, %v; want %x, %x", test.name, n, pass, back, err, test.pass, test.back)
			}
		}
	}
}

// What came before the fault passes, and a client of MQTT 5.0 gets a DISCONNECT with the reason.
func TestClientFaults(t *testing.T) {
	for _, test := range []struct {
		name string
		in   string
		code packets.ReasonCode
	}{
		{"QoS 3", "\x36\x05\x00\x01a\x00\x01", packets.MalformedPacket},
		{"wildcard", publish(5, "a/#", 0, "x"), 0},
		{"no topic", publish(5, "", 0, "x"), 0},
		{"topic beyond its packet", "\x30\x03\x00\x09a", packets.MalformedPacket},
		{"empty PUBLISH", "\x30\x00", packets.MalformedPacket},
		{"properties beyond their packet", "\x30\x05\x00\x01a\x09x", packets.MalformedPacket},
		{"length of properties", "\x30\x08\x00\x01a\xFF\xFF\xFF\xFF\x7F", packets.MalformedPacket},
		{"length of five bytes", "\x30\xFF\xFF\xFF\xFF\x01", packets.MalformedPacket},
		{"length with a spare byte", "\xC0\x80\x00", packets.MalformedPacket},
		{"alias above the maximum", aliased(4, "a", 0), 0x94},
		{"alias for nothing", aliased(3, "", 0), packets.ProtocolError},
		{"alias 0", aliased(0, "a", 0), 0},
		{"SUBSCRIBE without filters", "\x82\x03\x00\x01\x00", 0},
		{"SUBSCRIBE with wrong flags", "\x80" + subscribe(5, packets.SUBSCRIBE, "a")[1:], packets.MalformedPacket},
		{"identifier in use", subscribe(5, packets.SUBSCRIBE, "a", "no") + subscribe(5, packets.SUBSCRIBE, "a"), packets.ProtocolError},
		{"SUBSCRIBE of 128 KiB", "\x82\x80\x80\x08", packets.PacketTooLarge},
		{"properties of 128 KiB", "\x30\x80\x80\x80\x01\x00\x01a\x80\x80\x08", packets.PacketTooLarge},
	} {
		for _, n := range []int{1, 3, 1000} {
			up, _ := newFilters(t, 5)
			pass, back, err := feed(up, pingreq+test.in, n)
			if err == nil || !strings.HasPrefix(pass, pingreq) {
				t.Errorf("%s in pieces of %d: %x, %v", test.name, n, pass, err)
				continue
			}
			var d packets.Disconnect
			if e := d.Parse([]byte(back), 5); e != nil || test.code != 0 && d.Code != test.code || d.Code < 0x80 {
				t.Errorf("%s: the client gets %x (%v), want %v", test.name, back, e, test.code)
			}
			if pass, back, again := up.Filter([]byte(pingreq)); again != err || pass != nil || back != nil {
				t.Errorf("%s: then %x, %x, %v", test.name, pass, back, again)
			}
		}
	}
	up, _ := newFilters(t, 4)
	if _, back, err := feed(up, "\x36\x05\x00\x01a\x00\x01", 1); !errors.As(err, new(*packets.MalformedError)) || back != "" {
		t.Errorf("%x, %v: 3.1.1 has no DISCONNECT for clients", back, err)
	}
}

// Before MQTT 5.0 a remaining length may take more bytes than it needs, and MQTT 3.1
// leaves bits unused that later versions demand to be 0. Rules hold all the same.
func TestClientOfItsOwnVersion(t *testing.T) {
	const length = "\x80\x00" // behind a first length byte with its top bit set
	for _, test := range []struct {
		name           string
		level          byte
		in, pass, back string
	}{
		{"PINGREQ with a long length", 4, "\xC0" + length, "\xC0" + length, ""},
		{"PUBLISH with a long length", 4, "\x30\x84" + length + "\x00\x01ax", "\x30\x84" + length + "\x00\x01ax", ""},
		{"refused PUBLISH with a long length", 4, "\x32\x87" + length + "\x00\x02no\x00\x07x", "", "\x40\x02\x00\x07"},
		{"SUBSCRIBE with DUP", 3, "\x8A\x06\x00\x07\x00\x01a\x00", "\x8A\x06\x00\x07\x00\x01a\x00", ""},
		{"SUBSCRIBE with unused options", 3, "\x83\x06\x00\x07\x00\x01a\xFC", "\x83\x06\x00\x07\x00\x01a\xFC", ""},
		{"refused SUBSCRIBE with DUP", 3, "\x8A\x07\x00\x07\x00\x02no\x00", "", "\x90\x03\x00\x07\x80"},
		{"SUBSCRIBE with DUP, refused in part", 3, "\x8A\x0B\x00\x07\x00\x01a\x00\x00\x02no\x00", "\x82\x06\x00\x07\x00\x01a\x00", ""},
		{"UNSUBSCRIBE with DUP", 3, "\xAA\x05\x00\x07\x00\x01a", "\xAA\x05\x00\x07\x00\x01a", ""},
		{"PUBREL with DUP for a refused message", 3, publish(3, "no", 2, "x") + "\x6A\x02\x00\x07", "", ack(3, packets.PUBREC, 0) + ack(3, packets.PUBCOMP, 0)},
		{"PUBLISH of QoS 0 with DUP", 3, "\x38\x04\x00\x01ax", "\x38\x04\x00\x01ax", ""},
	} {
		for _, n := range []int{1, 4, 1000} {
			up, _ := newFilters(t, test.level)
			if pass, back, err := feed(up, test.in, n); pass != test.pass || back != test.back || err != nil {
				t.Errorf("%s in pieces of %d: %x, %x, %v; want %x, %x", test.name, n, pass, back, err, test.pass, test.back)
			}
		}
	}
}

func TestBounds(t *testing.T) {
	up, _ := inspect.New(inspect.Session{Level: 5, ACL: rights(t), Broker: inspect.Limits{TopicAliasMaximum: 65535}})
	var err error
	n := 0
	for ; err == nil && n < 1000; n++ {
		_, _, err = feed(up, aliased(byte(n%200+1), fmt.Sprintf("%060000d", n), 0), 1<<20)
	}
	if err == nil || n > 6 {
		t.Errorf("%d topics of 60 kB, %v", n, err)
	}
	up, _ = newFilters(t, 4)
	for id, err := 1, error(nil); err == nil; id++ {
		s := packets.Subscribe{Type: packets.SUBSCRIBE, PacketID: uint16(id)}
		s.Add("a", 0)
		s.Add("no", 0)
		if _, _, err = up.Filter(s.Append(nil, 4)); id > 2000 {
			t.Fatal("the broker owes any number of answers")
		}
	}
	// The same topic again and again takes no more.
	up, _ = newFilters(t, 5)
	for n := range 1000 {
		if _, _, err := feed(up, aliased(1, fmt.Sprintf("%01000d", n), 0), 1<<20); err != nil {
			t.Fatal(err)
		}
	}
}

// A payload goes through as it comes.
func TestPayloadIsNotHeld(t *testing.T) {
	piece := bytes.Repeat([]byte("x"), 16<<10)
	for _, topic := range []string{"a", "no"} {
		up, _ := newFilters(t, 4)
		p := packets.Publish{Topic: []byte(topic), QoS: 1, PacketID: 7}
		if pass, back, err := up.Filter(p.AppendHeader(nil, 4, 64*len(piece))); len(back) > 0 || err != nil || len(pass) == 0 != (topic == "no") {
			t.Fatalf("%s: %q, %q, %v", topic, pass, back, err)
		}
		for i := range 64 {
			pass, back, err := up.Filter(piece)
			if err != nil || (len(back) > 0) != (topic == "no" && i == 63) {
				t.Fatalf("%s: %q, %v after piece %d", topic, back, err, i)
			}
			if topic == "a" && (len(pass) != len(piece) || &pass[0] != &piece[0]) || topic == "no" && len(pass) > 0 {
				t.Fatalf("%s: %d bytes of piece %d pass", topic, len(pass), i)
			}
		}
	}
}

func TestWill(t *testing.T) {
	for topic, allowed := range map[string]bool{"a": true, "no/x": false, "q": true} {
		w, err := inspect.Will(rights(t), nil, packets.Will{Topic: topic})
		if (err == nil) != allowed || allowed && w.Topic != topic {
			t.Errorf("%s: %+v, %v", topic, w, err)
		}
	}
	if _, err := inspect.Will(rights(t), nil, packets.Will{Topic: "q", QoS: 1}); err == nil {
		t.Error("a will is allowed with a QoS that is not")
	}
	if _, err := inspect.Will(new(authz.BoundACL), nil, packets.Will{Topic: "a"}); err == nil {
		t.Error("rules that allow nothing allow a will")
	}
}

func TestAllocations(t *testing.T) {
	for name, test := range map[string]struct {
		level byte
		in    string
	}{
		"3.1.1":      {4, publish(4, "v1/devices/thermostat-0001/telemetry", 1, "x")},
		"5.0":        {5, publish(5, "v1/devices/thermostat-0001/telemetry", 1, "x")},
		"alias":      {5, aliased(1, "v1/devices/thermostat-0001/telemetry", 0) + aliased(1, "", 0)},
		"PUBREL":     {4, ack(4, packets.PUBREL, 0)},
		"refused":    {5, publish(5, "no", 1, "x")},
		"two pieces": {5, publish(5, "a", 1, "x") + publish(5, "no", 1, "x") + pingreq},
	} {
		up, _ := newFilters(t, test.level)
		in := []byte(test.in)
		if n := testing.AllocsPerRun(100, func() { up.Filter(in) }); n > 0 {
			t.Errorf("%s: %v allocations", name, n)
		}
	}
	_, down := newFilters(t, 5)
	in := []byte(publish(5, "a", 1, "x") + suback(5, 0) + pingreq)
	if n := testing.AllocsPerRun(100, func() { down.Filter(in) }); n > 0 {
		t.Errorf("from the broker: %v allocations", n)
	}
}
