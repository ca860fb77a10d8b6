package guard_test

import (
	"context"
	"fmt"
	"net/netip"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/authz"
	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/authz/cache"
	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/authz/guard"
)

// guarded is the usual order: a Guard, a cache, a source.
func guarded(source authz.Authorizer) (*guard.Guard, *cache.Cache) {
	c := cache.New(source, cache.Options{})
	return guard.New(c, guard.Options{}), c
}

// TestNeighbour: a device that has connected before and shares the address of an attacker
// notices nothing, even when its entry has expired.
func TestNeighbour(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g, c := guarded(authorizeFunc(byToken))
		defer c.Close()
		device := request("good-device", attacker)
		outcome(t, g, device)
		for i := range 5 * 60 * 20 { // five minutes at twice the rate
			outcome(t, g, request(fmt.Sprint("guess", i), attacker))
			if i%100 == 0 {
				if got := outcome(t, g, device); got != "granted" {
					t.Fatalf("after %v the device is %s", time.Duration(i)*50*time.Millisecond, got)
				}
				if got := outcome(t, g, request(fmt.Sprint("good", i), stranger)); got != "granted" {
					t.Fatalf("a new device at another address is %s", got)
				}
			}
			time.Sleep(50 * time.Millisecond)
		}
		// A device that sleeps for five minutes finds its entry expired and its address
		// throttled: the source is asked for it, and no old grant is used.
		sleeper := request("good-sleeper", stranger)
		outcome(t, g, sleeper)
		time.Sleep(5 * time.Minute)
		sleeper.Addr = device.Addr
		until(t, g, request("guess", attacker), "denied", 20)
		if got := outcome(t, g, sleeper); got != "granted" || c.Stats().Stale != 0 {
			t.Errorf("the sleeper is %s, %d old grants were served", got, c.Stats().Stale)
		}
	})
}

// TestThrottledIsNotCached: a token that an attacker's address could not try works from another
// address.
func TestThrottledIsNotCached(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g, c := guarded(authorizeFunc(byToken))
		defer c.Close()
		for i := range 20 {
			outcome(t, g, request(fmt.Sprint("guess", i), attacker))
		}
		if got := outcome(t, g, request("good-device", attacker)); got != "throttled" {
			t.Fatalf("an address without a budget is %s", got)
		}
		if got := outcome(t, g, request("good-device", stranger)); got != "granted" {
			t.Errorf("the same token from another address is %s", got)
		}
		if s := c.Stats(); s.Positive.Entries != 1 || s.Negative.Entries != 20 {
			t.Errorf("%d grants and %d denials are held", s.Positive.Entries, s.Negative.Entries)
		}
	})
}

// TestWithdrawnStaysWithdrawn: the holder of a withdrawn token gains nothing by using up the
// budget of its address.
func TestWithdrawnStaysWithdrawn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var off atomic.Bool
		g, c := guarded(authorizeFunc(func(ctx context.Context, r authz.Request) (*authz.Grant, error) {
			if off.Load() {
				return nil, authz.ErrUnknown
			}
			return byToken(ctx, r)
		}))
		defer c.Close()
		outcome(t, g, request("good-thief", attacker))
		off.Store(true)
		time.Sleep(time.Minute)
		for i := range 1000 {
			outcome(t, g, request(fmt.Sprint("guess", i), attacker))
			if got := outcome(t, g, request("good-thief", attacker)); got == "granted" {
				t.Fatalf("after %d guesses the withdrawn token is granted", i)
			}
			time.Sleep(20 * time.Millisecond)
		}
	})
}

// flood sends 100,000 random tokens from 100 addresses while 20,000 devices reconnect and their
// entries expire.
type flood struct {
	devices, guesses int
	calls            atomic.Int64
	granted          atomic.Int64
}

func (f *flood) Authorize(ctx context.Context, r authz.Request) (*authz.Grant, error) {
	f.calls.Add(1)
	select {
	case <-ctx.Done():
		return nil, ctx.Err()
	case <-time.After(5 * time.Millisecond):
		return byToken(ctx, r)
	}
}

func (f *flood) device(i int) authz.Request {
	r := authz.Request{Token: authz.NewToken(fmt.Sprintf("good-%032d", i))}
	r.Addr = netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, 0, byte(i >> 8), byte(i)}), 1)
	return r
}

func (f *flood) guess(i int) authz.Request {
	r := authz.Request{Token: authz.NewToken(fmt.Sprintf("guess-%032d", i))}
	r.Addr = netip.AddrPortFrom(netip.AddrFrom4([4]byte{192, 0, 2, byte(i % 100)}), 1)
	return r
}

func TestFlood(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := &flood{devices: 20_000, guesses: 100_000}
		g, c := guarded(f)
		defer c.Close()
		for i := range f.devices { // 50 s, so that some entries have expired by now
			if i%200 == 0 {
				time.Sleep(500 * time.Millisecond)
			}
			go func() { _, _ = g.Authorize(t.Context(), f.device(i)) }()
		}
		synctest.Wait()
		time.Sleep(time.Second)
		before := c.Stats()
		if before.Positive.Entries != f.devices {
			t.Fatalf("%d of %d devices are known", before.Positive.Entries, f.devices)
		}
		const ticks = 1000 // of 10 ms
		for tick := range ticks {
			for i := range f.guesses / ticks {
				go func() { _, _ = g.Authorize(t.Context(), f.guess(tick*f.guesses/ticks+i)) }()
			}
			for i := range f.devices / ticks {
				go func() {
					if grant, _ := g.Authorize(t.Context(), f.device(tick*f.devices/ticks+i)); grant != nil {
						f.granted.Add(1)
					}
				}()
			}
			time.Sleep(10 * time.Millisecond)
		}
		time.Sleep(10 * time.Second)
		synctest.Wait()
		after := c.Stats()
		hits := after.Positive.Hits - before.Positive.Hits
		if f.granted.Load() != int64(f.devices) || hits < uint64(f.devices)*999/1000 {
			t.Errorf("%d of %d devices came in, %d from the cache", f.granted.Load(), f.devices, hits)
		}
		if after.Positive.Evictions != 0 || after.Positive.Entries != f.devices {
			t.Errorf("grants after the flood: %+v", after.Positive)
		}
		if refreshed := after.Refresh; refreshed.Granted == 0 || refreshed.Unavailable != 0 {
			t.Errorf("refreshes during the flood: %+v", refreshed)
		}
		// 100 addresses, 20 failures each and 10 per second in some 10 s.
		s := g.Stats()
		if s.Charged > 100*(20+10*11) || s.Throttled == 0 {
			t.Errorf("guard: %+v", s)
		}
		t.Logf("cache %+v, guard %+v, %d calls", after, s, f.calls.Load())
	})
}
