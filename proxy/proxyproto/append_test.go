package proxyproto

import (
	"encoding/hex"
	"net/netip"
	"strings"
	"testing"
)

func TestAppend(t *testing.T) {
	for _, tt := range []struct {
		name string
		h    *Header
		v1   string
		v2   string // hexadecimal, without the signature
	}{
		{"nobody", nil, "PROXY UNKNOWN\r\n", "20 00 0000"},
		{"local", &Header{Local: true, Source: client4}, "PROXY UNKNOWN\r\n", "20 00 0000"},
		{"no address", &Header{}, "PROXY UNKNOWN\r\n", "21 00 0000"},
		{"IPv4", &Header{Source: client4, Destination: server4}, "PROXY TCP4 192.0.2.7 198.51.100.1 51000 8883\r\n", "21 11 000c" + addresses4},
		{"IPv4 in IPv6", &Header{Source: netip.MustParseAddrPort("[::ffff:192.0.2.7]:51000"), Destination: server4},
			"PROXY TCP4 192.0.2.7 198.51.100.1 51000 8883\r\n", "21 11 000c" + addresses4},
		{"IPv6", &Header{Source: client6, Destination: server6}, "PROXY TCP6 2001:db8::7 2001:db8::1 51000 8883\r\n",
			"21 21 0024 20010db8000000000000000000000007 20010db8000000000000000000000001 c738 22b3"},
		{"IPv6 with a zone", &Header{Source: netip.MustParseAddrPort("[2001:db8::7%eth0]:51000"), Destination: server6}, "PROXY TCP6 2001:db8::7 2001:db8::1 51000 8883\r\n",
			"21 21 0024 20010db8000000000000000000000007 20010db8000000000000000000000001 c738 22b3"},
		{"IPv4 to IPv6", &Header{Source: client4, Destination: server6}, "PROXY TCP4 192.0.2.7 0.0.0.0 51000 8883\r\n", "21 11 000c c0000207 00000000 c738 22b3"},
		{"IPv6 to nowhere", &Header{Source: client6}, "PROXY TCP6 2001:db8::7 :: 51000 0\r\n",
			"21 21 0024 20010db8000000000000000000000007 00000000000000000000000000000000 c738 0000"},
		{"texts", &Header{Source: client4, Destination: server4, ALPN: "mqtt", Authority: "a.b", UniqueID: "id"},
			"PROXY TCP4 192.0.2.7 198.51.100.1 51000 8883\r\n", "21 11 001e" + addresses4 + "01 0004 6d717474 02 0003 612e62 05 0002 6964"},
		{"TLS", &Header{Source: client4, Destination: server4, SSL: &SSL{Version: "TLSv1.3"}},
			"PROXY TCP4 192.0.2.7 198.51.100.1 51000 8883\r\n", "21 11 001e" + addresses4 + "20 000f 01 00000001 21 0007 544c5376312e33"},
		{"certificate", &Header{Source: client4, Destination: server4, SSL: &SSL{Cipher: "C", CommonName: "pump", Verified: true}},
			"PROXY TCP4 192.0.2.7 198.51.100.1 51000 8883\r\n", "21 11 001f" + addresses4 + "20 0010 07 00000000 23 0001 43 22 0004 70756d70"},
		{"certificate of a resumed session", &Header{Source: client4, Destination: server4, SSL: &SSL{Verified: true, Resumed: true}},
			"PROXY TCP4 192.0.2.7 198.51.100.1 51000 8883\r\n", "21 11 0014" + addresses4 + "20 0005 05 00000000"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			for version, want := range map[int]string{1: tt.v1, 2: v2(t, tt.v2)} {
				got, err := tt.h.Append([]byte("before"), version)
				if err != nil || string(got) != "before"+want {
					t.Errorf("version %d: %s, %v\nwant %s", version, hex.EncodeToString(got), err, hex.EncodeToString([]byte("before"+want)))
				}
			}
		})
	}
}

func TestAppendRefuses(t *testing.T) {
	if _, err := (&Header{}).Append(nil, 3); err == nil {
		t.Error("version 3 is made")
	}
	long := strings.Repeat("x", maxText+1)
	for name, h := range map[string]Header{
		"authority": {Authority: long}, "unique id": {UniqueID: long}, "name": {SSL: &SSL{CommonName: long}},
	} {
		if got, err := h.Append([]byte("a"), 2); err == nil || string(got) != "a" {
			t.Errorf("%s: %d bytes, %v; want an error and nothing", name, len(got), err)
		}
	}
}

func TestLongestHeaderIsRead(t *testing.T) {
	text := strings.Repeat("x", maxText)
	h := Header{Source: client4, Destination: server4, ALPN: text, Authority: text, SSL: &SSL{CommonName: text}}
	raw, err := h.Append(nil, 2)
	if err != nil {
		t.Fatal(err)
	}
	if got, err := Read(strings.NewReader(string(raw))); err != nil || got.SSL.CommonName != text {
		t.Error(err)
	}
}
