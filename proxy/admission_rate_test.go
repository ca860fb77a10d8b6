package proxy

import (
	"errors"
	"net/netip"
	"testing"
	"testing/synctest"
	"time"

	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/authz"
	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/authz/bucket"
	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/packets"
)

// taken counts how many of n at the same moment are within the rate.
func taken(n int, take func() bool) (k int) {
	for range n {
		if take() {
			k++
		}
	}
	return k
}

func TestRate(t *testing.T) {
	now := time.Now()
	for _, c := range []struct {
		name        string
		rate        Rate
		first, then int // at once, and a second later
	}{
		{"no limit", Rate{Burst: 3}, 1000, 1000},
		{"a second's worth", Rate{PerSecond: 10}, 10, 10},
		{"one by one", Rate{PerSecond: 10, Burst: 1}, 1, 1},
		{"a burst, then the rate", Rate{PerSecond: 10, Burst: 50}, 50, 10},
	} {
		var p bucket.Bucket
		if n := taken(1000, func() bool { return p.Take(now, c.rate.bucket()) }); n != c.first {
			t.Errorf("%s: %d at once, want %d", c.name, n, c.first)
		}
		if n := taken(1000, func() bool { return p.Take(now.Add(time.Second), c.rate.bucket()) }); n != c.then {
			t.Errorf("%s: %d a second later, want %d", c.name, n, c.then)
		}
	}
}

func TestRatesOfAddresses(t *testing.T) {
	var a addressRates
	now, rate := time.Now(), Rate{PerSecond: 2}
	block := func(n uint32) netip.Prefix {
		return authz.Network(netip.AddrFrom4([4]byte{10, byte(n >> 16), byte(n >> 8), byte(n)}))
	}
	one := block(1)
	take := func() bool { return a.take(one, now, rate) }
	if n := taken(10, take); n != 2 {
		t.Errorf("%d at once, want 2", n)
	}
	if n := taken(10, func() bool { return a.take(block(2), now, rate) }); n != 2 {
		t.Errorf("%d of another address at once, want 2", n)
	}
	// As many strangers as there are places do no more than forget it.
	for n := range uint32(4 * rateSets * rateWays) {
		a.take(block(100+n), now, rate)
	}
	if n := taken(10, take); n > 2 {
		t.Errorf("%d after many strangers, want at most 2", n)
	}
	now = now.Add(time.Minute)
	if n := taken(10, take); n != 2 {
		t.Errorf("%d after a rest, want 2", n)
	}
}

func TestLimitOnConnectRate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t)
		b.policy.Limits.ConnectRate = Rate{PerSecond: 1, Burst: 2}
		dropped := 0
		b.srv.Trace.Dropped = func(string) { dropped++ }
		b.mustLogin(with(5, "a", goodToken))
		b.mustLogin(with(5, "b", goodToken))
		for level, want := range map[byte]packets.ReasonCode{5: packets.ConnectionRateExceeded, 4: packets.RefusedServerUnavailable} {
			_, ack, err := b.login(with(level, "c", goodToken))
			if err != nil || ack.Code != want || b.lastRefusal().Reason != RateExceeded {
				t.Errorf("level %d: CONNACK %v, error %v, want %v", level, ack.Code, err, want)
			}
		}
		time.Sleep(second)
		b.mustLogin(with(5, "d", goodToken))
		if dropped != 0 {
			t.Errorf("%d were dropped", dropped)
		}
		synctest.Wait() // for those that were refused
		if n := b.srv.Stats().Connections; n != 3 {
			t.Errorf("%d connections are counted, want 3", n)
		}
	})
}

// TestRefusalsAreLimited: connections beyond the rate of refusals are closed without an answer.
func TestRefusalsAreLimited(t *testing.T) {
	b := newAdmissionBench(&Policy{Limits: Limits{Connections: 1}})
	if c, ok := b.enter("192.0.2.1"); !ok || c.arrival.excess != nil {
		t.Fatal("the first was not admitted")
	}
	refused := 0
	for range 10 * maxRefusingRate {
		if c, ok := b.enter("192.0.2.1"); ok {
			refused++
			b.release(c)
		}
	}
	if refused != maxRefusingRate {
		t.Errorf("%d were refused at once, want %d", refused, maxRefusingRate)
	}
}

func TestLimitOnConnectRateOfAnAddress(t *testing.T) {
	b := newAdmissionBench(&Policy{Limits: Limits{AddressRate: Rate{PerSecond: 2}}})
	arrive := func(addr string) (error, bool) {
		c, ok := b.enter(addr)
		return c.arrival.excess, ok
	}
	for range 2 {
		if excess, ok := arrive("2001:db8::1"); !ok || excess != nil {
			t.Error("refused within the rate")
		}
	}
	var refused *RefusedError
	if excess, ok := arrive("2001:db8::2"); !ok || !errors.As(excess, &refused) || refused.Reason != RateExceeded {
		t.Errorf("the third of a /64 has %v, want a refusal", excess)
	}
	if excess, ok := arrive("2001:db8:0:1::1"); !ok || excess != nil {
		t.Error("another /64 is refused")
	}
	for range maxRefusing {
		arrive("2001:db8::2")
	}
	if _, ok := arrive("2001:db8::2"); ok {
		t.Error("a flood gets more refusals than the limit")
	}
}

func TestOverload(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t)
		var full error
		b.policy.Overload = func() error { return full }
		live := b.mustLogin(with(5, "a", goodToken))
		full = errTest
		_, ack, err := b.login(with(5, "b", goodToken))
		if err != nil || ack.Code != packets.ServerBusy {
			t.Errorf("CONNACK %v, error %v", ack.Code, err)
		}
		if r := b.lastRefusal(); r.Reason != Busy || !errors.Is(r.Err, errTest) {
			t.Errorf("refused as %s, %v", r.Reason, r.Err)
		}
		live.Send(ping)
		if raw, err := packets.ReadPacket(live, 10); err != nil || string(raw) != string(ping) {
			t.Errorf("the live session: % x, %v", raw, err)
		}
		full = nil
		b.mustLogin(with(5, "c", goodToken))
	})
}

// TestConnectRateBehindLoadBalancer: it is the device's address that counts.
func TestConnectRateBehindLoadBalancer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t)
		b.policy.Limits.AddressRate = Rate{PerSecond: 1}
		for _, want := range []struct {
			header string
			code   packets.ReasonCode
		}{
			{headerV1, packets.Success},
			{"PROXY TCP4 192.0.2.8 198.51.100.1 51000 8883\r\n", packets.Success},
			{headerV1, packets.RefusedServerUnavailable},
		} {
			c := b.connectFrom(balanced(), balancer)
			p := with(4, "device", goodToken)
			go c.Write(append([]byte(want.header), p.Append(nil)...))
			if ack, err := c.ReadConnack(); err != nil || ack.Code != want.code {
				t.Errorf("%q: CONNACK %v, error %v, want %v", want.header, ack.Code, err, want.code)
			}
		}
	})
}
