// Package guard protects a token source from those who guess tokens, and their
// neighbours from the consequences. It has two [authz.Authorizer]s, which stand
// on either side of a cache:
//
//	source := guard.New(tokenService, guard.Options{})
//	answers := cache.New(source, cache.Options{})
//	front := guard.NewPrecheck(answers, guard.Format{Prefixes: []string{"map_"}})
//
// # Guard
//
// A [Guard] gives each address a budget of failures. Only a denial costs
// something: not a grant, not an outage, and not the answers of the cache before
// it, which never come here. An address that has used its budget up gets
// [authz.ErrThrottled] without the source being asked. That is no denial, so
// that nothing remembers it as one, and a device behind the same NAT whose
// token is cached notices nothing: its answer comes from the cache, if need be
// past its time, as in any other outage.
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
// A [Precheck] refuses what cannot be a token by its form alone. It stands before
// the cache, so that such a text costs neither an entry nor a place in a queue.
// It charges no one: a device with a garbled token would throttle its neighbours
// and save the source nothing.
package guard
