package sqlite

import (
	"context"
	"fmt"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/cmd/internal/telemetry"
	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/cmd/internal/telemetry/payload"
)

// BenchmarkTelemetry measures payload to durable, with devices publishing one
// message after the other, each waiting for its own commit.
func BenchmarkTelemetry(b *testing.B) {
	for _, durability := range []string{"sync", "os"} {
		for _, devices := range []int{1, 20, 200, 1000} {
			b.Run(fmt.Sprintf("%s/%ddevices", durability, devices), func(b *testing.B) {
				benchmarkTelemetry(b, durability, devices)
			})
		}
	}
}

func benchmarkTelemetry(b *testing.B, durability string, devices int) {
	// A device of the benchmark is faster than real ones, which seldom send several
	// messages in a millisecond.
	start := time.Now()
	var clock atomic.Int64
	store, err := Open(b.Context(), Options{
		Path: filepath.Join(b.TempDir(), "t.db"), Durability: durability,
	})
	if err != nil {
		b.Fatal(err)
	}
	defer store.Close()
	in := &telemetry.Intake{Store: store, Now: func() time.Time {
		return start.Add(time.Duration(clock.Add(1)) * time.Millisecond)
	}}
	message := []byte(`{"temperature":21.5,"humidity":40,"battery":3.71,"rssi":-71,"state":"running"}`)
	var next atomic.Int64
	var publishers sync.WaitGroup
	b.ReportAllocs()
	b.ResetTimer()
	for d := range devices {
		publishers.Go(func() {
			device := fmt.Sprintf("device-%04d", d)
			for next.Add(1) <= int64(b.N) {
				if err := in.Telemetry(b.Context(), device, message); err != nil {
					b.Error(err)
					return
				}
			}
		})
	}
	publishers.Wait()
	b.StopTimer()
	stats := store.Stats()
	b.ReportMetric(float64(stats.Messages)/b.Elapsed().Seconds(), "msg/s")
	b.ReportMetric(float64(stats.Messages)/float64(stats.Commits), "msg/commit")
}

// BenchmarkTelemetryWithReaders measures payload to durable while readers ask for as much as
// they can.
func BenchmarkTelemetryWithReaders(b *testing.B) {
	const devices, readers, points = 200, 8, 1000
	s := open(b, Options{})
	var list []payload.Message
	for ts := range int64(points) {
		list = append(list, parsed(b, ts, `{"temperature":21.5,"humidity":40,"battery":3.71,"rssi":-71,"state":"running"}`)...)
	}
	if err := s.Append(b.Context(), "read", list); err != nil {
		b.Fatal(err)
	}
	ctx, cancel := context.WithCancel(b.Context())
	var (
		reading sync.WaitGroup
		reads   atomic.Int64
	)
	for range readers {
		reading.Go(func() {
			q := telemetry.Query{Device: "read", Keys: []string{"temperature"}, End: points, Limit: points}
			for ctx.Err() == nil {
				if _, err := telemetry.Points(ctx, s, q); err == nil {
					reads.Add(1)
				}
			}
		})
	}
	in := &telemetry.Intake{Store: s}
	message := []byte(`{"temperature":21.5,"humidity":40,"battery":3.71,"rssi":-71,"state":"running"}`)
	var (
		next       atomic.Int64
		publishers sync.WaitGroup
	)
	b.ResetTimer()
	for d := range devices {
		publishers.Go(func() {
			for next.Add(1) <= int64(b.N) {
				if err := in.Telemetry(b.Context(), fmt.Sprint(d), message); err != nil {
					b.Error(err)
					return
				}
			}
		})
	}
	publishers.Wait()
	b.StopTimer()
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "msg/s")
	b.ReportMetric(float64(reads.Load())/b.Elapsed().Seconds(), "reads/s")
	cancel()
	reading.Wait()
}

// BenchmarkGateways measures payload to durable, with gateways that publish the values of 50 devices
// behind them in each message.
func BenchmarkGateways(b *testing.B) {
	const gateways, children = 20, 50
	in := &telemetry.Intake{Store: telemetry.WithChildren(open(b, Options{}))}
	message := []byte("{")
	for i := range children {
		message = fmt.Appendf(message, `"room %d":[{"temperature":21.5,"humidity":40}],`, i)
	}
	message[len(message)-1] = '}'
	var (
		next       atomic.Int64
		publishers sync.WaitGroup
	)
	b.ReportAllocs()
	b.ResetTimer()
	for g := range gateways {
		publishers.Go(func() {
			for next.Add(1) <= int64(b.N) {
				if _, err := in.ChildTelemetry(b.Context(), fmt.Sprint("gateway ", g), message); err != nil {
					b.Error(err)
					return
				}
			}
		})
	}
	publishers.Wait()
	b.StopTimer()
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "msg/s")
	b.ReportMetric(children*float64(b.N)/b.Elapsed().Seconds(), "devices/s")
}

// BenchmarkRead asks a device that sent a message each 10 s for a day.
func BenchmarkRead(b *testing.B) {
	const day, step = 24 * 3600 * 1000, 10_000
	s := open(b, Options{Durability: "none"})
	var list []payload.Message
	for ts := int64(0); ts < day; ts += step {
		list = append(list, parsed(b, ts, `{"temperature":21.5,"humidity":40,"battery":3.71,"rssi":-71,"state":"running"}`)...)
	}
	if err := s.Append(b.Context(), "d", list); err != nil {
		b.Fatal(err)
	}
	keys := []string{"temperature", "humidity", "battery", "rssi", "state"}
	run := func(name string, read func() error) {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if err := read(); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
	run("latest", func() error {
		_, err := telemetry.Latest(b.Context(), s, "d", keys...)
		return err
	})
	run("range100", func() error {
		_, err := telemetry.Points(b.Context(), s, telemetry.Query{Device: "d", Keys: keys[:1], End: day})
		return err
	})
	run("average of a day by the hour", func() error {
		_, err := telemetry.Points(b.Context(), s, telemetry.Query{Device: "d", Keys: keys[:1], End: day, Aggregate: "AVG", Interval: 3600_000})
		return err
	})
}
