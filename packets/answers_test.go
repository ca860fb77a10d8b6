package packets

import (
	"bytes"
	"reflect"
	"testing"
)

// parser is implemented by all packets but CONNECT and PUBLISH.
type parser interface {
	Parse(raw []byte, level byte) error
	Append(dst []byte, level byte) []byte
}

func TestAnswers(t *testing.T) {
	reason := Properties(text(ReasonString, "r"))
	for _, test := range []struct {
		name  string
		level byte
		raw   []byte
		want  parser
	}{
		{"CONNACK", 4, packet(0x20, "\x01\x00"), &Connack{SessionPresent: true}},
		{"CONNACK", 3, packet(0x20, "\x00\x05"), &Connack{Code: RefusedNotAuthorized}},
		{"CONNACK", 5, packet(0x20, "\x00\x87", props(string(reason))), &Connack{Code: NotAuthorized, Properties: reason}},
		{"CONNACK", 5, packet(0x20, "\x00\x00", props()), &Connack{}},
		{"refusing CONNACK with a session", 4, packet(0x20, "\x01\x05"), &Connack{SessionPresent: true, Code: RefusedNotAuthorized}},
		{"DISCONNECT", 4, packet(0xE0), &Disconnect{}},
		{"DISCONNECT", 5, packet(0xE0), &Disconnect{}},
		{"DISCONNECT", 5, packet(0xE0, "\x98"), &Disconnect{Code: AdministrativeAction}},
		{"DISCONNECT", 5, packet(0xE0, "\x00", props(string(reason))), &Disconnect{Properties: reason}},
		{"PUBACK", 4, packet(0x40, "\x12\x34"), &Ack{Type: PUBACK, PacketID: 0x1234}},
		{"PUBACK", 5, packet(0x40, "\x12\x34"), &Ack{Type: PUBACK, PacketID: 0x1234}},
		{"PUBREC", 5, packet(0x50, "\x00\x01\x87"), &Ack{Type: PUBREC, PacketID: 1, Code: NotAuthorized}},
		{"PUBREL", 3, packet(0x62, "\x00\x01"), &Ack{Type: PUBREL, PacketID: 1}},
		{"PUBCOMP", 5, packet(0x70, "\x00\x01\x92", props(string(reason))), &Ack{Type: PUBCOMP, PacketID: 1, Code: 0x92, Properties: reason}},
		{"SUBSCRIBE", 4, packet(0x82, "\x00\x01", field("a/#"), "\x02", field("b"), "\x00"),
			&Subscribe{Type: SUBSCRIBE, PacketID: 1, Payload: []byte(field("a/#") + "\x02" + field("b") + "\x00")}},
		{"SUBSCRIBE", 5, packet(0x82, "\x00\x01", props(num(0x0B, 7)), field("+"), "\x2D"),
			&Subscribe{Type: SUBSCRIBE, PacketID: 1, Properties: Properties(num(0x0B, 7)), Payload: []byte(field("+") + "\x2D")}},
		{"UNSUBSCRIBE", 5, packet(0xA2, "\x00\x01", props(), field("a"), field("b")),
			&Subscribe{Type: UNSUBSCRIBE, PacketID: 1, Payload: []byte(field("a") + field("b"))}},
		{"SUBACK", 4, packet(0x90, "\x00\x01\x02\x80"), &Suback{Type: SUBACK, PacketID: 1, Codes: []ReasonCode{2, 0x80}}},
		{"SUBACK", 5, packet(0x90, "\x00\x01", props(string(reason)), "\x87"), &Suback{Type: SUBACK, PacketID: 1, Properties: reason, Codes: []ReasonCode{NotAuthorized}}},
		{"UNSUBACK", 4, packet(0xB0, "\x00\x01"), &Suback{Type: UNSUBACK, PacketID: 1}},
		{"UNSUBACK", 5, packet(0xB0, "\x00\x01", props(), "\x11"), &Suback{Type: UNSUBACK, PacketID: 1, Codes: []ReasonCode{0x11}}},
	} {
		t.Run(test.name, func(t *testing.T) {
			got := reflect.New(reflect.TypeOf(test.want).Elem()).Interface().(parser)
			if err := got.Parse(test.raw, test.level); err != nil {
				t.Fatalf("%x: %v", test.raw, err)
			}
			if !reflect.DeepEqual(got, test.want) {
				t.Errorf("got %+v, want %+v", got, test.want)
			}
			if back := test.want.Append([]byte("x"), test.level); !bytes.Equal(back[1:], test.raw) {
				t.Errorf("Append wrote %x, want %x", back[1:], test.raw)
			}
			for n := range test.raw {
				if got.Parse(test.raw[:n], test.level) == nil {
					t.Errorf("accepted the first %d bytes of %x", n, test.raw)
				}
			}
		})
	}
}

func TestAnswersRefused(t *testing.T) {
	for _, test := range []struct {
		name  string
		rule  string
		level byte
		raw   []byte
		into  parser
	}{
		{"other packet", "section 2.1.2", 5, packet(0x30, field("t")), &Connack{}},
		{"nothing", "section 2.2.3", 4, nil, &Connack{}},
		{"CONNACK flags in first byte", "MQTT-2.2.2-2", 4, packet(0x21, "\x00\x00"), &Connack{}},
		{"CONNACK reserved flags", "MQTT-3.2.2-1", 5, packet(0x20, "\x02\x00", props()), &Connack{}},
		{"CONNACK reserved flags", "section 3.2.2.1", 4, packet(0x20, "\x80\x00"), &Connack{}},
		{"CONNACK without properties", "MQTT-2.2.2-1", 5, packet(0x20, "\x00\x00"), &Connack{}},
		{"CONNACK with too much", "section 2.2.3", 4, packet(0x20, "\x00\x00\x00"), &Connack{}},
		{"CONNACK with too little", "section 2.2.3", 4, packet(0x20, "\x00"), &Connack{}},
		{"CONNACK and more", "section 2.2.3", 4, append(packet(0x20, "\x00\x00"), 0xD0), &Connack{}},
		{"CONNACK with CONNECT property", "section 2.2.2.2", 5, packet(0x20, "\x00\x00", props(num(0x17, 1))), &Connack{}},
		{"DISCONNECT with reason", "section 2.2.3", 4, packet(0xE0, "\x00"), &Disconnect{}},
		{"DISCONNECT property length", "MQTT-2.2.2-1", 5, packet(0xE0, "\x00\x05"), &Disconnect{}},
		{"DISCONNECT property length", "MQTT-1.5.5-1", 5, packet(0xE0, "\x00\x80\x00"), &Disconnect{}},
		{"DISCONNECT with more", "section 2.1.4", 5, packet(0xE0, "\x00\x00\x00"), &Disconnect{}},
		{"PUBACK identifier 0", "MQTT-2.3.1-1", 4, packet(0x40, "\x00\x00"), &Ack{}},
		{"PUBACK too long", "section 2.2.3", 4, packet(0x40, "\x00\x01\x00"), &Ack{}},
		{"PUBACK too short", "section 2.1.4", 5, packet(0x40, "\x01"), &Ack{}},
		{"PUBREL flags", "MQTT-2.1.3-1", 5, packet(0x60, "\x00\x01"), &Ack{}},
		{"not an acknowledgement", "section 2.1.2", 5, packet(0x90, "\x00\x01\x00"), &Ack{}},
		{"SUBSCRIBE flags", "MQTT-2.2.2-2", 4, packet(0x80, "\x00\x01", field("a"), "\x00"), &Subscribe{}},
		{"SUBSCRIBE identifier 0", "MQTT-2.2.1-3", 5, packet(0x82, "\x00\x00", props(), field("a"), "\x00"), &Subscribe{}},
		{"SUBSCRIBE without filter", "MQTT-3.8.3-3", 4, packet(0x82, "\x00\x01"), &Subscribe{}},
		{"SUBSCRIBE empty filter", "MQTT-4.7.3-1", 4, packet(0x82, "\x00\x01", field(""), "\x00"), &Subscribe{}},
		{"SUBSCRIBE filter not UTF-8", "MQTT-3.8.3-1", 4, packet(0x82, "\x00\x01", field("\xFF"), "\x00"), &Subscribe{}},
		{"SUBSCRIBE QoS 3", "MQTT-3.8.3-4", 4, packet(0x82, "\x00\x01", field("a"), "\x03"), &Subscribe{}},
		{"SUBSCRIBE QoS 3", "section 3.8.3.1", 5, packet(0x82, "\x00\x01", props(), field("a"), "\x03"), &Subscribe{}},
		{"UNSUBSCRIBE without filter", "MQTT-3.10.3-2", 4, packet(0xA2, "\x00\x01"), &Subscribe{}},
		{"UNSUBSCRIBE filter not UTF-8", "MQTT-3.10.3-1", 4, packet(0xA2, "\x00\x01", field("\xFF")), &Subscribe{}},
		{"SUBSCRIBE reserved options", "MQTT-3.8.3-4", 4, packet(0x82, "\x00\x01", field("a"), "\x04"), &Subscribe{}},
		{"SUBSCRIBE reserved options", "MQTT-3.8.3-5", 5, packet(0x82, "\x00\x01", props(), field("a"), "\x40"), &Subscribe{}},
		{"SUBSCRIBE retain handling 3", "section 3.8.3.1", 5, packet(0x82, "\x00\x01", props(), field("a"), "\x30"), &Subscribe{}},
		{"SUBSCRIBE without options", "section 2.1.4", 5, packet(0x82, "\x00\x01", props(), field("a")), &Subscribe{}},
		{"SUBSCRIBE property", "section 2.2.2.2", 5, packet(0x82, "\x00\x01", props(text(ReasonString, "r")), field("a"), "\x00"), &Subscribe{}},
		{"SUBACK without codes", "section 3.9.3", 4, packet(0x90, "\x00\x01"), &Suback{}},
		{"SUBACK identifier 0", "MQTT-2.3.1-1", 4, packet(0x90, "\x00\x00\x00"), &Suback{}},
		{"SUBACK property", "section 2.2.2.2", 5, packet(0x90, "\x00\x01", props(num(0x0B, 1)), "\x00"), &Suback{}},
		{"UNSUBACK with codes", "section 2.2.3", 4, packet(0xB0, "\x00\x01\x00"), &Suback{}},
		{"UNSUBACK without codes", "section 3.11.3", 5, packet(0xB0, "\x00\x01", props()), &Suback{}},
	} {
		t.Run(test.name, func(t *testing.T) {
			wantRule(t, test.into.Parse(test.raw, test.level), test.rule)
		})
	}
}

// Fields that only MQTT 5.0 has are omitted below level 5.
func TestAppendOmitsFieldsOfOtherLevels(t *testing.T) {
	reason := Properties(text(ReasonString, "r"))
	for _, test := range []struct {
		packet parser
		want   []byte
	}{
		{&Connack{Code: RefusedIdentifier, Properties: reason}, packet(0x20, "\x00\x02")},
		{&Disconnect{Code: NotAuthorized, Properties: reason}, packet(0xE0)},
		{&Ack{Type: PUBREL, PacketID: 1, Code: 0x92, Properties: reason}, packet(0x62, "\x00\x01")},
		{&Subscribe{Type: UNSUBSCRIBE, PacketID: 1, Properties: reason, Payload: []byte(field("a"))}, packet(0xA2, "\x00\x01", field("a"))},
		{&Suback{Type: UNSUBACK, PacketID: 1, Properties: reason, Codes: []ReasonCode{0}}, packet(0xB0, "\x00\x01")},
	} {
		if got := test.packet.Append(nil, 4); !bytes.Equal(got, test.want) {
			t.Errorf("%T: wrote %x, want %x", test.packet, got, test.want)
		}
	}
}

func TestSubscribeFilters(t *testing.T) {
	var in Subscribe
	raw := packet(0x82, "\x00\x01", field("a/#"), "\x01")
	if err := in.Parse(raw, 4); err != nil {
		t.Fatal(err)
	}
	before := bytes.Clone(raw)
	in.Add("b", 2)
	if !bytes.Equal(raw, before) {
		t.Errorf("Add wrote into the packet that was parsed: %x", raw)
	}
	got := map[string]byte{}
	for filter, options := range in.All() {
		got[filter] = options
	}
	if want := map[string]byte{"a/#": 1, "b": 2}; !reflect.DeepEqual(got, want) {
		t.Errorf("filters are %v, want %v", got, want)
	}
	for filter := range in.All() {
		if filter != "a/#" {
			t.Errorf("went on to %q after the loop was left", filter)
		}
		break
	}
	out := Subscribe{Type: UNSUBSCRIBE, PacketID: 9}
	out.Add("a/#", 1)
	if got, want := out.Append(nil, 4), packet(0xA2, "\x00\x09", field("a/#")); !bytes.Equal(got, want) {
		t.Errorf("wrote %x, want %x", got, want)
	}
	for filter, options := range out.All() {
		if filter != "a/#" || options != 0 {
			t.Errorf("filter %q with options %d", filter, options)
		}
	}
}
