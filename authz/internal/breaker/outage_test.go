package breaker

import (
	"errors"
	"fmt"
	"net/netip"
	"testing"
	"testing/synctest"
	"time"

	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/authz"
)

// TestDownUntilTheNextDecision: a service is down from the first question without an answer until
// it decides again, but not because of what a few devices send.
func TestDownUntilTheNextDecision(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b, fault := New(time.Second), errors.New("connection refused")
		record := func(verdict Verdict, device int) {
			r := authz.Request{Token: authz.NewToken(fmt.Sprint(device)), Addr: netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, 0, 0, byte(device)}), 1)}
			b.Record(QuestionOf(&r, 0), Report{Verdict: verdict, Err: fault})
		}
		expect := func(what string, since time.Time, err error) {
			t.Helper()
			if gotSince, got := b.Down(); got != err || !gotSince.Equal(since) {
				t.Errorf("%s: down since %v, %v", what, gotSince, got)
			}
		}
		expect("at the start", time.Time{}, nil)
		for _, v := range []Verdict{Abandoned, Throttled} {
			record(v, 1)
		}
		expect("after a pause", time.Time{}, nil)
		start := time.Now()
		record(Failing, 1)
		time.Sleep(time.Minute)
		record(Failing, 2)
		expect("after two faults", start, fault)
		record(Answered, 3)
		expect("after an answer without a decision", start, fault)
		record(Decided, 1)
		expect("after a decision", time.Time{}, nil)
		time.Sleep(Recently)
		for range 2 * Threshold {
			record(Answered, 1)
		}
		expect("without a decision about one device", time.Time{}, nil)
		for device := range Threshold {
			record(Answered, device)
		}
		expect("without a decision about any device", time.Now(), fault)
	})
}

// TestFaultOfOneDeviceIsNoOutage: the breaker stays closed as long as the service decides about
// other devices.
func TestFaultOfOneDeviceIsNoOutage(t *testing.T) {
	b := New(time.Second)
	good := authz.Request{Token: authz.NewToken("good"), Addr: netip.MustParseAddrPort("10.0.0.1:1")}
	b.Record(QuestionOf(&good, 0), Report{Verdict: Decided})
	r := authz.Request{Token: authz.NewToken("odd"), Addr: netip.MustParseAddrPort("10.0.0.2:1")}
	if own := b.Record(QuestionOf(&r, 0), Report{Verdict: Failing, Err: errors.New("500")}); !own {
		t.Fatal("the fault is not the device's own")
	}
	if _, err := b.Down(); err != nil {
		t.Error(err)
	}
}
