package packets

import (
	"bytes"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"testing"
)

// connect returns a CONNECT of the level, with the protocol name of that level. The parts
// follow the keep alive of 60 s.
func connect(level, flags byte, parts ...string) []byte {
	name := "\x00\x04MQTT"
	if level&^bridgeBit == 3 {
		name = "\x00\x06MQIsdp"
	}
	return packet(0x10, name+string([]byte{level, flags, 0, 60})+strings.Join(parts, ""))
}

// parseConnect reads raw the way a proxy does.
func parseConnect(raw []byte) (*Connect, error) {
	return ReadConnect(bytes.NewReader(raw), 1<<20)
}

func mustConnect(t testing.TB, raw []byte) *Connect {
	t.Helper()
	c, err := parseConnect(raw)
	if err != nil {
		t.Fatalf("%x: %v", raw, err)
	}
	return c
}

// The rules of sections other than 3.1 that a CONNECT can violate.
func TestConnectRefused(t *testing.T) {
	const id = "\x00\x02id"
	will5 := func(p string, topic string) []byte {
		return connect(5, 0x06, props(), id, p, field(topic), field("m"))
	}
	data := text(AuthenticationData, "d")
	method := text(AuthenticationMethod, "m")
	for _, test := range []struct {
		name   string
		rule   string
		code   ReasonCode
		breaks []byte
		fits   []byte
	}{
		{"fixed header flags", "MQTT-2.2.2-2", 0x81, packet(0x12, "\x00\x04MQTT\x04\x02\x00\x3C", id), connect(4, 2, id)},
		{"remaining length of five bytes", "section 2.2.3", 0x81, []byte("\x10\xFF\xFF\xFF\xFF\x01........"), nil},
		{"remaining length longer than needed", "MQTT-1.5.5-1", 0x81, longer(connect(5, 2, props(), id)), connect(5, 2, props(), id)},
		{"nothing behind the level", "section 2.2.3", 0x81, packet(0x10, "\x00\x04MQTT\x04"), nil},
		{"nothing behind the flags", "section 2.1.4", 0x81, packet(0x10, "\x00\x04MQTT\x05\x02"), nil},
		{"no protocol level", "section 2.2.3", 0x81, packet(0x10, "\x00\x04MQTT"), nil},
		{"half a protocol name", "section 2.2.3", 0x81, packet(0x10, "\x00\x06MQIs"), nil},
		{"no protocol name", "section 2.2.3", 0x81, packet(0x10), nil},

		{"client identifier with U+0000", "MQTT-1.5.3-2", 0x81, connect(4, 2, field("i\x00d")), connect(4, 2, field("i\x01d"))},
		{"user name with U+0000", "MQTT-1.5.4-2", 0x81, connect(5, 0x82, props(), id, field("\x00")), connect(5, 0x82, props(), id, field("\x7F"))},
		{"empty will topic", "MQTT-4.7.3-1", 0x82, connect(4, 6, id, field(""), field("m")), connect(4, 6, id, field("/"), field(""))},
		{"+ in will topic", "MQTT-4.7.1-1", 0x82, connect(4, 6, id, field("a/+"), field("m")), connect(4, 6, id, field("a/*"), field("m"))},
		{"# in will topic", "MQTT-4.7.0-1", 0x82, will5(props(), "a/#"), will5(props(), "a/b")},

		{"no property length", "MQTT-2.2.2-1", 0x81, connect(5, 2), nil},
		{"property length past the end", "MQTT-2.2.2-1", 0x81, connect(5, 2, "\x20", id), nil},
		{"property length longer than needed", "MQTT-1.5.5-1", 0x81, connect(5, 2, "\x80\x00", id), connect(5, 2, props(), id)},
		{"will property length past the end", "MQTT-2.2.2-1", 0x81, will5("\x70", "t"), nil},
		{"unknown property", "section 2.2.2.2", 0x81, connect(5, 2, props("\x04\x00"), id), nil},
		{"property identifier of two bytes", "section 2.2.2.2", 0x81, connect(5, 2, props("\xA6\x00\x00\x00\x00\x00"), id), nil},
		{"property beyond the table", "section 2.2.2.2", 0x81, connect(5, 2, props("\x2B\x00"), id), nil},
		{"property cut off", "section 2.2.2.2", 0x81, connect(5, 2, props("\x11\x00\x00\x00"), id), connect(5, 2, props("\x11\x00\x00\x00\x00"), id)},
		{"text property cut off", "section 2.2.2.2", 0x81, connect(5, 2, props("\x15\x00\x02m"), id), connect(5, 2, props("\x15\x00\x01m"), id)},
		{"user property without value", "section 2.2.2.2", 0x81, connect(5, 2, props("\x26\x00\x01n"), id), connect(5, 2, props("\x26\x00\x01n\x00\x00"), id)},
		{"will property in CONNECT", "section 2.2.2.2", 0x81, connect(5, 2, props(num(0x18, 0, 0, 0, 1)), id), will5(props(num(0x18, 0, 0, 0, 1)), "t")},
		{"CONNACK property in CONNECT", "section 2.2.2.2", 0x81, connect(5, 2, props(text(ReasonString, "r")), id), nil},
		{"CONNECT property in will", "section 2.2.2.2", 0x81, will5(props(num(0x21, 0, 1)), "t"), connect(5, 2, props(num(0x21, 0, 1)), id)},
		{"PUBLISH property in will", "section 2.2.2.2", 0x81, will5(props(num(0x23, 0, 1)), "t"), nil},
		{"property twice", "section 2.2.2.2", 0x82, connect(5, 2, props(num(0x22, 0, 1), num(0x22, 0, 1)), id), connect(5, 2, props(pairOf("a", "b"), pairOf("a", "b")), id)},
		{"will property twice", "section 2.2.2.2", 0x82, will5(props(num(0x01, 0), num(0x01, 0)), "t"), will5(props(num(0x01, 1)), "t")},
		{"Receive Maximum 0", "section 2.2.2.2", 0x82, connect(5, 2, props(num(0x21, 0, 0)), id), connect(5, 2, props(num(0x21, 0, 1)), id)},
		{"Maximum Packet Size 0", "section 2.2.2.2", 0x82, connect(5, 2, props(num(0x27, 0, 0, 0, 0)), id), connect(5, 2, props(num(0x27, 0, 0, 0, 1)), id)},
		{"Request Problem Information 2", "section 2.2.2.2", 0x82, connect(5, 2, props(num(0x17, 2)), id), connect(5, 2, props(num(0x17, 1)), id)},
		{"Request Response Information 2", "section 2.2.2.2", 0x82, connect(5, 2, props(num(0x19, 2)), id), connect(5, 2, props(num(0x19, 1)), id)},
		{"Payload Format Indicator 2", "section 2.2.2.2", 0x82, will5(props(num(0x01, 2)), "t"), will5(props(num(0x01, 0)), "t")},
		{"Authentication Data alone", "section 3.1.2.11.10", 0x82, connect(5, 2, props(data), id), connect(5, 2, props(data, method), id)},
		{"Authentication Method not UTF-8", "MQTT-1.5.4-1", 0x81, connect(5, 2, props(text(AuthenticationMethod, "\xFF")), id), connect(5, 2, props(method, text(AuthenticationData, "\xFF\x00")), id)},
		{"user property name not UTF-8", "MQTT-1.5.7-1", 0x81, connect(5, 2, props(pairOf("\xFF", "")), id), nil},
		{"user property value not UTF-8", "MQTT-1.5.7-1", 0x81, connect(5, 2, props(pairOf("", "\xED\xA0\x80")), id), connect(5, 2, props(pairOf("", "")), id)},
		{"user property with U+0000", "MQTT-1.5.4-2", 0x81, connect(5, 2, props(pairOf("a", "\x00")), id), nil},
		{"response topic with wildcard", "MQTT-3.3.2-14", 0x82, will5(props(text(ResponseTopic, "a/#")), "t"), will5(props(text(ResponseTopic, "a/b")), "t")},
		{"empty response topic", "MQTT-4.7.3-1", 0x82, will5(props(text(ResponseTopic, "")), "t"), nil},
	} {
		t.Run(test.name, func(t *testing.T) {
			_, err := parseConnect(test.breaks)
			wantRule(t, err, test.rule)
			if malformed := new(MalformedError); errors.As(err, &malformed) && malformed.Code != test.code {
				t.Errorf("code is %#x, want %#x", byte(malformed.Code), byte(test.code))
			}
			if test.fits != nil {
				mustConnect(t, test.fits)
			}
		})
	}
}

// longer returns a packet of less than 128 bytes whose remaining length is encoded in three
// bytes.
func longer(raw []byte) []byte {
	return slices.Concat(raw[:1], []byte{raw[1] | 0x80, 0x80, 0}, raw[2:])
}

// Only MQTT 5.0 requires the remaining length in its shortest form.
func TestConnectWithALongRemainingLength(t *testing.T) {
	for _, level := range []byte{3, 4} {
		raw := connect(level, 0x82, field("id"), field("token"))
		for _, max := range []int{1 << 10, len(raw) + 2} {
			c, err := ReadConnect(bytes.NewReader(longer(raw)), max)
			if err != nil {
				t.Fatalf("level %d: %v", level, err)
			}
			if c.Username != "token" || !bytes.Equal(c.Append(nil), raw) {
				t.Errorf("level %d: got %v, wrote %x; want %x", level, c, c.Append(nil), raw)
			}
		}
	}
}

// MQTT 3.1 has its own rules, in section 3.1.
func TestConnectRefused31(t *testing.T) {
	const id = "\x00\x02id"
	for _, test := range []struct {
		name, rule string
		breaks     []byte
	}{
		{"will QoS 3", "MQTT-3.1.2-14", connect(3, 0x1E, id, field("t"), field("m"))},
		{"password alone", "MQTT-3.1.2-22", connect(3, 0x42, id, field("p"))},
		{"user name cut off", "MQTT-3.1.2-19", connect(3, 0x82, id, "\x00")},
		{"password cut off", "MQTT-3.1.2-21", connect(3, 0xC2, id, field("u"), "\x00\x02p")},
		{"bytes behind the last field", "MQTT-3.1.2-18", connect(3, 2, id, field("u"))},
	} {
		t.Run(test.name, func(t *testing.T) {
			_, err := parseConnect(test.breaks)
			wantRule(t, err, test.rule)
		})
	}
}

// Bits and fields that MQTT 3.1 does not use are not passed on either.
func TestConnectAccepted31(t *testing.T) {
	const id = "\x00\x02id"
	user := field("u")
	first := func(b byte, raw []byte) []byte { return append([]byte{b}, raw[1:]...) }
	for _, test := range []struct {
		name   string
		raw    []byte
		passed []byte
	}{
		{"unused flag", connect(3, 0x83, id, user), connect(3, 0x82, id, user)},
		{"will QoS and retain without will", connect(3, 0xBA, id, user), connect(3, 0x82, id, user)},
		{"user name announced and missing", connect(3, 0xC2, id), connect(3, 2, id)},
		{"password announced and missing", connect(3, 0xC2, id, user), connect(3, 0x82, id, user)},
		{"DUP", first(0x18, connect(3, 2, id)), connect(3, 2, id)},
		{"all but TLS", first(0x1F, connect(3, 2, id)), connect(3, 2, id)},
		{"identifier of 24 bytes", connect(3, 2, field(strings.Repeat("x", 24))), connect(3, 2, field(strings.Repeat("x", 24)))},
	} {
		t.Run(test.name, func(t *testing.T) {
			if got := mustConnect(t, test.raw).Append(nil); !bytes.Equal(got, test.passed) {
				t.Errorf("passed on as %x, want %x", got, test.passed)
			}
			if test.raw[0] != 0x10 {
				raw := first(test.raw[0], connect(4, 2, id))
				_, err := parseConnect(raw)
				wantRule(t, err, "MQTT-2.2.2-2")
			}
		})
	}
}

func TestConnectFields(t *testing.T) {
	raw := connect(5|bridgeBit, 0xF6,
		props(num(0x11, 0, 0, 1, 0), pairOf("k", "v")), field("id"),
		props(num(0x18, 0, 0, 0, 5)), field("t/w"), field("\x00\xFF"), field("user"), field("\x00pw"))
	want := &Connect{
		Level: 5, Bridge: true, CleanStart: true, KeepAlive: 60,
		HasWill: true, HasUsername: true, HasPassword: true,
		Properties: Properties(num(0x11, 0, 0, 1, 0) + pairOf("k", "v")),
		ClientID:   "id",
		Will: Will{Topic: "t/w", Payload: []byte("\x00\xFF"), QoS: 2, Retain: true,
			Properties: Properties(num(0x18, 0, 0, 0, 5))},
		Username: "user", Password: "\x00pw",
	}
	c := mustConnect(t, raw)
	if !reflect.DeepEqual(c, want) {
		t.Errorf("got %#v, want %#v", *c, *want)
	}
	if got := want.Append([]byte("before")); string(got) != "before"+string(raw) {
		t.Errorf("Append wrote %x", got)
	}
}

func TestConnectBridge(t *testing.T) {
	for _, level := range []byte{3, 4, 5} {
		rest := field("bridge")
		if level == 5 {
			rest = props() + rest
		}
		raw := connect(level|bridgeBit, 2, rest)
		c := mustConnect(t, raw)
		if c.Level != level || !c.Bridge {
			t.Errorf("level %d, bridge %v; want level %d of a bridge", c.Level, c.Bridge, level)
		}
		if got := c.Append(nil); string(got) != string(raw) {
			t.Errorf("Append wrote %x, want %x", got, raw)
		}
	}
}

func TestMissingClientID(t *testing.T) {
	for _, test := range []struct {
		raw  []byte
		want bool
	}{
		{connect(4, 0, field("")), true},
		{connect(3, 0, field("")), true},
		{connect(3, 2, field("")), true},
		{connect(3, 2, field("a")), false},
		{connect(4, 2, field("")), false},
		{connect(4, 0, field("a")), false},
		{connect(5, 0, props(), field("")), false},
	} {
		if c := mustConnect(t, test.raw); c.MissingClientID() != test.want {
			t.Errorf("%x: MissingClientID is %v", test.raw, !test.want)
		}
	}
}

func TestConnectCheck(t *testing.T) {
	long := strings.Repeat("x", 65536)
	for _, test := range []struct {
		name, rule string
		change     func(*Connect)
	}{
		{"longest fields", "", func(c *Connect) { c.ClientID, c.Username, c.Password = long[1:], long[1:], long[1:] }},
		{"long client identifier", "section 1.5.6", func(c *Connect) { c.ClientID = long }},
		{"long user name", "section 1.5.6", func(c *Connect) { c.Username = long }},
		{"long password", "section 1.5.6", func(c *Connect) { c.Password = long }},
		{"long will payload", "section 1.5.6", func(c *Connect) { c.Will.Payload = []byte(long) }},
		{"long will topic", "section 1.5.6", func(c *Connect) { c.Will.Topic = long }},
		{"user name not UTF-8", "MQTT-3.1.3-12", func(c *Connect) { c.Username = "\xFF" }},
		{"client identifier with U+0000", "MQTT-1.5.4-2", func(c *Connect) { c.ClientID = "\x00" }},
		{"absent fields do not count", "", func(c *Connect) { c.HasUsername, c.Username = false, "\xFF" }},
		{"will QoS", "MQTT-3.1.2-12", func(c *Connect) { c.Will.QoS = 3 }},
		{"no will, no will QoS", "", func(c *Connect) { c.HasWill, c.Will = false, Will{QoS: 3} }},
		{"password alone", "", func(c *Connect) { c.HasUsername = false }},
		{"password alone in 3.1.1", "MQTT-3.1.2-22", func(c *Connect) { c.Level, c.HasUsername = 4, false }},
		{"property", "section 2.2.2.2", func(c *Connect) { c.Properties = Properties{0x7F} }},
		{"will property", "section 2.2.2.2", func(c *Connect) { c.Will.Properties = Properties{0x7F} }},
		{"packet too long", "section 1.5.5", func(c *Connect) { c.Properties = make(Properties, maxRemaining) }},
	} {
		t.Run(test.name, func(t *testing.T) {
			c := Connect{Level: 5, ClientID: "id", HasWill: true, Will: Will{Topic: "t"},
				HasUsername: true, HasPassword: true, Password: "p"}
			test.change(&c)
			err := c.Check()
			if test.rule != "" {
				wantRule(t, err, test.rule)
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if c.Level == 5 {
				mustConnect(t, c.Append(nil))
			}
		})
	}
	if err := new(Connect).Check(); !errors.As(err, new(*ProtocolLevelError)) {
		t.Errorf("a Connect without a level: %v", err)
	}
}

// An unchecked field must not be able to overwrite the fields after it.
func TestConnectAppendKeepsFrame(t *testing.T) {
	c := Connect{Level: 4, ClientID: strings.Repeat("x", 70000), HasUsername: true, Username: "user"}
	out := mustConnect(t, c.Append(nil))
	if len(out.ClientID) != 65535 || out.Username != "user" {
		t.Errorf("client identifier of %d bytes, user name %q", len(out.ClientID), out.Username)
	}
}

func TestConnectPrintsNoSecret(t *testing.T) {
	const secret = "s3cr3t"
	c := &Connect{Level: 4, HasWill: true, HasUsername: true, HasPassword: true,
		ClientID: secret, Username: secret, Password: secret, Will: Will{Topic: secret}}
	for _, format := range []string{"%v", "%+v", "%#v", "%s", "%q"} {
		for _, v := range []any{c, *c} {
			if s := fmt.Sprintf(format, v); strings.Contains(s, secret) || !strings.Contains(s, "user name") {
				t.Errorf("%s prints %s", format, s)
			}
		}
	}
}

// Parse accepts only a packet that is exactly all of raw.
func TestConnectParse(t *testing.T) {
	raw := connect(4, 6, field("id"), field("w"), field("payload"))
	c := Connect{Username: "left over", HasUsername: true}
	if err := c.Parse(raw); err != nil || c.HasUsername || c.Username != "" {
		t.Fatalf("got %v, %v", c, err)
	}
	c.Will.Payload = append(c.Will.Payload, "more"...)
	c.ClientID = "other"
	if string(c.Append(nil)) != string(connect(4, 6, field("other"), field("w"), field("payloadmore"))) {
		t.Errorf("wrote %q", c.Append(nil))
	}
	wantRule(t, c.Parse(append(raw, 0)), "section 2.2.3")
	wantRule(t, c.Parse(raw[:len(raw)-1]), "section 2.2.3")
	wantRule(t, c.Parse(nil), "section 2.2.3")
	wantRule(t, c.Parse(packet(0x30, field("t"))), "section 2.2.1")
}
