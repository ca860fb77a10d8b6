// Package cache remembers what an [authz.Authorizer] said, so that a fleet that
// reconnects does not ask its token service again, and lives through the
// service's outages.
//
//	answers := cache.New(source, cache.Options{Vary: cache.ClientID})
//	defer answers.Close()
//	grant, err := answers.Authorize(ctx, request)
//
// # What is kept
//
// Grants and denials stand in two stores with budgets of their own: a flood of
// unknown tokens pushes out denials, never grants. When the store of grants is full,
// the token with most grants loses the one that it used least recently: whoever
// connects with one good token and ever new client identifiers pushes out no grant
// of another's. A token that a whole fleet shares may still fill all the room that
// others leave. Each answer has a fixed
// deadline, counted from the moment the source was asked; using it does not move
// it. What the source says of itself ([authz.Keep], Grant.Expires) only shortens
// the times of the [Options]. Errors are never kept. After one, its key is not
// asked for again for a second, so that one device cannot storm a source that is
// down.
//
// Keys are HMAC-SHA-256 under a key that is drawn at random for each Cache: no
// token stands in memory as a key, and nobody can choose keys that collide.
//
// # What happens at a deadline
//
// A hit in the last fifth of a grant's time renews it in the background. Behind
// the deadline the source is asked, and the device waits; there is no serving of
// old answers while the source works. Only when asking it meets a fault, the old
// grant serves for [Options.Stale] more: never past its Expires, never after a denial
// or a revocation, and never because of [authz.ErrBusy] or [authz.ErrThrottled], which
// the holder of a withdrawn token could bring about. A source that is told by
// [authz.Request.Known] that a grant is at stake should find out how it is before it
// answers with a fault.
//
// # What reaches the source
//
// At most one request per key at a time, whose callers share its answer; at most
// [Options.Concurrency] in all. Tokens that were good before go first. Tokens
// never seen hold at most half of the places, so that no flood of them keeps a
// known device out. A request belongs to the Cache, not to the caller who caused
// it: it ends with its answer, with [Options.Timeout], or with [Cache.Close].
//
// A Recheck wants a new answer: it is served from the stores only if the source
// was asked within the last five seconds, which is enough for all sessions of
// one token to share a request.
//
// # Revocation
//
// [Cache.Revoke] and revocations that the source itself reports to
// [Cache.Notify] take effect at once: entries go, and an answer that was under
// way is thrown away and asked for again. Without either, a withdrawn token is
// good for new connections until its entry's time is over: TTL, and Stale more
// while the source is down.
//
// The conditions of a grant are not asked here: whoever uses one calls
// [authz.Grant.Check], each time.
package cache
