package packets

import (
	"bytes"
	"strings"
	"testing"
)

// The packets of the benchmarks are those of mosquitto_pub and a client of MQTT 5.0 with a
// token of 40 characters.
func typical311() []byte {
	return connect(4, 0x82, field("device-0001-client"), field(strings.Repeat("t", 40)))
}

func typical5() []byte {
	return connect(5, 0xC6,
		props(num(0x11, 0, 0, 0x0E, 0x10), num(0x21, 0, 100), num(0x27, 0, 1, 0, 0), pairOf("firmware", "1.2.3")),
		field("device-0001-client"),
		props(num(0x18, 0, 0, 0, 30)), field("v1/devices/me/status"), field("offline"),
		field("device-0001"), field(strings.Repeat("t", 40)))
}

// The data path relies on these numbers. The test appends to a buffer that is large enough,
// because growing one takes an additional allocation under the race detector.
func TestAllocations(t *testing.T) {
	connect, publish := typical311(), packet(0x32, field("v1/devices/me/telemetry/é"), "\x00\x01", "payload")
	r := bytes.NewReader(nil)
	buf := make([]byte, 0, 256)
	for _, test := range []struct {
		name string
		most float64
		run  func() error
	}{
		{"read, check and write a CONNECT", 2, func() error {
			r.Reset(connect)
			c, err := ReadConnect(r, 1<<10)
			if err != nil {
				return err
			}
			buf = c.Append(buf[:0])
			return c.Check()
		}},
		{"parse and write a PUBLISH", 0, func() error {
			var p Publish
			_, err := p.Parse(publish, 4)
			buf = p.Append(buf[:0], 4)
			return err
		}},
		{"follow a stream", 0, func() error { _, err := new(Framer).Advance(publish); return err }},
	} {
		if got := testing.AllocsPerRun(100, func() {
			if err := test.run(); err != nil {
				t.Fatal(err)
			}
		}); got > test.most {
			t.Errorf("%s: %v allocations, want at most %v", test.name, got, test.most)
		}
	}
}

func BenchmarkReadConnect(b *testing.B) {
	for _, test := range []struct {
		name string
		raw  []byte
	}{
		{"311", typical311()},
		{"5", typical5()},
		{"311/jwt", connect(4, 0x82, field("id"), field(strings.Repeat("j", 1200)))},
	} {
		b.Run(test.name, func(b *testing.B) {
			r := bytes.NewReader(nil)
			b.ReportAllocs()
			b.SetBytes(int64(len(test.raw)))
			for b.Loop() {
				r.Reset(test.raw)
				if _, err := ReadConnect(r, 64<<10); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

func BenchmarkConnectAppend(b *testing.B) {
	c := mustConnect(b, typical311())
	dst := make([]byte, 0, 256)
	b.ReportAllocs()
	for b.Loop() {
		dst = c.Append(dst[:0])
	}
}

// BenchmarkRewrite measures what a proxy does with a CONNECT: read it, replace the credentials,
// check it, and append it to a buffer.
func BenchmarkRewrite(b *testing.B) {
	for _, test := range []struct {
		name string
		raw  []byte
	}{
		{"311", typical311()},
		{"5", typical5()},
	} {
		b.Run(test.name, func(b *testing.B) {
			r := bytes.NewReader(nil)
			b.ReportAllocs()
			for b.Loop() {
				r.Reset(test.raw)
				in, err := ReadConnect(r, 64<<10)
				if err != nil {
					b.Fatal(err)
				}
				out := *in
				out.Username, out.HasUsername = "subject", true
				out.Password, out.HasPassword = "upstream password", true
				if err := out.Check(); err != nil {
					b.Fatal(err)
				}
				if len(out.Append(nil)) == 0 {
					b.Fatal("nothing written")
				}
			}
		})
	}
}

func BenchmarkPublishParse(b *testing.B) {
	raw := packet(0x32, field("v1/devices/me/telemetry"), "\x00\x01", strings.Repeat("p", 75))
	var p Publish
	b.ReportAllocs()
	for b.Loop() {
		if _, err := p.Parse(raw, 4); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkFramer(b *testing.B) {
	for _, test := range []struct {
		name          string
		packet, chunk int
	}{
		{"100B packets in 4KiB", 100, 4 << 10},
		{"1MiB packets in 16KiB", 1 << 20, 16 << 10},
	} {
		b.Run(test.name, func(b *testing.B) {
			one := packet(0x30, strings.Repeat("p", test.packet-2))
			stream := bytes.Repeat(one, max(1, 64*test.chunk/len(one)))
			var f Framer
			b.ReportAllocs()
			b.SetBytes(int64(test.chunk))
			at := 0
			for b.Loop() {
				end := min(at+test.chunk, len(stream))
				if _, err := f.Advance(stream[at:end]); err != nil {
					b.Fatal(err)
				}
				if at = end; at == len(stream) {
					at = 0
				}
			}
		})
	}
}
