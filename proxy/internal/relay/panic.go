package relay

import "runtime/debug"

// recoverPanic takes the result of recover, which only the deferred function itself can
// call. It reports a panic to p.Panicked, and reports whether there was one.
func (p *Pump) recoverPanic(value any) bool {
	if value == nil {
		return false
	}
	if p.Panicked != nil {
		p.Panicked(value, debug.Stack())
	}
	return true
}
