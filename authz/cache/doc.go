// Package cache stores the answers of an [authz.Authorizer], so that a fleet that reconnects
// causes no new requests to its token service, and can connect during an outage of the service.
//
//	answers := cache.New(source, cache.Options{Vary: cache.ClientID})
//	defer answers.Close()
//	grant, err := answers.Authorize(ctx, request)
//
// # What is kept
//
// Grants and denials are in two stores, each with its own limit: a flood of unknown tokens
// evicts denials, never grants. When the store of grants is full, the token with the most
// grants loses the one that it used least recently. A device that connects with one valid token
// and many client identifiers therefore evicts only its own grants. A token that a whole fleet
// shares may still use all the space that is left.
//
// Each answer has a fixed deadline, counted from the moment the source was asked; using the
// answer does not move it. The times that the source gives ([authz.Keep], Grant.Expires) only
// shorten those of the [Options]. Errors are never stored. After an error, the source is not
// asked about the same key for a second, so that one device cannot flood a source that is down.
//
// Keys are HMAC-SHA-256 under a secret that is drawn at random for each Cache, so that the
// stores contain no token, and an attacker cannot choose keys that collide.
//
// # What happens at a deadline
//
// A hit in the last fifth of a grant's time renews it in the background. After the deadline the
// source is asked, and the device waits: old answers are not used while the source works. If
// the source fails, the old grant is used for [Options.Stale] longer, but never past its
// Expires, never after a denial or a revocation, and never because of [authz.ErrBusy] or
// [authz.ErrThrottled], which the holder of a withdrawn token could cause. If
// [authz.Request.Known] is set, an old grant would be used after an error, so the source should
// make sure that it has really failed.
//
// # What reaches the source
//
// There is at most one request per key at a time, which all callers share, and there are at
// most [Options.Concurrency] requests in all. Tokens that were valid before have priority.
// Unknown tokens get at most half of the places, so that a flood of them does not lock out
// known devices. A request does not end with the caller that caused it: it ends with its
// answer, after [Options.Timeout], or with [Cache.Close].
//
// A Recheck needs a new answer: it is answered from the stores only if the source was
// asked within the last five seconds, which lets all sessions of one token share a
// request.
//
// # Sources that report every change
//
// A source that reads a file and checks passwords reports each change, while each question
// costs it a slow hash. With [Options.Watched] an answer is as good as new until then. Its
// places are those of the processors, of which passwords that were not good before get half.
// The key of an answer always contains the user name and the password together, because
// several devices may have the same password.
//
// # Revocation
//
// [Cache.Revoke] and revocations that the source itself reports to [Cache.Notify] take effect
// at once: entries are removed, and the answer of a request in progress is discarded and asked
// for again. Without either, a withdrawn token allows new connections until its entry expires:
// for TTL, and for Stale longer while the source is down.
//
// The Cache does not check the conditions of a grant. The caller must do so at each use, with
// [authz.Grant.Check].
package cache
