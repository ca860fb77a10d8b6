//go:build integration && linux

package integration

import (
	"fmt"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/integration/harness"
	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/packets"
	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/packets/packetstest"
)

// TestDrainOfThousand: a drain disconnects devices one after the other, so that they do
// not all reconnect elsewhere at once, and ends well before its limit.
func TestDrainOfThousand(t *testing.T) {
	const size, spread = 1000, 2 * time.Second
	s := harness.StartSink(t)
	p := harness.NewProxy(t, s.Upstream())
	token := p.Token("device")
	p.Start()
	fleet := make([]*packetstest.Client, size)
	var all sync.WaitGroup
	for worker := range 8 {
		all.Go(func() {
			for i := worker; i < size; i += 8 {
				level := byte(4 + i%2)
				fleet[i] = p.Connect(t, level, fmt.Sprint("device-", i), token)
			}
		})
	}
	all.Wait()

	ends, codes := make([]time.Duration, size), make([]packets.ReasonCode, size)
	start := time.Now()
	p.Signal(syscall.SIGTERM)
	for i, d := range fleet {
		all.Go(func() {
			var err error
			if codes[i], err = d.AwaitEnd(harness.Patience); err != nil {
				t.Error(err)
			}
			ends[i] = time.Since(start)
		})
	}
	all.Wait()
	if status := p.Wait(t, harness.Patience); status != 0 {
		t.Errorf("exit status %d", status)
	}
	took := time.Since(start)
	checkSpread(t, ends, spread)
	for i, d := range fleet {
		if want := map[byte]packets.ReasonCode{4: 0, 5: packets.ServerShuttingDown}[d.Level]; codes[i] != want {
			t.Errorf("device %d got %v, want %v", i, codes[i], want)
			break
		}
	}
	t.Logf("%d sessions ended within %v", size, took.Round(time.Millisecond))
	if took > spread+harness.Slack {
		t.Errorf("took %v to end, the drain is 30s", took)
	}
}

// checkSpread fails the test if by any time many more sessions have ended than belong into that
// time. A busy machine can only make them fewer.
func checkSpread(t *testing.T, ends []time.Duration, spread time.Duration) {
	t.Helper()
	const parts = 10
	var count [parts]int
	for _, end := range ends {
		count[min(int(end*parts/spread), parts-1)]++
	}
	t.Logf("ends in each tenth of %v: %v", spread, count)
	sum := 0
	for part, n := range count {
		if sum += n; sum > (part+2)*len(ends)/parts {
			t.Errorf("%d of %d sessions have ended after %d tenths of the time", sum, len(ends), part+1)
		}
	}
}
