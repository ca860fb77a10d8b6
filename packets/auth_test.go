package packets

import (
	"errors"
	"testing"
)

// TestAuth: an AUTH names its method once and has one of three reason codes.
func TestAuth(t *testing.T) {
	method, data := text(AuthenticationMethod, "m"), text(AuthenticationData, "d")
	for name, tt := range map[string]struct {
		raw  []byte
		code ReasonCode // of the error, 0 for none
	}{
		"success":           {packet(0xF0, "\x00", props(method)), 0},
		"renewal":           {packet(0xF0, "\x19", props(method, data, text(ReasonString, "r"), pairOf("a", "b"))), 0},
		"empty":             {packet(0xF0), ProtocolError},
		"code alone":        {packet(0xF0, "\x19"), ProtocolError},
		"without a method":  {packet(0xF0, "\x19", props(data)), ProtocolError},
		"two methods":       {packet(0xF0, "\x19", props(method, method)), ProtocolError},
		"unknown code":      {packet(0xF0, "\x87", props(method)), ProtocolError},
		"other property":    {packet(0xF0, "\x19", props(method, num(0x21, 0, 1))), MalformedPacket},
		"flags":             {packet(0xF2, "\x19", props(method)), MalformedPacket},
		"bytes behind it":   {packet(0xF0, "\x19", props(method), "x"), MalformedPacket},
		"cut off":           {packet(0xF0, "\x19\x07\x15\x00"), MalformedPacket},
		"method not UTF-8":  {packet(0xF0, "\x19", props(text(AuthenticationMethod, "\xFF"))), MalformedPacket},
		"another packet":    {packet(0xE0, "\x00"), ProtocolError},
		"length with spare": {append([]byte{0xF0, 0x86, 0x00}, packet(0xF0, "\x00", props(method))[2:]...), MalformedPacket},
	} {
		var a Auth
		err := a.Parse(tt.raw, 5)
		var malformed *MalformedError
		if errors.As(err, &malformed) != (tt.code != 0) || tt.code != 0 && malformed.Code != tt.code {
			t.Errorf("%s: %v, want code %#x", name, err, byte(tt.code))
		}
		if err == nil && string(a.Append(nil, 5)) != string(tt.raw) {
			t.Errorf("%s: %x is written as %x", name, tt.raw, a.Append(nil, 5))
		}
		if a.Parse(tt.raw, 4) == nil {
			t.Errorf("%s: accepted before MQTT 5.0", name)
		}
	}
}

// TestForbiddenAuth ends the stream before the packet, with the code of the standard.
func TestForbiddenAuth(t *testing.T) {
	f := Framer{Forbidden: ForbidAUTH, Level: 5}
	n, err := f.Advance([]byte("\xC0\x00\xF0\x00"))
	var malformed *MalformedError
	if n != 2 || !errors.As(err, &malformed) || malformed.Code != ProtocolError || malformed.Type != AUTH {
		t.Errorf("%d bytes, %v", n, err)
	}
	if n, again := f.Advance([]byte("\xC0\x00")); n != 0 || again == nil {
		t.Errorf("then %d bytes, %v", n, again)
	}
	if got := string(f.Refusal(err)); got != "\xE0\x01\x82" {
		t.Errorf("refused with %x", got)
	}
	both := Framer{}
	if n, err := both.Advance([]byte("\xF0\x00\xC0\x00")); n != 4 || err != nil {
		t.Errorf("allowed: %d bytes, %v", n, err)
	}
}
