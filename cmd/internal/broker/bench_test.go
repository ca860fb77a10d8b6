package broker

import (
	"fmt"
	"io"
	"runtime"
	"sync/atomic"
	"testing"
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

// BenchmarkIdleClient reports the memory of an idle connection, including both ends of its socket
// pair.
func BenchmarkIdleClient(b *testing.B) {
	broker := benchmarkBroker(b)
	const n = 1000
	var before, after runtime.MemStats
	for b.Loop() {
		runtime.GC()
		runtime.ReadMemStats(&before)
		clients := make([]*client, n)
		for i := range clients {
			clients[i] = connect(b, broker, "d", login{id: fmt.Sprint(i)})
		}
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
	return broker
}
