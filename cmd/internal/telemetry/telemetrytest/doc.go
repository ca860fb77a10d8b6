// Package telemetrytest is the conformance suite of [telemetry.Store]: what the HTTP API and
// devices rely on, and what no type can express.
//
// A store calls [Run] from one of its tests:
//
//	func TestConformance(t *testing.T) {
//		telemetrytest.Run(t, telemetrytest.Suite{
//			New: func(t *testing.T, retention time.Duration) telemetrytest.Fixture { ... },
//		})
//	}
//
// The suite checks types, the order of messages, what a message replaces, ranges, limits,
// pages, aggregates, newest values, attributes, retention, bounds, errors and the answers of
// the HTTP API. It compares the store with a model after any sequence of appends. What
// happens when the process or the database fails is particular to each store and tested
// there.
package telemetrytest
