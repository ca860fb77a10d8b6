package tokenhttp

import (
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/authz"
)

const (
	// maxSeconds keeps spans of time far from what a time.Duration can hold.
	maxSeconds = 10 * 365 * 24 * 3600
	// maxPause is the longest Retry-After that is honoured.
	maxPause = time.Minute
)

// notAtAll is for answers that must not be used again.
func notAtAll() authz.Keep { return authz.Keep{TTL: -1, Stale: -1} }

// keepOf reads Cache-Control and Age (RFC 9111 sections 5.1 and 5.2.2).
// s-maxage and private are for caches that users share, which this is not.
func keepOf(h http.Header) authz.Keep {
	var keep authz.Keep
	age := -1
	for directive := range strings.SplitSeq(strings.Join(h.Values("Cache-Control"), ","), ",") {
		name, value, _ := strings.Cut(strings.TrimSpace(directive), "=")
		switch strings.ToLower(strings.TrimSpace(name)) {
		case "no-store", "no-cache":
			return notAtAll()
		case "must-revalidate":
			keep.Stale = -1
		case "max-age":
			// What cannot be read counts as stale (RFC 9111 section 4.2.1), and
			// of two the shorter counts.
			n := deltaSeconds(strings.Trim(strings.TrimSpace(value), `"`))
			if age < 0 || n < age {
				age = n
			}
		}
	}
	if age < 0 {
		return keep
	}
	left := age - deltaSeconds(strings.TrimSpace(h.Get("Age")))
	if left <= 0 {
		return notAtAll()
	}
	keep.TTL = time.Duration(left) * time.Second
	return keep
}

// deltaSeconds reads a number of seconds: 0 if it is none, at most maxSeconds.
func deltaSeconds(text string) int {
	if text == "" || strings.Trim(text, "0123456789") != "" {
		return 0
	}
	n, err := strconv.ParseUint(text, 10, 64)
	if err != nil {
		return maxSeconds // it is more than can be counted
	}
	return int(min(n, maxSeconds))
}

// retryAfter reads Retry-After (RFC 9110 section 10.2.3).
func retryAfter(h http.Header, now time.Time) time.Duration {
	text := strings.TrimSpace(h.Get("Retry-After"))
	pause := time.Duration(deltaSeconds(text)) * time.Second
	if at, err := http.ParseTime(text); err == nil {
		pause = at.Sub(now)
	}
	return min(max(pause, 0), maxPause)
}
