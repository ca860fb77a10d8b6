// Package freshness determines how long an HTTP response stays fresh (RFC 9111).
package freshness

import (
	"net/http"
	"strconv"
	"strings"
	"time"
)

// Control has the content of Cache-Control and Age (RFC 9111 sections 5.1 and 5.2.2). It omits
// the directives for shared caches, s-maxage and private.
type Control struct {
	// NoStore: the response must not be used again (no-store or no-cache).
	NoStore bool
	// MustRevalidate: the response must not be used once it is stale.
	MustRevalidate bool
	// MaxAge is how long the response stays fresh: the shortest value if there are several, and
	// negative if there is none. An invalid value counts as 0 (section 4.2.1).
	MaxAge time.Duration
	// Age is how long ago the response was generated.
	Age time.Duration
}

// Of reads the header of a response.
func Of(h http.Header) Control {
	c := Control{MaxAge: -1, Age: Seconds(h.Get("Age"))}
	for directive := range strings.SplitSeq(strings.Join(h.Values("Cache-Control"), ","), ",") {
		name, value, _ := strings.Cut(directive, "=")
		switch strings.ToLower(strings.TrimSpace(name)) {
		case "no-store", "no-cache":
			c.NoStore = true
		case "must-revalidate":
			c.MustRevalidate = true
		case "max-age":
			age := Seconds(strings.Trim(strings.TrimSpace(value), `"`))
			if c.MaxAge < 0 || age < c.MaxAge {
				c.MaxAge = age
			}
		}
	}
	return c
}

// Longest is the longest time that Seconds returns. It is far below the maximum of a
// time.Duration.
const Longest = 10 * 365 * 24 * time.Hour

// Seconds parses a number of seconds (delta-seconds, RFC 9111 section 1.2.2). It returns 0 if
// text is not one, and at most [Longest].
func Seconds(text string) time.Duration {
	text = strings.TrimSpace(text)
	if text == "" || strings.Trim(text, "0123456789") != "" {
		return 0
	}
	n, err := strconv.ParseUint(text, 10, 64)
	if err != nil || n > uint64(Longest/time.Second) {
		return Longest
	}
	return time.Duration(n) * time.Second
}
