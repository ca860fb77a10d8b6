package replicas

import (
	"fmt"
	"testing"
	"time"
)

func TestNumbersCountOnce(t *testing.T) {
	w := startWindow(10)
	for _, tt := range []struct {
		number     uint64
		fresh, gap bool
	}{
		{10, false, false}, {9, false, false}, {11, true, false}, {13, true, true}, {12, true, false}, {12, false, false},
		{14, true, false}, {200, true, true}, {13, false, false}, {140, true, false}, {136, false, false}, {200, false, false}, {201, true, false},
	} {
		if fresh, gap := w.take(tt.number); fresh != tt.fresh || gap != tt.gap {
			t.Errorf("%d: new %t, gap %t, want %t, %t", tt.number, fresh, gap, tt.fresh, tt.gap)
		}
	}
}

func TestPeersAreBounded(t *testing.T) {
	p, now := make(peers), time.Unix(1e9, 0)
	for i := range maxPeers + 10 {
		fresh, _, _ := p.take(message{Name: "x", Instance: fmt.Sprint(i), Number: 1}, now)
		if fresh != (i < maxPeers) {
			t.Errorf("replica %d is known: %t", i, fresh)
		}
	}
	if fresh, _, _ := p.take(message{Name: "x", Instance: "new", Number: 1}, now.Add(peerKept+time.Second)); !fresh || len(p) != 1 {
		t.Errorf("%d replicas are known after a long silence", len(p))
	}
}
