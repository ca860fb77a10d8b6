//go:build integration && linux

package integration

import (
	"crypto/tls"
	"fmt"
	"net"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/packets"
)

// BenchmarkConnects measures what a connection costs in processor time from accept
// to its end: handshake, CONNECT, CONNACK, DISCONNECT, sixteen at a time.
func BenchmarkConnects(b *testing.B) {
	const atOnce, warmUp, measured = 16, 1000, 8000
	for _, kind := range []string{"plain", "tls", "resumed"} {
		b.Run(kind, func(b *testing.B) {
			r := newRig(b, map[bool]string{true: "plain", false: "tls"}[kind == "plain"])
			if kind == "resumed" {
				r.tls.ClientSessionCache = tls.NewLRUClientSessionCache(0)
			}
			r.visit(atOnce, warmUp)
			before := processorTime(b, r.proxy)
			start := time.Now()
			r.visit(atOnce, measured)
			b.ReportMetric(measured/time.Since(start).Seconds(), "connects/s")
			b.ReportMetric(float64((processorTime(b, r.proxy)-before).Microseconds())/measured, "us/connect")
			b.ReportMetric(0, "ns/op")
		})
	}
}

// visit connects devices and sends them away, so many at a time and so many in all.
func (r *rig) visit(atOnce, number int) {
	r.b.Helper()
	var left atomic.Int64
	left.Store(int64(number))
	var workers sync.WaitGroup
	for w := range atOnce {
		workers.Go(func() {
			connect := identity(4, fmt.Sprintf("device-%d", w), r.token).Append(nil)
			for left.Add(-1) >= 0 {
				if err := r.comeAndGo(connect); err != nil {
					r.b.Error(err)
					return
				}
			}
		})
	}
	workers.Wait()
	if r.b.Failed() {
		r.b.FailNow()
	}
}

// comeAndGo is the shortest life of a device.
func (r *rig) comeAndGo(connect []byte) error {
	address := r.plain
	if r.tls != nil {
		address = r.proxy.tls
	}
	conn, err := net.DialTimeout("tcp", address, patience)
	if err != nil {
		return err
	}
	defer conn.Close()
	if err := conn.SetDeadline(time.Now().Add(patience)); err != nil {
		return err
	}
	if r.tls != nil {
		conn = tls.Client(conn, r.tls)
	}
	if _, err := conn.Write(connect); err != nil {
		return err
	}
	if raw, err := packets.ReadPacket(conn, 64); err != nil || raw[3] != 0 {
		return fmt.Errorf("CONNACK % x, %w", raw, err)
	}
	_, err = conn.Write([]byte{0xE0, 0})
	return err
}
