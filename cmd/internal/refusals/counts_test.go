package refusals

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/proxy"
)

func TestCountsAreOfTheLastHourAndDay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := New(10)
		add := func(n int, reason proxy.Reason) {
			for range n {
				s.Add(proxy.Refusal{Reason: reason})
			}
		}
		expect := func(what string, want ...Count) {
			t.Helper()
			got := s.Counts()
			ok := len(got) == len(want)
			for i := 0; ok && i < len(want); i++ {
				ok = got[i].Reason == want[i].Reason && got[i].Hour == want[i].Hour && got[i].Day == want[i].Day && got[i].Meaning != "" && got[i].Advice != ""
			}
			if !ok {
				t.Errorf("%s: %+v, want %+v", what, got, want)
			}
		}
		expect("at the start")
		add(3, unknown)
		time.Sleep(30 * time.Minute)
		add(5, proxy.Busy)
		add(9, proxy.HealthCheck)
		expect("within an hour", Count{Reason: proxy.Busy, Hour: 5, Day: 5}, Count{Reason: unknown, Hour: 3, Day: 3})
		time.Sleep(30 * time.Minute)
		add(1, unknown)
		expect("after an hour", Count{Reason: proxy.Busy, Hour: 5, Day: 5}, Count{Reason: unknown, Hour: 1, Day: 4})
		time.Sleep(23 * time.Hour)
		expect("after a day", Count{Reason: proxy.Busy, Day: 5}, Count{Reason: unknown, Day: 1})
		time.Sleep(time.Hour)
		expect("after another hour")
		add(1, unknown)
		time.Sleep(100 * 24 * time.Hour)
		expect("after a long time")
		add(2, unknown)
		expect("and again", Count{Reason: unknown, Hour: 2, Day: 2})
	})
}

// TestEveryReasonHasAdvice except the one for connections that asked for nothing.
func TestEveryReasonHasAdvice(t *testing.T) {
	n := 1
	for _, info := range proxy.Reasons() {
		if info.Fault == proxy.FaultNone {
			continue
		}
		if n++; Advice(info.Reason) == "" {
			t.Errorf("what to do about %s is not said", info.Reason)
		}
	}
	if len(advice) != n-1 {
		t.Errorf("there is advice about %d reasons, %d exist", len(advice), n-1)
	}
}
