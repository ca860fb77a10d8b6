package packets

import (
	"bytes"
	"slices"
	"strings"
	"testing"
)

func TestVarint(t *testing.T) {
	for _, test := range []struct {
		n    int
		wire string
	}{
		{0, "\x00"}, {127, "\x7F"},
		{128, "\x80\x01"}, {16383, "\xFF\x7F"},
		{16384, "\x80\x80\x01"}, {2097151, "\xFF\xFF\x7F"},
		{2097152, "\x80\x80\x80\x01"}, {maxRemaining, "\xFF\xFF\xFF\x7F"},
	} {
		if got := appendVarint(nil, test.n); string(got) != test.wire || varintLen(test.n) != len(got) {
			t.Errorf("%d is written as %x, want %x", test.n, got, test.wire)
		}
		if n, size := varint([]byte(test.wire + "\xFF")); n != test.n || size != len(test.wire) {
			t.Errorf("%x is read as %d in %d bytes, want %d", test.wire, n, size, test.n)
		}
		for cut := range len(test.wire) {
			if _, size := varint([]byte(test.wire[:cut])); size != 0 {
				t.Errorf("%x is read as %d bytes", test.wire[:cut], size)
			}
		}
	}
	for _, wire := range []string{"\xFF\xFF\xFF\xFF", "\xFF\xFF\xFF\xFF\x01"} {
		if _, size := varint([]byte(wire)); size != -1 {
			t.Errorf("%x is read as %d bytes, want an error", wire, size)
		}
	}
	for _, test := range []struct {
		wire string
		n    int
	}{{"\x80\x00", 0}, {"\x81\x80\x00", 1}, {"\xFF\xFF\xFF\x00", 2097151}} {
		if n, size := varint([]byte(test.wire)); n != test.n || size != len(test.wire) {
			t.Errorf("%x is read as %d in %d bytes, want %d", test.wire, n, size, test.n)
		}
		if _, size := shortVarint([]byte(test.wire)); size != -1 {
			t.Errorf("%x is read as %d bytes where only the shortest form may stand", test.wire, size)
		}
	}
}

func TestPacketSize(t *testing.T) {
	for _, test := range []struct {
		b    string
		want int
	}{
		{"", 0}, {"\x20", 0}, {"\x20\x02", 4}, {"\x20\x02\x00\x00\xFF", 4},
		{"\x30\x80", 0}, {"\x30\x80\x01", 131}, {"\x30\xFF\xFF\xFF\x7F", 268_435_460},
	} {
		if got, err := PacketSize([]byte(test.b), 5); got != test.want || err != nil {
			t.Errorf("%x: size %d, %v; want %d", test.b, got, err, test.want)
		}
	}
	_, err := PacketSize([]byte("\x30\xFF\xFF\xFF\xFF"), 0)
	wantRule(t, err, "section 2.2.3")
}

// Only MQTT 5.0 requires the shortest form of a remaining length.
func TestRemainingLengthLongerThanNeeded(t *testing.T) {
	for _, b := range []string{"\xC0\x80\x00", "\xC0\x80\x80\x80\x00"} {
		for _, level := range []byte{0, 3, 4} {
			if size, err := PacketSize([]byte(b), level); size != len(b) || err != nil {
				t.Errorf("level %d, %x: size %d, %v; want %d", level, b, size, err, len(b))
			}
		}
		_, err := PacketSize([]byte(b), 5)
		wantRule(t, err, "MQTT-1.5.5-1")
	}
	for _, level := range []byte{3, 4, 5} {
		for _, test := range []struct {
			raw []byte
			p   parser
		}{
			{packet(0x20, "\x00\x00", propsOf(level)), &Connack{}},
			{packet(0x40, "\x00\x01"), &Ack{}},
			{packet(0x82, "\x00\x01", propsOf(level), field("t"), "\x00"), &Subscribe{}},
			{packet(0x90, "\x00\x01", propsOf(level), "\x00"), &Suback{}},
			{packet(0xE0), &Disconnect{}},
		} {
			longer := slices.Concat(test.raw[:1], []byte{test.raw[1] | 0x80, 0x80, 0}, test.raw[2:])
			err := test.p.Parse(longer, level)
			if level == 5 {
				wantRule(t, err, "MQTT-1.5.5-1")
			} else if err != nil {
				t.Errorf("level %d, %x: %v", level, longer, err)
			}
		}
	}
}

// propsOf returns an empty property length where the level has one.
func propsOf(level byte) string {
	if level < 5 {
		return ""
	}
	return props()
}

// MQTT 3.1 does not use the bits that must be 0 in 3.1.1, and allows DUP in every packet that
// is acknowledged.
func TestUnusedBitsOfMQTT31(t *testing.T) {
	for _, test := range []struct {
		name   string
		raw    []byte
		p      parser
		passes bool
	}{
		{"SUBSCRIBE with DUP", packet(0x8A, "\x00\x01", field("t"), "\x01"), &Subscribe{}, true},
		{"SUBSCRIBE with RETAIN", packet(0x83, "\x00\x01", field("t"), "\x01"), &Subscribe{}, true},
		{"SUBSCRIBE of QoS 0", packet(0x80, "\x00\x01", field("t"), "\x01"), &Subscribe{}, false},
		{"SUBSCRIBE of QoS 2", packet(0x84, "\x00\x01", field("t"), "\x01"), &Subscribe{}, false},
		{"SUBSCRIBE with unused options", packet(0x82, "\x00\x01", field("t"), "\xFD"), &Subscribe{}, true},
		{"SUBSCRIBE that asks for QoS 3", packet(0x82, "\x00\x01", field("t"), "\x03"), &Subscribe{}, false},
		{"UNSUBSCRIBE with DUP", packet(0xAA, "\x00\x01", field("t")), &Subscribe{}, true},
		{"UNSUBSCRIBE of QoS 0", packet(0xA0, "\x00\x01", field("t")), &Subscribe{}, false},
		{"PUBREL with DUP", packet(0x6A, "\x00\x01"), &Ack{}, true},
		{"PUBREL of QoS 0", packet(0x60, "\x00\x01"), &Ack{}, false},
		{"PUBACK with all", packet(0x4F, "\x00\x01"), &Ack{}, true},
		{"PUBREC with DUP", packet(0x58, "\x00\x01"), &Ack{}, true},
		{"PUBCOMP with QoS 1", packet(0x72, "\x00\x01"), &Ack{}, true},
		{"SUBACK with RETAIN", packet(0x91, "\x00\x01", "\x00"), &Suback{}, true},
		{"UNSUBACK with QoS 1", packet(0xB2, "\x00\x01"), &Suback{}, true},
		{"CONNACK with DUP", packet(0x28, "\x00\x00"), &Connack{}, true},
		{"CONNACK with its first byte in use", packet(0x20, "\xFE\x00"), &Connack{}, true},
		{"DISCONNECT with RETAIN", packet(0xE1), &Disconnect{}, true},
		{"PUBLISH of QoS 0 with DUP", packet(0x38, field("t")), &publishParser{}, true},
		{"PUBLISH of QoS 3", packet(0x36, field("t"), "\x00\x01"), &publishParser{}, false},
	} {
		t.Run(test.name, func(t *testing.T) {
			if err := test.p.Parse(test.raw, 3); (err == nil) != test.passes {
				t.Errorf("MQTT 3.1: %v", err)
			}
			if test.p.Parse(test.raw, 4) == nil {
				t.Error("MQTT 3.1.1 accepts it")
			}
		})
	}
}

// publishParser makes a Publish a parser.
type publishParser struct{ Publish }

func (p *publishParser) Parse(raw []byte, level byte) error {
	_, err := p.Publish.Parse(raw, level)
	return err
}

func TestTypeNames(t *testing.T) {
	for typ := CONNECT; typ <= AUTH; typ++ {
		if s := typ.String(); s != strings.ToUpper(s) {
			t.Errorf("type %d prints as %s", byte(typ), s)
		}
	}
	if s := Type(16).String(); s != "packet" || Type(0).String() != s {
		t.Errorf("a type that does not exist prints as %s", s)
	}
	if got := []byte{CONNECT.firstByte(), PUBREL.firstByte(), SUBSCRIBE.firstByte(), UNSUBSCRIBE.firstByte(), AUTH.firstByte()}; !bytes.Equal(got, []byte{0x10, 0x62, 0x82, 0xA2, 0xF0}) {
		t.Errorf("first bytes are %x", got)
	}
}

func TestReasonCodeNames(t *testing.T) {
	for code, want := range map[ReasonCode]string{
		Success:                "Success",
		RefusedNotAuthorized:   "Not authorized",
		0x06:                   "Reason code 0x06",
		0x10:                   "No matching subscribers",
		0x11:                   "No subscription existed",
		0x18:                   "Continue authentication",
		0x19:                   "Re-authenticate",
		0x7F:                   "Reason code 0x7F",
		0x80:                   "Unspecified error",
		BadUserNameOrPassword:  "Bad User Name or Password",
		SessionTakenOver:       "Session taken over",
		AdministrativeAction:   "Administrative action",
		ConnectionRateExceeded: "Connection rate exceeded",
		0xA2:                   "Wildcard Subscriptions not supported",
		0xA3:                   "Reason code 0xA3",
		0xFF:                   "Reason code 0xFF",
	} {
		if got := code.String(); got != want {
			t.Errorf("0x%02X prints as %q, want %q", byte(code), got, want)
		}
	}
}
