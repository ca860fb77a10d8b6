package tokenjwt

import (
	"strings"
	"testing"

	"github.com/go-jose/go-jose/v4"
)

// BenchmarkAuthorize measures the check of a valid token, by algorithm.
func BenchmarkAuthorize(b *testing.B) {
	for _, alg := range []jose.SignatureAlgorithm{jose.ES256, jose.RS256, jose.EdDSA, jose.HS256} {
		b.Run(string(alg), func(b *testing.B) {
			private := signers()[alg]
			keys := Keys{Secret: file(b, keyring().secret)}
			if alg != jose.HS256 {
				keys = Keys{PEM: file(b, publicPEM(b, publicOf(b, private)))}
			}
			s := opened(b, strict(keys))
			r := request(signed(b, alg, private, "", claims(nil)))
			b.ReportAllocs()
			for b.Loop() {
				if _, err := s.Authorize(b.Context(), r); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// BenchmarkRefuse measures the cost of a flood: texts that are no tokens, and forged tokens.
func BenchmarkRefuse(b *testing.B) {
	s := loaded(b, strict(Keys{}), always(named(b, "k1", keyring().p256.Public())))
	for name, text := range map[string]string{
		"opaque":  "kD9f2mQ7xW4tB1nZ8cV5aL0s",
		"64KiB":   strings.Repeat("x", 65535),
		"16KiB":   strings.Repeat("x", 16<<10-3) + ".!x",
		"foreign": signed(b, jose.ES256, keyring().other, "k1", claims(map[string]any{"iss": "x"})),
		"forged":  signed(b, jose.ES256, keyring().other, "k1", claims(nil)),
	} {
		b.Run(name, func(b *testing.B) {
			r := request(text)
			b.ReportAllocs()
			for b.Loop() {
				if _, err := s.Authorize(b.Context(), r); err == nil {
					b.Fatal("granted")
				}
			}
		})
	}
}
