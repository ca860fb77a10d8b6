package relay

import (
	"strings"
	"testing"
)

// With this Go release buffers can be lent. This test shows when a release no longer allows it,
// before memory grows.
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

// Wrong offsets are detected before a real connection uses them.
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

// A connection that has read large records keeps no memory for them.
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
