package packets

import (
	"slices"
	"strings"
	"testing"
)

// sample returns a value that every property with the encoding may have.
func sample(id PropertyID) string {
	switch id.rule().encoding {
	case encByte, encVarint:
		return num(id, 1)
	case encUint16:
		return num(id, 0, 1)
	case encUint32:
		return num(id, 0, 0, 0, 1)
	case encPair:
		return pairOf("n", "v")
	}
	return text(id, "x")
}

// table24 is MQTT 5.0 table 2-4 by packet: the properties that each may have.
var table24 = map[Type][]PropertyID{
	CONNECT:     {0x11, 0x15, 0x16, 0x17, 0x19, 0x21, 0x22, 0x26, 0x27},
	typeWill:    {0x01, 0x02, 0x03, 0x08, 0x09, 0x18, 0x26},
	CONNACK:     {0x11, 0x12, 0x13, 0x15, 0x16, 0x1A, 0x1C, 0x1F, 0x21, 0x22, 0x24, 0x25, 0x26, 0x27, 0x28, 0x29, 0x2A},
	PUBLISH:     {0x01, 0x02, 0x03, 0x08, 0x09, 0x0B, 0x23, 0x26},
	PUBACK:      {0x1F, 0x26},
	PUBREC:      {0x1F, 0x26},
	PUBREL:      {0x1F, 0x26},
	PUBCOMP:     {0x1F, 0x26},
	SUBSCRIBE:   {0x0B, 0x26},
	SUBACK:      {0x1F, 0x26},
	UNSUBSCRIBE: {0x26},
	UNSUBACK:    {0x1F, 0x26},
	PINGREQ:     nil,
	PINGRESP:    nil,
	DISCONNECT:  {0x11, 0x1C, 0x1F, 0x26},
	AUTH:        {0x15, 0x16, 0x1F, 0x26},
}

func TestPropertyTable(t *testing.T) {
	for place, allowed := range table24 {
		for id := range PropertyID(0x80) {
			if id.rule() == nil {
				if slices.Contains(allowed, id) {
					t.Errorf("%v is unknown", id)
				}
				continue
			}
			once := sample(id)
			if id == AuthenticationData && place == CONNECT {
				once = sample(AuthenticationMethod) + once
			}
			f := Properties(once).fault(place)
			if ok := f == nil; ok != slices.Contains(allowed, id) {
				t.Errorf("%v in %v: %v", id, place, f)
			}
			if f != nil {
				continue
			}
			repeats := id == UserProperty || id == 0x0B && place == PUBLISH
			if ok := Properties(once+sample(id)).fault(place) == nil; ok != repeats {
				t.Errorf("%v twice in %v: %v", id, place, ok)
			}
		}
	}
}

// The numbers with a minimum or maximum, in the packets of table24.
func TestPropertyValues(t *testing.T) {
	for _, test := range []struct {
		place Type
		raw   string
		ok    bool
	}{
		{PUBLISH, num(0x0B, 0), false},
		{PUBLISH, num(0x0B, 0xFF, 0xFF, 0xFF, 0x7F), true},
		{PUBLISH, num(0x0B, 0x81, 0x00), false},
		{PUBLISH, num(0x0B, 0xFF, 0xFF, 0xFF, 0xFF, 0x01), false},
		{PUBLISH, num(0x23, 0, 0), false},
		{CONNACK, num(0x24, 2), false},
		{CONNACK, num(0x24, 0), true},
		{CONNACK, num(0x25, 2), false},
		{CONNACK, num(0x28, 2), false},
		{CONNACK, num(0x29, 2), false},
		{CONNACK, num(0x2A, 2), false},
		{CONNACK, num(0x21, 0, 0), false},
		{CONNACK, num(0x27, 0, 0, 0, 0), false},
		{CONNACK, num(0x27, 0xFF, 0xFF, 0xFF, 0xFF), true},
		{CONNACK, num(0x22, 0, 0), true},
		{CONNACK, num(0x13, 0, 0), true},
		{CONNACK, text(AuthenticationData, "\xFF"), true},
	} {
		if f := Properties(test.raw).fault(test.place); (f == nil) != test.ok {
			t.Errorf("%x in %v: %v", test.raw, test.place, f)
		}
	}
}

func TestPropertyGetters(t *testing.T) {
	p := Properties(pairOf("a", "1") + num(0x11, 0, 0, 1, 2) + pairOf("token", "T") + pairOf("token", "U") +
		text(AuthenticationMethod, "PLAIN") + text(AuthenticationData, "\x00u\x00p") + num(0x21, 1, 0) +
		num(0x27, 0, 1, 0, 0) + num(0x22, 0, 9) + text(AssignedClientIdentifier, "made-up") +
		text(ReasonString, "why") + text(serverReference, "other:1883") + num(0x13, 0, 30) +
		num(0x23, 0, 7) + text(ResponseTopic, "answers"))
	got := func(v any, ok bool) any {
		if !ok {
			return nil
		}
		return v
	}
	all := func(p Properties) map[string]any {
		m := map[string]any{}
		add := func(name string, v any) { m[name] = v }
		token, ok := p.UserProperty("token")
		add("token", got(token, ok))
		method, ok := p.AuthenticationMethod()
		add("method", got(method, ok))
		data, ok := p.AuthenticationData()
		add("data", got(string(data), ok))
		assigned, ok := p.AssignedClientIdentifier()
		add("assigned", got(assigned, ok))
		reason, ok := p.ReasonString()
		add("reason", got(reason, ok))
		server, ok := p.ServerReference()
		add("server", got(server, ok))
		response, ok := p.ResponseTopic()
		add("response", got(response, ok))
		expiry, ok := p.SessionExpiryInterval()
		add("expiry", got(expiry, ok))
		keepAlive, ok := p.ServerKeepAlive()
		add("keep alive", got(keepAlive, ok))
		receive, ok := p.ReceiveMaximum()
		add("receive", got(receive, ok))
		size, ok := p.MaximumPacketSize()
		add("size", got(size, ok))
		aliases, ok := p.TopicAliasMaximum()
		add("aliases", got(aliases, ok))
		alias, ok := p.TopicAlias()
		add("alias", got(alias, ok))
		return m
	}
	want := map[string]any{
		"token": "T", "method": "PLAIN", "data": "\x00u\x00p", "assigned": "made-up", "reason": "why",
		"server": "other:1883", "response": "answers", "expiry": uint32(258), "keep alive": uint16(30),
		"receive": uint16(256), "size": uint32(65536), "aliases": uint16(9), "alias": uint16(7),
	}
	for name, v := range all(p) {
		if v != want[name] {
			t.Errorf("%s is %v, want %v", name, v, want[name])
		}
	}
	for name, v := range all(nil) {
		if v != nil {
			t.Errorf("%s of no properties is %v", name, v)
		}
	}
	if _, ok := p.UserProperty("Token"); ok {
		t.Error("user property names are not case-sensitive")
	}
}

func TestPropertyEdits(t *testing.T) {
	method, data := text(AuthenticationMethod, "m"), text(AuthenticationData, "d")
	expiry, token, other := num(0x11, 0, 0, 0, 1), pairOf("token", "T"), pairOf("k", "token")
	original := method + token + expiry + data + other + pairOf("token", "")
	for _, test := range []struct {
		name, want string
		edit       func(Properties) Properties
	}{
		{"without authentication", token + expiry + other + pairOf("token", ""),
			func(p Properties) Properties { return p.Without(AuthenticationMethod, AuthenticationData) }},
		{"without what is not there", original, func(p Properties) Properties { return p.Without(ReasonString) }},
		{"without nothing", original, func(p Properties) Properties { return p.Without() }},
		{"without user property", method + expiry + data + other,
			func(p Properties) Properties { return p.WithoutUserProperty("token") }},
		{"with", original + text(ReasonString, "r"), func(p Properties) Properties { return p.With(ReasonString, "r") }},
		{"with in place of", token + expiry + data + other + pairOf("token", "") + text(AuthenticationMethod, "n"),
			func(p Properties) Properties { return p.With(AuthenticationMethod, "n") }},
		{"with a number", original, func(p Properties) Properties { return p.With(TopicAlias, "n") }},
		{"with what does not exist", original, func(p Properties) Properties { return p.With(0x7F, "n") }},
		{"with too much", original + text(ReasonString, strings.Repeat("r", 65535)),
			func(p Properties) Properties { return p.With(ReasonString, strings.Repeat("r", 65536)) }},
	} {
		t.Run(test.name, func(t *testing.T) {
			p := append(make(Properties, 0, 4096), original...) // spare capacity that an edit could write to
			got := test.edit(p)
			if string(got) != test.want {
				t.Errorf("got %q, want %q", got, test.want)
			}
			if string(p) != original || strings.Trim(string(p[len(p):cap(p)]), "\x00") != "" {
				t.Errorf("the original became %q", p[:cap(p)])
			}
		})
	}
	if got := Properties(nil).With(AssignedClientIdentifier, "id"); string(got) != text(AssignedClientIdentifier, "id") {
		t.Errorf("with one property: %q", got)
	}
}

func TestPropertiesAll(t *testing.T) {
	p := Properties(num(0x11, 0, 0, 0, 1) + pairOf("n", "v") + text(ReasonString, "r") + "\x7Fjunk")
	var got []string
	for id, value := range p.All() {
		got = append(got, id.String()+" "+string(value))
	}
	want := []string{"Session Expiry Interval \x00\x00\x00\x01", "User Property \x00\x01n\x00\x01v", "Reason String \x00\x01r"}
	if !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
	for id := range p.All() {
		if id != 0x11 {
			t.Errorf("went on to %v after the loop was left", id)
		}
		break
	}
	if s := PropertyID(0x7F).String(); s != "Property 0x7F" {
		t.Errorf("unknown property prints as %s", s)
	}
}
