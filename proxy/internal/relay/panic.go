package relay

import "runtime/debug"

// survive is given what recover returns, and reports whether that was a panic.
func (p *Pump) survive(value any) bool {
	if value == nil {
		return false
	}
	if p.Panicked != nil {
		p.Panicked(value, debug.Stack())
	}
	return true
}
