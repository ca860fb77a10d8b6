// Package authztest is the conformance suite for [authz.Authorizer] and [authz.Notifier]. It
// checks the rules that a proxy relies on and that no type can express.
//
// An implementation calls [Run] from one of its tests with requests whose answers it knows:
//
//	func TestConformance(t *testing.T) {
//		authztest.Run(t, authztest.Suite{
//			New:     func(tb testing.TB) authztest.Fixture { ... },
//			Good:    authz.Request{Token: authz.NewToken("a-token-that-is-good")},
//			Unknown: authz.Request{Token: authz.NewToken("nobody-knows-this-one")},
//		})
//	}
//
// The suite checks that every answer is exactly one of a grant and an error; that granted,
// denied and unavailable are never confused, in particular when a context ends; that no answer
// mentions a secret; that hostile input neither causes a panic nor is granted; that grants
// never change; that concurrent callers get the same answers as a single one; and that
// revocations come one at a time, after the source has stopped granting.
//
// Run it with -race: a data race in an Authorizer is a fault like any other. If a [Fixture]
// cannot provoke a situation, its rules are logged as not checked.
package authztest
