package cache_test

import (
	"context"
	"fmt"
	"runtime"
	"sync/atomic"
	"testing"

	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/authz"
	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/authz/cache"
)

// authorizeFunc is an Authorizer made of one function.
type authorizeFunc func(ctx context.Context, r authz.Request) (*authz.Grant, error)

func (f authorizeFunc) Authorize(ctx context.Context, r authz.Request) (*authz.Grant, error) {
	return f(ctx, r)
}

// fleet returns n requests with different tokens of 40 bytes.
func fleet(n int) []authz.Request {
	requests := make([]authz.Request, n)
	for i := range requests {
		requests[i] = authz.Request{Token: authz.NewToken(fmt.Sprintf("map_%036d", i)), ClientID: fmt.Sprint("pump-", i)}
	}
	return requests
}

// filled returns a Cache that has the answers to n requests, and those requests.
func filled(b *testing.B, n int, o cache.Options, source authorizeFunc) (*cache.Cache, []authz.Request) {
	c := cache.New(source, o)
	b.Cleanup(c.Close)
	requests := fleet(n)
	for _, r := range requests {
		_, _ = c.Authorize(b.Context(), r)
	}
	return c, requests
}

func grantAll(_ context.Context, r authz.Request) (*authz.Grant, error) {
	id := r.Token.Fingerprint()
	return &authz.Grant{TokenID: id, Subject: id}, nil
}

func denyAll(context.Context, authz.Request) (*authz.Grant, error) {
	return nil, &authz.Denial{Reason: authz.Unknown}
}

const devices = 10_000

func benchmarkHits(b *testing.B, o cache.Options, source authorizeFunc) {
	c, requests := filled(b, devices, o, source)
	ctx := b.Context()
	b.ReportAllocs()
	i := 0
	for b.Loop() {
		_, _ = c.Authorize(ctx, requests[i%devices])
		i++
	}
}

func BenchmarkHit(b *testing.B) { benchmarkHits(b, cache.Options{}, grantAll) }

func BenchmarkHitVary(b *testing.B) {
	benchmarkHits(b, cache.Options{Vary: cache.ClientID | cache.Username | cache.Addr}, grantAll)
}

func BenchmarkNegativeHit(b *testing.B) {
	benchmarkHits(b, cache.Options{NegativeTTL: cache.MaxNegativeTTL}, denyAll)
}

func BenchmarkHitParallel(b *testing.B) {
	c, requests := filled(b, devices, cache.Options{}, grantAll)
	ctx := b.Context()
	b.SetParallelism(8) // times GOMAXPROCS
	b.ResetTimer()
	b.ReportAllocs()
	var next atomic.Uint64
	b.RunParallel(func(pb *testing.PB) {
		i := next.Add(7919)
		for pb.Next() {
			_, _ = c.Authorize(ctx, requests[i%devices])
			i++
		}
	})
}

// BenchmarkMiss asks for a new token each time: it measures the cost in addition to the source.
func BenchmarkMiss(b *testing.B) {
	c, _ := filled(b, 0, cache.Options{}, grantAll)
	r := authz.Request{}
	ctx := b.Context()
	b.ReportAllocs()
	i := 0
	for b.Loop() {
		r.Token = authz.NewToken(fmt.Sprintf("map_%036d", i))
		_, _ = c.Authorize(ctx, r)
		i++
	}
}

// BenchmarkRevoke revokes one token of 100,000 and stores it again.
func BenchmarkRevoke(b *testing.B) {
	c, requests := filled(b, 100_000, cache.Options{Size: 200_000}, grantAll)
	ctx := b.Context()
	b.ReportAllocs()
	i := 0
	for b.Loop() {
		r := requests[i%len(requests)]
		if c.Revoke(authz.Revocation{Subject: r.Token.Fingerprint()}) == 0 {
			b.Fatal("nothing was revoked")
		}
		_, _ = c.Authorize(ctx, r)
		i++
	}
}

// BenchmarkFleet reports the memory of a grant if a fleet has many tokens and few different
// attributes and topic rules, like most fleets.
func BenchmarkFleet(b *testing.B) {
	const n = 50_000
	for name, rules := range map[string]string{
		"attributes": `[]`,
		"attributes and rules": `[{"permission":"allow","action":"publish","topics":["v1/${client_id}/telemetry/#","v1/${client_id}/state"]},` +
			`{"permission":"allow","action":"subscribe","topics":["v1/${client_id}/rpc/+"]}]`,
	} {
		b.Run(name, func(b *testing.B) {
			source := func(_ context.Context, r authz.Request) (*authz.Grant, error) {
				id := r.Token.Fingerprint()
				acl, err := authz.ParseACL([]byte(rules), authz.ACLOptions{})
				site := fmt.Sprint("site-", id[len(id)-1])
				return &authz.Grant{TokenID: id, Subject: id, ACL: acl, Attrs: map[string]string{"site": site, "model": "P-3", "owner": "works"}}, err
			}
			requests := fleet(n)
			for b.Loop() {
				before := heapInUse()
				c := cache.New(authorizeFunc(source), cache.Options{})
				for _, r := range requests {
					_, _ = c.Authorize(b.Context(), r)
				}
				b.ReportMetric(float64(heapInUse()-before)/n, "heap-bytes/grant")
				c.Close()
			}
		})
	}
}

func heapInUse() uint64 {
	runtime.GC()
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}
