package relay

import (
	"strings"
	"testing"
)

// With this Go release buffers can be lent. A release with which they cannot must be
// noticed here, not by growing memory.
func TestLendable(t *testing.T) {
	o, ok := findTLSInput()
	if !ok {
		t.Fatal("crypto/tls keeps its input elsewhere")
	}
	if err := tryLending(o); err != nil {
		t.Fatal(err)
	}
	if !LendsTLSBuffers() {
		t.Fatal("not lendable")
	}
}

// The wrong offsets are noticed before a connection is harmed by them.
func TestLendingToTheWrongField(t *testing.T) {
	o, ok := findTLSInput()
	if !ok {
		t.Fatal("crypto/tls keeps its input elsewhere")
	}
	o.raw, o.hand = o.hand, o.raw
	if tryLending(o) == nil {
		t.Error("a connection works with its fields swapped")
	}
}

// A connection that has read large records keeps nothing of them.
func TestNothingKeptAfterLargeRecords(t *testing.T) {
	eachPump(t, func(t *testing.T, newPump func() *Pump) {
		r := newRig(t, newPump(), "tls1.3", "tcp").start()
		want := strings.Repeat("large", 100<<10)
		go r.device.Write([]byte(want))
		r.expect(r.broker, want)
		r.device.Close()
		r.expectEnd(r.broker, "")
		r.broker.Close()
		r.end()
		in := lendable().of(r.pair.Client.TLS)
		if kept := in.raw.Cap() + in.hand.Cap(); kept > 0 {
			t.Errorf("%d bytes are kept", kept)
		}
	})
}
