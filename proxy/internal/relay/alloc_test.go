//go:build !race

package relay

import (
	"bytes"
	"crypto/tls"
	"testing"
)

// A relayed chunk allocates nothing.
func TestNoAllocations(t *testing.T) { testNoAllocations(t, func(*Pair) {}) }

// A chunk that filters pass on unchanged allocates nothing either.
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
