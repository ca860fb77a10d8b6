package replicas

import (
	"fmt"
	"testing"
	"time"
)

func TestHistoryIsBounded(t *testing.T) {
	var h history
	now := time.Unix(1e9, 0)
	for i := range maxHistory + 10 {
		w := subject(fmt.Sprint(i))
		w.At = now
		h.add(w, now)
	}
	if len(h.list) != maxHistory || len(h.known) != maxHistory {
		t.Errorf("%d and %d withdrawals are kept", len(h.list), len(h.known))
	}
	later := subject("later")
	later.At = now.Add(historyKept + time.Second)
	if !h.add(later, later.At) || h.add(later, later.At) || len(h.list) != 1 || len(h.known) != 1 {
		t.Errorf("%d withdrawals are kept after a day", len(h.list))
	}
}
