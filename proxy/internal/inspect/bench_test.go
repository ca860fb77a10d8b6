package inspect_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/packets"
	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/proxy/internal/inspect"
)

func benchmarkUp(b *testing.B, level byte, stream string) {
	up, _ := newFilters(b, level)
	in := []byte(stream)
	b.SetBytes(int64(len(in)))
	b.ReportAllocs()
	for b.Loop() {
		if _, _, err := up.Filter(in); err != nil {
			b.Fatal(err)
		}
	}
}

const topic = "v1/devices/thermostat-0001/telemetry"

func BenchmarkPublishAllowed(b *testing.B)   { benchmarkUp(b, 4, publish(4, topic, 1, `{"t":25}`)) }
func BenchmarkPublishAllowedV5(b *testing.B) { benchmarkUp(b, 5, publish(5, topic, 1, `{"t":25}`)) }
func BenchmarkPublishAlias(b *testing.B) {
	benchmarkUp(b, 5, aliased(1, topic, 0)+aliased(1, "", 0))
}
func BenchmarkPublishRefused(b *testing.B) { benchmarkUp(b, 5, publish(5, "no/x", 1, `{"t":25}`)) }
func BenchmarkSubscribe(b *testing.B) {
	benchmarkUp(b, 4, subscribe(4, packets.SUBSCRIBE, "v1/devices/thermostat-0001/rpc/request/+"))
}

func BenchmarkFromBroker(b *testing.B) {
	_, down := newFilters(b, 4)
	in := []byte(publish(4, topic, 1, `{"t":25}`))
	b.SetBytes(int64(len(in)))
	b.ReportAllocs()
	for b.Loop() {
		if _, _, err := down.Filter(in); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkMapped is one message of 100 bytes through the filter.
func BenchmarkMapped(b *testing.B) {
	raw := []byte(publish(5, "v1/devices/me/telemetry", 1, strings.Repeat("x", 100)))
	down := []byte(publish(5, "v1/devices/pump/telemetry", 1, strings.Repeat("x", 100)))
	for name, test := range map[string]struct {
		from int
		in   []byte
	}{"up": {0, raw}, "down": {1, down}} {
		b.Run(name, func(b *testing.B) {
			up, fromBroker := inspect.New(mapped(b, 5))
			f := []*inspect.Filter{up, fromBroker}[test.from]
			b.ReportAllocs()
			for b.Loop() {
				if _, _, err := f.Filter(test.in); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// BenchmarkStream is a large buffer of messages of 100 bytes, as a device sends them at full
// speed. The time is that of one message.
func BenchmarkStream(b *testing.B) {
	for name, test := range map[string]struct {
		topic string
		from  int
	}{"up": {"v1/devices/me/telemetry", 0}, "down": {"v1/devices/pump/telemetry", 1}} {
		for _, level := range []byte{4, 5} {
			b.Run(fmt.Sprintf("%s/level%d", name, level), func(b *testing.B) {
				up, fromBroker := inspect.New(mapped(b, level))
				f, buf := []*inspect.Filter{up, fromBroker}[test.from], new([4][]byte)
				const messages = 500
				in := []byte(strings.Repeat(publish(level, test.topic, 0, strings.Repeat("x", 100)), messages))
				b.ReportAllocs()
				for range b.N/messages + 1 {
					f.Borrow(buf)
					if _, _, err := f.Filter(in); err != nil {
						b.Fatal(err)
					}
					f.Borrow(nil)
				}
			})
		}
	}
}
