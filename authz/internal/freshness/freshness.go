// Package freshness reads how long an HTTP answer holds (RFC 9111).
package freshness

import (
	"net/http"
	"strconv"
	"strings"
	"time"
)

// Control is what Cache-Control and Age say (RFC 9111 sections 5.1 and 5.2.2). What
// they say to caches that several users share, s-maxage and private, is left out.
type Control struct {
	// NoStore: the answer must not be used again (no-store or no-cache).
	NoStore bool
	// MustRevalidate: it must not be used once it is stale.
	MustRevalidate bool
	// MaxAge is how long it holds, the shortest if that is given more than once, and
	// negative if it is not given. One that cannot be read is 0 (section 4.2.1).
	MaxAge time.Duration
	// Age is how long ago it was made.
	Age time.Duration
}

// Of reads the headers of an answer.
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

// Longest is the longest span that is read. It is far from what a time.Duration can
// hold.
const Longest = 10 * 365 * 24 * time.Hour

// Seconds reads a number of seconds (delta-seconds, RFC 9111 section 1.2.2): 0 if text
// is none, at most [Longest].
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
