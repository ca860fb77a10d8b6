package tokenhttp

import (
	"net/http"
	"strings"
	"time"

	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/authz"
	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/authz/internal/freshness"
)

// maxPause is the longest Retry-After that is honored.
const maxPause = time.Minute

// notAtAll is for answers that must not be reused.
func notAtAll() authz.Keep { return authz.Keep{TTL: -1, Stale: -1} }

// keepOf returns how long an answer may be reused according to its headers.
func keepOf(h http.Header) authz.Keep {
	var keep authz.Keep
	c := freshness.Of(h)
	if c.MustRevalidate {
		keep.Stale = -1
	}
	switch {
	case c.NoStore, c.MaxAge >= 0 && c.MaxAge <= c.Age:
		return notAtAll()
	case c.MaxAge > 0:
		keep.TTL = c.MaxAge - c.Age
	}
	return keep
}

// retryAfter parses Retry-After (RFC 9110 section 10.2.3).
func retryAfter(h http.Header, now time.Time) time.Duration {
	text := strings.TrimSpace(h.Get("Retry-After"))
	pause := freshness.Seconds(text)
	if at, err := http.ParseTime(text); err == nil {
		pause = at.Sub(now)
	}
	return min(max(pause, 0), maxPause)
}
