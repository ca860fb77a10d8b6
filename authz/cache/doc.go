// Package cache remembers the answers of an [authz.Authorizer], so that a fleet that
// reconnects does not ask its token service again, and can connect during the
// service's outages.
//
//	answers := cache.New(source, cache.Options{Vary: cache.ClientID})
//	defer answers.Close()
//	grant, err := answers.Authorize(ctx, request)
//
// # What is kept
//
// Grants and denials are in two stores, each with its own limit: a flood of unknown
// tokens evicts denials, never grants. When the store of grants is full, the token with
// the most grants loses the one that it used least recently. A device that connects with
// one good token and ever new client identifiers therefore evicts only its own grants. A
// token that a whole fleet shares may still fill all the room that others leave.
//
// Each answer has a fixed deadline, counted from the moment the source was asked; using
// the answer does not move it. The times that the source gives ([authz.Keep],
// Grant.Expires) only shorten those of the [Options]. Errors are never kept. After an
// error, the source is not asked about the same key for a second, so that one device
// cannot flood a source that is down.
//
// Keys are HMAC-SHA-256 under a secret that is drawn at random for each Cache, so that
// the map of keys holds no token, and an attacker cannot choose keys that collide.
//
// # What happens at a deadline
//
// A hit in the last fifth of a grant's time renews it in the background. After the
// deadline the source is asked, and the device waits: old answers are not used while
// the source works. Only if the source fails is the old grant used for [Options.Stale]
// longer: never past its Expires, never after a denial or a revocation, and never
// because of [authz.ErrBusy] or [authz.ErrThrottled], which the holder of a withdrawn
// token could cause. [authz.Request.Known] tells a source that a grant depends on its
// answer; it should make sure that it has really failed before it returns an error.
//
// # What reaches the source
//
// There is at most one request per key at a time, whose callers share its answer, and at
// most [Options.Concurrency] in all. Tokens that were good before go first. Unknown
// tokens get at most half of the places, so that a flood of them keeps no known device
// out. A request belongs to the Cache, not to the caller who caused it: it ends with its
// answer, with [Options.Timeout], or with [Cache.Close].
//
// A Recheck needs a new answer: it is answered from the stores only if the source was
// asked within the last five seconds, which lets all sessions of one token share a
// request.
//
// # Revocation
//
// [Cache.Revoke] and revocations that the source itself reports to
// [Cache.Notify] take effect at once: entries are dropped, and an answer that was under
// way is discarded and asked for again. Without either, a withdrawn token is good for
// new connections until its entry expires: for TTL, and for Stale longer while the
// source is down.
//
// The Cache does not check the conditions of a grant: the caller does, with
// [authz.Grant.Check], at each use.
package cache
