// Package guard protects token sources from clients that guess tokens. It has two
// [authz.Authorizer]s that are put in front of others:
//
//	answers := cache.New(tokenService, cache.Options{})
//	form := guard.NewPrecheck(answers, guard.Format{Prefixes: []string{"map_"}})
//	front := guard.New(authz.Chain{tokenFile, form}, guard.Options{Offline: tokenFile})
//
// # Guard
//
// A [Guard] gives each address a budget of failures. It is put in front of all sources,
// so that a token that only the second source knows costs nothing. A denial takes from
// the budget, and so do a fault that the source has with this request alone
// ([authz.ErrUnanswerable]) and a token that no source can place ([authz.ErrUnsure]). A
// grant does not, nor does an outage. The same failure again is free for ten seconds,
// because a device that repeats a wrong token guesses nothing.
//
// An address that has used up its budget gets [authz.ErrThrottled], and no source is
// asked. That is neither a denial nor an outage: it is not remembered, and no old answer
// is used in its place. Two kinds of tokens pass all the same: those that were granted
// before, about which the source then decides, and those of at least 20 bytes that a
// source grants from memory, because they cannot be found by guessing.
//
// Addresses are counted as IPv4 /32 and IPv6 /64, the smallest network a site
// gets. A request without an address (from a Unix socket) is not counted, nor
// are refreshes and rechecks, because their tokens were good before.
//
// Requests of an address that are under way at the same time all pass, since a whole
// site of devices with good tokens may come back at once. What they use beyond the
// budget has to be made up before the next one passes. The rate therefore holds in the
// long run, and the cache, which bounds the requests under way, bounds the excess.
//
// # Precheck
//
// A [Precheck] refuses what cannot be a token of a source by its form alone. It is put
// in front of the cache, so that such a text takes neither an entry nor a place in a
// queue.
package guard
