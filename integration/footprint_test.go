//go:build integration && linux

package integration

import (
	"bytes"
	"crypto/tls"
	"fmt"
	"net"
	"os"
	"sync"
	"testing"
	"time"

	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/packets"
)

// What the whole program costs, measured from outside:
//
//	go test -tags integration -run '^$' -bench . ./integration
//
// The devices live in the test's process and the broker in another, so that 9,000
// sessions are within a limit of 20,000 files for each.

// rig is the program between many devices and a sink.
type rig struct {
	*proxy
	b       *testing.B
	token   string
	tls     *tls.Config // nil for plain
	devices []net.Conn
}

func newRig(b *testing.B, transport string) *rig {
	address := freeAddress(b)
	launch(b, append(os.Environ(), sinkVariable+"="+address), os.Args[0])
	p := newProxy(b, fmt.Sprintf("upstream: {servers: ['tcp://%s']}\n", address))
	p.environ = append(p.environ, "MQTT_AUTH_PROXY_LOG_LEVEL=warn")
	r := &rig{proxy: p, b: b, token: p.token("device")}
	p.start()
	if transport == "tls" {
		r.tls = p.trust(b)
	}
	eventually(b, "the sink", func() bool {
		conn, err := net.Dial("tcp", address)
		if err == nil {
			conn.Close()
		}
		return err == nil
	})
	return r
}

// open connects devices up to a number, a few at a time.
func (r *rig) open(number int) {
	r.b.Helper()
	var mu sync.Mutex
	var workers sync.WaitGroup
	for range 8 {
		workers.Go(func() {
			for {
				mu.Lock()
				i := len(r.devices)
				if i >= number {
					mu.Unlock()
					return
				}
				r.devices = append(r.devices, nil)
				mu.Unlock()
				conn, err := r.connect(fmt.Sprintf("device-%d", i))
				if err != nil {
					r.b.Error(err)
					return
				}
				mu.Lock()
				r.devices[i] = conn
				mu.Unlock()
			}
		})
	}
	workers.Wait()
	if r.b.Failed() {
		r.b.FailNow()
	}
}

// connect presents one device, which sends one message.
func (r *rig) connect(clientID string) (net.Conn, error) {
	address := r.plain
	if r.tls != nil {
		address = r.proxy.tls
	}
	conn, err := net.DialTimeout("tcp", address, patience)
	if err != nil {
		return nil, err
	}
	r.b.Cleanup(func() { conn.Close() })
	if r.tls != nil {
		conn = tls.Client(conn, r.tls)
	}
	if _, err := conn.Write(identity(4, clientID, r.token).Append(nil)); err != nil {
		return nil, err
	}
	if raw, err := packets.ReadPacket(conn, 64); err != nil || raw[3] != 0 {
		return nil, fmt.Errorf("%s: CONNACK % x, %w", clientID, raw, err)
	}
	_, err = conn.Write(messageOf(100))
	return conn, err
}

// messageOf is a PUBLISH at QoS 0 with a payload of so many bytes.
func messageOf(size int) []byte {
	p := packets.Publish{Topic: []byte("a/b"), Payload: bytes.Repeat([]byte{'x'}, size)}
	return p.Append(nil, 4)
}

// send writes to every device's connection.
func (r *rig) send(b []byte) {
	r.b.Helper()
	for _, d := range r.devices {
		if _, err := d.Write(b); err != nil {
			r.b.Fatal(err)
		}
	}
}

// answer makes sure that every session works from end to end.
func (r *rig) answer() {
	r.b.Helper()
	r.send([]byte{0xC0, 0})
	for _, d := range r.devices {
		if raw, err := packets.ReadPacket(d, 64); err != nil || raw[0] != 0xD0 {
			r.b.Fatalf("PINGREQ answered with % x, %v", raw, err)
		}
	}
}

// BenchmarkIdleSessions measures what an idle session costs: after one small
// message, and again after one that fills a TLS record.
func BenchmarkIdleSessions(b *testing.B) {
	const sessions, calm = 9000, 5 * time.Second
	for _, transport := range []string{"plain", "tls"} {
		b.Run(transport, func(b *testing.B) {
			r := newRig(b, transport)
			r.open(10)
			r.answer()
			base, files := memory(b, r.proxy), descriptors(b, r.proxy)
			r.open(sessions)
			each := func() float64 {
				r.answer()
				time.Sleep(calm)
				return float64(memory(b, r.proxy)-base) / (sessions - 10) / 1024
			}
			b.ReportMetric(each(), "KiB/session")
			b.ReportMetric(float64(descriptors(b, r.proxy)-files)/(sessions-10), "files/session")
			r.send(messageOf(16_000))
			b.ReportMetric(each(), "KiB/session-after-16KB-record")
			b.ReportMetric(0, "ns/op")
		})
	}
}

// BenchmarkPacedMessages measures what a message costs in processor time when 200
// devices send 5,000 a second.
func BenchmarkPacedMessages(b *testing.B) {
	const sessions, rate, seconds = 200, 5000, 10
	for _, transport := range []string{"plain", "tls"} {
		b.Run(transport, func(b *testing.B) {
			r := newRig(b, transport)
			r.open(sessions)
			small := messageOf(100)
			pace := func(messages int) {
				tick := time.NewTicker(time.Millisecond)
				defer tick.Stop()
				start := time.Now()
				for sent := 0; sent < messages; <-tick.C {
					for due := min(messages, int(time.Since(start).Seconds()*rate)); sent < due; sent++ {
						if _, err := r.devices[sent%sessions].Write(small); err != nil {
							b.Fatal(err)
						}
					}
				}
			}
			pace(rate) // to warm up
			before := processorTime(b, r.proxy)
			pace(rate * seconds)
			spent := processorTime(b, r.proxy) - before
			r.answer()
			b.ReportMetric(float64(spent.Microseconds())/(rate*seconds), "us/message")
			b.ReportMetric(0, "ns/op")
		})
	}
}
