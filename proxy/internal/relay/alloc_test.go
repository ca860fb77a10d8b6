//go:build !race

package relay

import (
	"bytes"
	"crypto/tls"
	"net"
	"runtime"
	"strings"
	"testing"
	"time"
)

// A relayed chunk allocates nothing.
func TestNoAllocations(t *testing.T) { testNoAllocations(t, func(*Pair) {}) }

// Nor does one that filters pass on as it is.
func TestNoAllocationsWithFilters(t *testing.T) {
	testNoAllocations(t, func(p *Pair) { p.FilterUp, p.FilterDown = &counting{}, &counting{} })
}

func testNoAllocations(t *testing.T, prepare func(*Pair)) {
	eachPump(t, func(t *testing.T, newPump func() *Pump) {
		for _, transport := range []string{"tcp", "tls1.2", "tls1.3"} {
			for _, size := range []int{100, 6000} {
				r := newRig(t, newPump(), transport, "tcp")
				prepare(&r.pair)
				r.start()
				message, buf := bytes.Repeat([]byte("m"), size), make([]byte, size)
				device := r.device
				if secured, ok := device.(*tls.Conn); ok {
					// Reading with crypto/tls would allocate here: what the relay
					// sends is left sealed.
					device = secured.NetConn()
				}
				allocs := testing.AllocsPerRun(500, func() {
					r.send(r.device, message)
					mustRead(t, r.broker, buf)
					r.send(r.broker, message)
					mustRead(t, device, buf)
				})
				if allocs > 0 {
					t.Errorf("%s, %d bytes: %.0f allocations a round trip", transport, size, allocs)
				}
			}
		}
	})
}

// Many receivers that stand still hold what is left for each, not a large buffer.
func TestStalledReceiversHoldLittle(t *testing.T) {
	eachPump(t, func(t *testing.T, newPump func() *Pump) {
		const pairs, message = 100, 6000
		p := newPump()
		p.WriteTimeout = time.Hour
		rigs := make([]*rig, pairs)
		for i := range rigs {
			rigs[i] = newRig(t, p, "tcp", "tcp")
			_ = rigs[i].device.(*net.TCPConn).SetReadBuffer(4 << 10)
			_ = rigs[i].pair.Client.(*net.TCPConn).SetWriteBuffer(4 << 10)
			rigs[i].start()
		}
		before := heap()
		for _, r := range rigs {
			sent := int64(0)
			for range 1000 {
				r.send(r.broker, []byte(strings.Repeat("x", message)))
				sent += message
				if !reaches(r, sent) {
					break
				}
			}
		}
		if held := (heap() - before) / pairs; held > message+6<<10 {
			t.Errorf("%d bytes are held for each stalled receiver", held)
		}
		for _, r := range rigs { // or each end would take its grace
			reset(r.device)
		}
	})
}

// reaches waits a moment for down bytes to be written to the device.
func reaches(r *rig, down int64) bool {
	for range 2000 {
		if _, n := r.session.Bytes(); n >= down {
			return true
		}
		runtime.Gosched()
	}
	return false
}
