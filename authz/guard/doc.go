// Package guard protects token sources from clients that guess tokens. It has two kinds of
// [authz.Authorizer], which are placed in front of others:
//
//	answers := cache.New(tokenService, cache.Options{})
//	form := guard.NewPrecheck(answers, guard.Format{Prefixes: []string{"map_"}})
//	front := guard.New(authz.Chain{tokenFile, form}, guard.Options{Offline: tokenFile})
//
// # Guard
//
// A [Guard] gives each address a budget of failures. It is placed in front of all sources, so
// that a token that only the second source knows is no failure. A denial counts as a failure,
// and so do a fault that concerns only this request ([authz.ErrUnanswerable]) and a token that
// no source can identify ([authz.ErrUnsure]). A grant or an outage does not. The same failure
// is not counted again for ten seconds, because a device that repeats a wrong token does not
// guess.
//
// An address that has used up its budget gets [authz.ErrThrottled], and no source is asked.
// That is neither a denial nor an outage: it is not cached, and no old answer is used instead.
// Two kinds of tokens are still accepted: those that were granted before, about which the
// source decides again, and those of at least 20 bytes that a source grants from memory,
// because they cannot be guessed. A pair of user name and password can be, so that it is
// accepted only if the very pair was granted before.
//
// Addresses are counted as IPv4 /32 and IPv6 /64, the smallest network a site gets. Requests
// without an address (from a Unix socket) are not counted. Refreshes and rechecks are not
// counted either, because their tokens were valid before.
//
// Concurrent requests from an address are all accepted while budget is left, since a whole site
// of devices with valid tokens may reconnect at once. Failures beyond the budget become a debt,
// which must be paid off before the next request is accepted. The rate therefore holds in the
// long run, and the excess is bounded by the cache, which limits concurrent requests.
//
// # Precheck
//
// A [Precheck] refuses tokens whose form shows that they cannot be valid. It is placed in front
// of the cache, so that they use neither an entry nor a place in a queue.
package guard
