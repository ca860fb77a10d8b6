package guard_test

import (
	"fmt"
	"testing"

	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/authz"
	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/authz/guard"
)

func benchmark(b *testing.B, a authz.Authorizer, r authz.Request) {
	ctx := b.Context()
	b.ReportAllocs()
	for b.Loop() {
		_, _ = a.Authorize(ctx, r)
	}
}

func BenchmarkGranted(b *testing.B) {
	benchmark(b, guard.New(authorizeFunc(byToken), guard.Options{}), request("good-device", attacker))
}

func BenchmarkThrottled(b *testing.B) {
	g := guard.New(authorizeFunc(byToken), guard.Options{Rate: 1e-9})
	for i := range 20 {
		_, _ = g.Authorize(b.Context(), request(fmt.Sprint("guess", i), attacker))
	}
	benchmark(b, g, request("guess", attacker))
}

func BenchmarkPrecheck(b *testing.B) {
	p := guard.NewPrecheck(guard.New(authorizeFunc(byToken), guard.Options{}), guard.Format{
		MinLength: 20, MaxLength: 64, Prefixes: []string{"map_"}, Charset: "_abcdefghijklmnopqrstuvwxyz0123456789",
	})
	benchmark(b, p, request("map_0123456789abcdefghijklmnopqrstuvwxyz!", attacker))
}
