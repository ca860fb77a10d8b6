package proxyproto

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"io"
	"net/netip"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/google/go-cmp/cmp"
)

var (
	client4 = netip.MustParseAddrPort("192.0.2.7:51000")
	server4 = netip.MustParseAddrPort("198.51.100.1:8883")
	client6 = netip.MustParseAddrPort("[2001:db8::7]:51000")
	server6 = netip.MustParseAddrPort("[2001:db8::1]:8883")
)

const sig = "0d0a0d0a000d0a515549540a"

// v2 returns a header of version 2 that is given in hexadecimal without the signature. Spaces
// are ignored.
func v2(t testing.TB, text string) string {
	t.Helper()
	b, err := hex.DecodeString(sig + strings.ReplaceAll(text, " ", ""))
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

const addresses4 = "c0000207 c6336401 c738 22b3"

func TestRead(t *testing.T) {
	for _, tt := range []struct {
		name, raw string
		want      Header
	}{
		{"v1 tcp4", "PROXY TCP4 192.0.2.7 198.51.100.1 51000 8883\r\n", Header{Source: client4, Destination: server4}},
		{"v1 tcp6", "PROXY TCP6 2001:db8::7 2001:db8::1 51000 8883\r\n", Header{Source: client6, Destination: server6}},
		{"v1 tcp6, longest", "PROXY TCP6 ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff 65535 65535\r\n",
			Header{Source: netip.MustParseAddrPort("[ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff]:65535"), Destination: netip.MustParseAddrPort("[ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff]:65535")}},
		{"v1 tcp6 with an IPv4 address", "PROXY TCP6 ::ffff:192.0.2.7 ::ffff:198.51.100.1 51000 8883\r\n", Header{Source: client4, Destination: server4}},
		{"v1 unknown", "PROXY UNKNOWN\r\n", Header{Local: true}},
		{"v1 unknown with addresses", "PROXY UNKNOWN ffff::1 ffff::2 1 2\r\n", Header{Local: true}},
		{"v2 tcp4", v2(t, "21 11 000c"+addresses4), Header{Source: client4, Destination: server4}},
		{"v2 tcp6", v2(t, "21 21 0024 20010db8000000000000000000000007 20010db8000000000000000000000001 c738 22b3"), Header{Source: client6, Destination: server6}},
		{"v2 local", v2(t, "20 00 0000"), Header{Local: true}},
		{"v2 local, the rest ignored", v2(t, "20 11 0003 010203"), Header{Local: true}},
		{"v2 unspec", v2(t, "21 00 0000"), Header{}},
		{"v2 unspec with an id", v2(t, "21 00 0005 05 0002 6964"), Header{UniqueID: "id"}},
		{"v2 unix", v2(t, "21 31 00d8"+strings.Repeat("00", 216)), Header{}},
		{"v2 texts", v2(t, "21 11 0026"+addresses4+" 01 0004 6d717474 02 0003 612e62 05 0002 00ff 04 0001 00 ea 0001 01"),
			Header{Source: client4, Destination: server4, ALPN: "mqtt", Authority: "a.b", UniqueID: "\x00\xff"}},
		{"v2 TLS with a certificate", v2(t, "21 11 0025"+addresses4+" 20 0016 07 00000000 21 0007 544c5376312e33 22 0004 70756d70"),
			Header{Source: client4, Destination: server4, SSL: &SSL{Version: "TLSv1.3", CommonName: "pump", Verified: true}}},
		{"v2 TLS, resumed", v2(t, "21 11 0014"+addresses4+" 20 0005 05 00000000"),
			Header{Source: client4, Destination: server4, SSL: &SSL{Verified: true, Resumed: true}}},
		{"v2 TLS, certificate not verified", v2(t, "21 11 0014"+addresses4+" 20 0005 07 00000012"), Header{Source: client4, Destination: server4, SSL: &SSL{}}},
		{"v2 TLS, no certificate", v2(t, "21 11 0014"+addresses4+" 20 0005 01 00000000"), Header{Source: client4, Destination: server4, SSL: &SSL{}}},
		{"v2 no TLS", v2(t, "21 11 0014"+addresses4+" 20 0005 00 00000000"), Header{Source: client4, Destination: server4}},
		{"v2 checksum", v2(t, "21 11 0013"+addresses4+" 03 0004 "+checksumOf(t, "21 11 0013"+addresses4+" 03 0004")), Header{Source: client4, Destination: server4}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			const next = "\x10\x0cthe packet"
			for name, r := range map[string]io.Reader{
				"at once":      strings.NewReader(tt.raw + next),
				"byte by byte": iotest.OneByteReader(strings.NewReader(tt.raw + next)),
			} {
				got, err := Read(r)
				if err != nil {
					t.Fatal(err)
				}
				if diff := cmp.Diff(tt.want, *got, cmp.Comparer(func(a, b netip.AddrPort) bool { return a == b })); diff != "" {
					t.Errorf("%s (-want +got)\n%s", name, diff)
				}
				if rest, _ := io.ReadAll(r); string(rest) != next {
					t.Errorf("%s: %q is left, want %q", name, rest, next)
				}
			}
		})
	}
}

// checksumOf returns the checksum of a header that ends with it.
func checksumOf(t testing.TB, text string) string {
	t.Helper()
	// This works bit by bit, so that it does not share the implementation's table.
	crc := ^uint32(0)
	for _, b := range []byte(v2(t, text+"00000000")) {
		crc ^= uint32(b)
		for range 8 {
			crc = crc>>1 ^ 0x82F63B78*(crc&1)
		}
	}
	crc = ^crc
	return hex.EncodeToString([]byte{byte(crc >> 24), byte(crc >> 16), byte(crc >> 8), byte(crc)})
}

func TestReadRefuses(t *testing.T) {
	for _, tt := range []struct {
		name, raw string
		want      error
	}{
		{"nothing", "", io.EOF},
		{"MQTT", "\x10\x0c\x00\x04MQTT", ErrNoHeader},
		{"TLS", "\x16\x03\x01\x00\xf4\x01", ErrNoHeader},
		{"HTTP", "GET / HTTP/1.1\r\n\r\n", ErrNoHeader},
		{"a letter too many", "PROXYX TCP4", ErrNoHeader},
		{"lower case", "proxy TCP4 ", ErrNoHeader},
		{"signature with one byte wrong", "\r\n\r\n\x00\r\nQUIT\r", ErrNoHeader},
		{"cut off in the signature", "\r\n\r\n", io.ErrUnexpectedEOF},
		{"cut off in the fixed part", v2(t, "21 11"), io.ErrUnexpectedEOF},
		{"cut off in the addresses", v2(t, "21 11 000c c0"), io.ErrUnexpectedEOF},
		{"cut off in the line", "PROXY TCP4 192.0.2.7 ", io.ErrUnexpectedEOF},
		{"no line end", "PROXY TCP4 " + strings.Repeat("1", 200), ErrMalformed},
		{"line end too late", "PROXY UNKNOWN " + strings.Repeat("1", 92) + "\r\n", ErrMalformed},
		{"line feed alone", "PROXY TCP4 192.0.2.7 198.51.100.1 51000 8883\n" + strings.Repeat("x", 80), ErrMalformed},
		{"family", "PROXY UDP4 192.0.2.7 198.51.100.1 51000 8883\r\n", ErrMalformed},
		{"families mixed", "PROXY TCP4 2001:db8::7 198.51.100.1 51000 8883\r\n", ErrMalformed},
		{"families mixed the other way", "PROXY TCP6 192.0.2.7 198.51.100.1 51000 8883\r\n", ErrMalformed},
		{"zone", "PROXY TCP6 fe80::1%eth0 2001:db8::1 51000 8883\r\n", ErrMalformed},
		{"leading zeros in an address", "PROXY TCP4 192.000.2.7 198.51.100.1 51000 8883\r\n", ErrMalformed},
		{"leading zero in a port", "PROXY TCP4 192.0.2.7 198.51.100.1 051000 8883\r\n", ErrMalformed},
		{"port too large", "PROXY TCP4 192.0.2.7 198.51.100.1 65536 8883\r\n", ErrMalformed},
		{"signed port", "PROXY TCP4 192.0.2.7 198.51.100.1 +1 8883\r\n", ErrMalformed},
		{"two spaces", "PROXY TCP4  192.0.2.7 198.51.100.1 51000 8883\r\n", ErrMalformed},
		{"field too many", "PROXY TCP4 192.0.2.7 198.51.100.1 51000 8883 1\r\n", ErrMalformed},
		{"field too few", "PROXY TCP4 192.0.2.7 198.51.100.1 51000\r\n", ErrMalformed},
		{"no fields", "PROXY TCP4\r\n", ErrMalformed},
		{"version 1 in binary", v2(t, "11 11 000c"+addresses4), ErrMalformed},
		{"version 3", v2(t, "31 11 000c"+addresses4), ErrMalformed},
		{"command 2", v2(t, "22 11 000c"+addresses4), ErrMalformed},
		{"datagrams", v2(t, "21 12 000c"+addresses4), ErrMalformed},
		{"family 4", v2(t, "21 41 000c"+addresses4), ErrMalformed},
		{"stream of no family", v2(t, "21 01 0000"), ErrMalformed},
		{"addresses too short", v2(t, "21 11 000b c0000207 c6336401 c738 22"), ErrMalformed},
		{"unix too short", v2(t, "21 31 0002 2f61"), ErrMalformed},
		{"too long", v2(t, "21 11 1001"), ErrMalformed},
		{"element without its length", v2(t, "21 11 000e"+addresses4+" 01 00"), ErrMalformed},
		{"element longer than the header", v2(t, "21 11 0010"+addresses4+" 01 0002 6d"), ErrMalformed},
		{"element twice", v2(t, "21 11 0014"+addresses4+" 02 0001 61 02 0001 62"), ErrMalformed},
		{"unique id too long", v2(t, "21 11 0090"+addresses4+" 05 0081 "+strings.Repeat("61", 129)), ErrMalformed},
		{"TLS too short", v2(t, "21 11 0013"+addresses4+" 20 0004 01 000000"), ErrMalformed},
		{"TLS element cut off", v2(t, "21 11 0016"+addresses4+" 20 0007 01 00000000 2100"), ErrMalformed},
		{"TLS element twice", v2(t, "21 11 001c"+addresses4+" 20 000d 01 00000000 22 0001 61 22 0001 62"), ErrMalformed},
		{"wrong checksum", v2(t, "21 11 0013"+addresses4+" 03 0004 00000000"), ErrMalformed},
		{"short checksum", v2(t, "21 11 0012"+addresses4+" 03 0003 000000"), ErrMalformed},
	} {
		t.Run(tt.name, func(t *testing.T) {
			for name, r := range map[string]io.Reader{"at once": strings.NewReader(tt.raw), "byte by byte": iotest.OneByteReader(strings.NewReader(tt.raw))} {
				if h, err := Read(r); !errors.Is(err, tt.want) || h != nil {
					t.Errorf("%s: %+v, %v; want %v", name, h, err, tt.want)
				}
			}
		})
	}
}

// TestWrongFirstByteIsRefusedAtOnce: the sender may be waiting for an answer.
func TestWrongFirstByteIsRefusedAtOnce(t *testing.T) {
	r, w := io.Pipe()
	defer w.Close()
	go w.Write([]byte{0x10})
	if _, err := Read(r); !errors.Is(err, ErrNoHeader) {
		t.Error(err)
	}
}

func FuzzRead(f *testing.F) {
	for _, raw := range []string{
		"PROXY TCP4 192.0.2.7 198.51.100.1 51000 8883\r\n", "PROXY UNKNOWN\r\n", v2(f, "20 00 0000"),
		v2(f, "21 11 0025"+addresses4+" 20 0016 07 00000000 21 0007 544c5376312e33 22 0004 70756d70"),
		v2(f, "21 11 0013"+addresses4+" 03 0004 "+checksumOf(f, "21 11 0013"+addresses4+" 03 0004")),
		"\x10\x0c\x00\x04MQTT",
	} {
		f.Add([]byte(raw))
	}
	f.Fuzz(func(t *testing.T, raw []byte) {
		r := bytes.NewReader(raw)
		h, err := Read(r)
		if err != nil {
			if h != nil {
				t.Fatal("a header and an error")
			}
			return
		}
		// A header that was read can be appended, and reading that gives the same header.
		if taken := len(raw) - r.Len(); taken > fixedSize+maxBody {
			t.Fatalf("%d bytes were taken", taken)
		}
		again, err := h.Append(nil, 2)
		if err != nil {
			return // a text longer than Append allows
		}
		got, err := Read(bytes.NewReader(again))
		if err != nil {
			t.Fatalf("%+v is not understood: %v", h, err)
		}
		if h.SSL != nil && !h.SSL.Verified {
			h.SSL.Resumed, got.SSL.Resumed = false, false
		}
		if diff := cmp.Diff(h, got, cmp.Comparer(func(a, b netip.AddrPort) bool { return a == b })); diff != "" {
			t.Fatalf("(-first +second)\n%s", diff)
		}
	})
}

// FuzzElements tests the elements after the addresses, which FuzzRead seldom reaches because
// all lengths have to agree: each known element occurs at most once, or the header is refused.
func FuzzElements(f *testing.F) {
	for _, elements := range []string{
		"", "01 0004 6d717474", "02 0004 686f7374", "05 0001 61", "04 0003 000000",
		"20 0016 07 00000000 21 0007 544c5376312e33 22 0004 70756d70", "20 0005 00 00000000", "03 0004 00000000", "01 ffff 61", "01",
	} {
		raw, err := hex.DecodeString(strings.ReplaceAll(elements, " ", ""))
		if err != nil {
			f.Fatal(err)
		}
		f.Add(raw)
	}
	f.Fuzz(func(t *testing.T, elements []byte) {
		addresses, err := hex.DecodeString(strings.ReplaceAll(addresses4, " ", ""))
		if err != nil {
			t.Fatal(err)
		}
		if len(addresses)+len(elements) > maxBody {
			return
		}
		raw := binary.BigEndian.AppendUint16([]byte("\r\n\r\n\x00\r\nQUIT\n\x21\x11"), uint16(len(addresses)+len(elements)))
		h, err := Read(bytes.NewReader(append(append(raw, addresses...), elements...)))
		switch {
		case (h == nil) == (err == nil):
			t.Fatalf("%+v, %v", h, err)
		case err != nil && !errors.Is(err, ErrMalformed):
			t.Fatalf("%v, want a malformed header", err)
		case err == nil && len(h.UniqueID)+len(h.ALPN)+len(h.Authority) > len(elements):
			t.Fatalf("%+v holds more than was sent", h)
		}
	})
}
