package broker

import (
	"context"
	"fmt"
	"io"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/cmd/internal/telemetry/payload"
)

// BenchmarkTelemetry is one QoS 1 message and its PUBACK, through the socket pair and with a
// store that does nothing.
func BenchmarkTelemetry(b *testing.B) {
	broker := benchmarkBroker(b)
	c := connect(b, broker, "d", login{id: "c"})
	msg := c.encode(message{topic: "v1/devices/me/telemetry", payload: `{"temperature":25}`, qos: 1, id: 1})
	ack := make([]byte, 4)
	b.ReportAllocs()
	for b.Loop() {
		roundTrip(b, c, msg, ack)
	}
}

func roundTrip(b *testing.B, c *client, msg, ack []byte) {
	if _, err := c.Conn.Write(msg); err != nil {
		b.Fatal(err)
	}
	if _, err := io.ReadFull(c, ack); err != nil {
		b.Fatal(err)
	}
}

// BenchmarkTelemetryParallel is the same from a device for each processor.
func BenchmarkTelemetryParallel(b *testing.B) {
	broker := benchmarkBroker(b)
	var n atomic.Int64
	b.ReportAllocs()
	b.RunParallel(func(pb *testing.PB) {
		c := connect(b, broker, "d", login{id: fmt.Sprint(n.Add(1))})
		msg := c.encode(message{topic: "v1/devices/me/telemetry", payload: `{"temperature":25}`, qos: 1, id: 1})
		ack := make([]byte, 4)
		for pb.Next() {
			roundTrip(b, c, msg, ack)
		}
	})
}

// BenchmarkDelivery is one QoS 1 message from publisher to subscriber with all four packets.
func BenchmarkDelivery(b *testing.B) {
	broker := benchmarkBroker(b)
	sub := connect(b, broker, "s", login{id: "s"})
	sub.subscribe("x", 1)
	pub := connect(b, broker, "p", login{id: "p"})
	msg := pub.encode(message{topic: "x", payload: big(100), qos: 1, id: 1})
	ack := make([]byte, 4)
	b.ReportAllocs()
	for b.Loop() {
		roundTrip(b, pub, msg, ack)
		sub.take()
	}
}

// BenchmarkIdleClient reports the memory of a quiet connection, including both ends of its socket
// pair.
func BenchmarkIdleClient(b *testing.B) {
	broker := benchmarkBroker(b)
	broker.quietAfter = time.Millisecond
	const n = 1000
	var before, after runtime.MemStats
	for b.Loop() {
		runtime.GC()
		runtime.ReadMemStats(&before)
		clients := make([]*client, n)
		for i := range clients {
			clients[i] = connect(b, broker, "d", login{id: fmt.Sprint(i)})
		}
		awaitQuiet(b, broker, n)
		runtime.GC()
		runtime.ReadMemStats(&after)
		for _, c := range clients {
			c.disconnect()
			c.Conn.Close()
		}
	}
	b.ReportMetric(float64(after.HeapAlloc-before.HeapAlloc)/n, "heap-B/client")
	b.ReportMetric(float64(after.StackInuse-before.StackInuse)/n, "stack-B/client")
}

func benchmarkBroker(b *testing.B) *Broker {
	broker, _ := newBroker(b, func(o *Options) {
		o.Telemetry = nothing
		o.Attributes = nothing
	})
	broker.quietAfter = quietAfter
	return broker
}

// BenchmarkReaders is one QoS 1 message of telemetry that the store has parsed, with its PUBACK, and
// with readers that take and acknowledge it at the same time.
func BenchmarkReaders(b *testing.B) {
	for _, n := range []int{0, 1, 4} {
		b.Run(fmt.Sprintf("readers=%d", n), func(b *testing.B) {
			var broker *Broker
			broker, _ = newBroker(b, func(o *Options) {
				o.Telemetry = func(_ context.Context, device string, data []byte) error {
					messages, err := payload.Parse(data, time.Now(), payload.Options{})
					_ = broker.PublishTelemetry(b.Context(), device, messages)
					return err
				}
			})
			broker.quietAfter = quietAfter
			var taken sync.WaitGroup
			for i := range n {
				r := connectReader(b, broker, "reader", login{id: fmt.Sprint("r", i)})
				r.subscribe("v1/devices/+/telemetry", 1)
				taken.Go(func() {
					for range b.N {
						if _, err := r.Next(time.Minute); err != nil {
							b.Error(err)
							return
						}
					}
				})
			}
			c := connect(b, broker, "d", login{id: "c"})
			msg := c.encode(message{topic: "v1/devices/me/telemetry", payload: `{"temperature":25.5,"humidity":40,"on":true}`, qos: 1, id: 1})
			ack := make([]byte, 4)
			b.ReportAllocs()
			b.ResetTimer()
			for range b.N {
				roundTrip(b, c, msg, ack)
			}
			taken.Wait()
			b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "messages/s")
		})
	}
}

// BenchmarkCatchUp is one message of 1 KiB that a reader takes out of the file after it was away,
// and its acknowledgement. heap-MiB is what the broker keeps in memory of all that wait.
func BenchmarkCatchUp(b *testing.B) {
	l := newLives(b)
	l.subscribed(4, "r", 1, telemetryFilter)
	var before, after runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	l.tell(0, int64(b.N), 1000)
	runtime.GC()
	runtime.ReadMemStats(&after)
	backlog := l.Stats().Backlog
	b.ReportAllocs()
	b.ResetTimer()
	r := l.reader(4, "r")
	for range b.N {
		if _, err := r.Next(patience); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric((float64(after.HeapAlloc)-float64(before.HeapAlloc))/(1<<20), "heap-MiB")
	b.ReportMetric(float64(backlog)/(1<<20), "file-MiB")
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "messages/s")
}
