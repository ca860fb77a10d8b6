// Package guard protects token sources from those who guess tokens, and their
// neighbours from the consequences. It has two [authz.Authorizer]s, which stand
// before a cache:
//
//	answers := cache.New(tokenService, cache.Options{})
//	form := guard.NewPrecheck(answers, guard.Format{Prefixes: []string{"map_"}})
//	front := guard.New(authz.Chain{tokenFile, form}, guard.Options{Offline: tokenFile})
//
// # Guard
//
// A [Guard] gives each address a budget of failures. It stands before all sources,
// so that a token which one source does not know and another one does costs nothing.
// What costs is a denial, a fault that the source has with this request alone
// ([authz.ErrUnanswerable]), and a token that no source can place ([authz.ErrUnsure]);
// a grant does not, nor does an outage. The same failure
// again is free for ten seconds: a device that repeats a wrong token guesses nothing.
//
// An address that has used its budget up gets [authz.ErrThrottled] without a source
// being asked. That is no denial and no outage: nothing remembers it as one, and no
// old answer serves in its place. Devices behind the same address are let through all
// the same if their token was granted before, whether it is still good or not, which
// is for the source to say. So are tokens of at least 20 bytes that a source grants
// which answers from memory: they are not found by trying.
//
// Addresses are counted as IPv4 /32 and IPv6 /64, the smallest network a site
// gets. A request without an address (from a Unix socket) is not counted, nor
// are refreshes and rechecks: their tokens were good before.
//
// Requests of an address that are under way at the same time are all let
// through, since a whole site of devices with good tokens may come back at once.
// What they overdraw is paid back before the next one: the rate holds in the
// long run, and the cache, which bounds what is under way, bounds the excess.
//
// # Precheck
//
// A [Precheck] refuses what cannot be a token of one source by its form alone. It
// stands before the cache, so that such a text costs neither an entry nor a place in
// a queue.
package guard
