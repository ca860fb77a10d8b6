package packets

import (
	"bytes"
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
	for _, wire := range []string{"\x80\x00", "\x81\x80\x00", "\xFF\xFF\xFF\x00", "\xFF\xFF\xFF\xFF", "\xFF\xFF\xFF\xFF\x01"} {
		if _, size := varint([]byte(wire)); size != -1 {
			t.Errorf("%x is read as %d bytes, want an error", wire, size)
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
		if got, err := PacketSize([]byte(test.b)); got != test.want || err != nil {
			t.Errorf("%x: size %d, %v; want %d", test.b, got, err, test.want)
		}
	}
	_, err := PacketSize([]byte("\x30\xFF\xFF\xFF\xFF"))
	wantRule(t, err, "section 2.2.3")
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
